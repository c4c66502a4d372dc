"""The options that say where the matrices come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from qkvcli.cli.options import count, file, option

_FROM = "Where Q, K and V come from"
_MADE = "What Q, K and V are made of"


def _labels(text: str) -> tuple[str, ...]:
    """Part the tokens' names at white space."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the labels are not UTF-8 text") from None
    return tuple(text.split())


File: TypeAlias = Path | None
Count: TypeAlias = int | None
Labels = Any


@dataclass(frozen=True)
class Sources:
    """Where the matrices come from, and what their tokens are called."""

    query: Annotated[
        File, file("-q", "--query", panel=_FROM, help="The queries Q, (…, L_q, d); - is a pipe.")
    ] = None
    key: Annotated[File, file("-k", "--key", panel=_FROM, help="The keys K, (…, L_k, d).")] = None
    value: Annotated[
        File, file("-v", "--value", panel=_FROM, help="The values V, (…, L_k, d_v).")
    ] = None
    qkv: Annotated[
        File, file("--qkv", panel=_FROM, help="All three: one .npz or JSON with q, k and v in it.")
    ] = None
    seed: Annotated[
        Count,
        count("--seed", _FROM, "Draw Q, K and V at random; the article's is 42.", 0, 2**32 - 1),
    ] = None
    length: Annotated[Count, count("--length", _FROM, "Queries to draw, L_q (5).")] = None
    dim: Annotated[Count, count("--dim", _FROM, "Width of Q and K, d (64).")] = None
    key_length: Annotated[
        Count, count("--key-length", _FROM, "Keys and values to draw, L_k (as --length).")
    ] = None
    value_dim: Annotated[
        Count, count("--value-dim", _FROM, "Width of the values, d_v (as --dim).")
    ] = None
    labels: Annotated[
        Labels,
        option(
            "--labels",
            panel=_FROM,
            metavar="TEXT",
            parser=_labels,
            help='Names of the tokens: "The cat sat on mat".',
        ),
    ] = None
    key_labels: Annotated[
        Labels,
        option(
            "--key-labels",
            panel=_FROM,
            metavar="TEXT",
            parser=_labels,
            help="Names of the keys, where they differ from the queries.",
        ),
    ] = None
    embeddings: Annotated[
        File,
        file("--embeddings", panel=_MADE, help="The embeddings X of Q = X·Wq + bq, (…, L, m)."),
    ] = None
    wq: Annotated[File, file("--wq", panel=_MADE, help="Projection to queries, (m, d).")] = None
    wk: Annotated[File, file("--wk", panel=_MADE, help="Projection to keys, (m, d).")] = None
    wv: Annotated[File, file("--wv", panel=_MADE, help="Projection to values, (m, d_v).")] = None
    bq: Annotated[File, file("--bq", panel=_MADE, help="Bias of the queries, (d,).")] = None
    bk: Annotated[File, file("--bk", panel=_MADE, help="Bias of the keys, (d,).")] = None
    bv: Annotated[File, file("--bv", panel=_MADE, help="Bias of the values, (d_v,).")] = None
    past_key: Annotated[
        File, file("--past-key", panel=_MADE, help="A cache of keys, to go before K.")
    ] = None
    past_value: Annotated[
        File, file("--past-value", panel=_MADE, help="A cache of values, to go before V.")
    ] = None
