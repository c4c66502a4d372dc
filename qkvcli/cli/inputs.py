"""From the options of a command to the operands of the attention."""

from dataclasses import replace
from pathlib import Path

from qkvcli.cli.options import Sources
from qkvcli.cli.streams import Streams
from qkvcli.core.arrays import Labelled, Labels
from qkvcli.core.engine import Operands
from qkvcli.core.seeded import ARTICLE_SEED, ARTICLE_TOKENS, seeded
from qkvcli.errors import DataError, UsageError
from qkvcli.formats.document import Document, choose
from qkvcli.formats.files import read_document, read_matrix
from qkvcli.formats.source import Source

_DRAWN = ("length", "dim", "key_length", "value_dim")


def matrices(sources: Sources, needs: tuple[str, ...], streams: Streams) -> Operands:
    """Q, K and V for a command that needs those named; the article's where none is given."""
    check(sources)
    if not _anything(sources):
        labels = ARTICLE_TOKENS if sources.labels is None else sources.labels
        return labelled(seeded(ARTICLE_SEED), replace(sources, labels=labels))
    return labelled(_found(sources, needs, streams), sources)


def step_or_matrices(
    sources: Sources, role: str, operand: Path | None, needs: tuple[str, ...], streams: Streams
) -> Operands:
    """A step that comes by pipe or file, or the Q and K that give it; and what else is needed.

    ``role`` is the step's name ("scores", "weights"); ``needs`` are the matrices that the
    command needs beside it. Standard input is read where nothing else could give the step.
    """
    check(sources)
    named = [name for name in ("query", "key") if getattr(sources, name) is not None]
    if operand is None and (sources.qkv or sources.seed is not None or len(named) == 2):
        return labelled(_found(sources, ("query", "key", *needs), streams), sources)
    if operand is not None and len(named) == 2:
        word = role.upper()
        raise UsageError(f"{word} and --query with --key both give the {role}; leave one out")
    if operand is None and streams.asks_a_person:
        wanted = "".join(f", and --{name} FILE" for name in needs)
        raise UsageError(
            f"no {role}: pipe them in or name their file{wanted}; or give --query and --key, "
            "--qkv FILE or --seed N"
        )
    known = _found(sources, needs, streams, also=("query", "key") if role == "scores" else ())
    step = read_matrix(_source(operand or Path("-"), streams), role)
    return labelled(replace(known, **{role: step}), sources)


def check(sources: Sources) -> None:
    """Raise UsageError where the options that say where things come from contradict."""
    files = [f"--{name}" for name in ("query", "key", "value") if getattr(sources, name)]
    given = [*files[:1], *(["--qkv"] if sources.qkv else [])]
    given += ["--seed"] if sources.seed is not None else []
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} both say where Q, K and V come from; keep one")
    for name in _DRAWN:
        if getattr(sources, name) is not None and sources.seed is None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is for drawing at random; add --seed {ARTICLE_SEED}")


def _anything(sources: Sources) -> bool:
    given = (sources.query, sources.key, sources.value, sources.qkv, sources.seed)
    return any(one is not None for one in given)


def _found(
    sources: Sources, needs: tuple[str, ...], streams: Streams, also: tuple[str, ...] = ()
) -> Operands:
    """The matrices needed, and ``also`` those that are there without being needed."""
    if sources.seed is not None:
        drawn = {name: getattr(sources, name) for name in _DRAWN}
        whole = seeded(sources.seed, **{k: v for k, v in drawn.items() if v is not None})
        return Operands(**{name: getattr(whole, name) for name in (*needs, *also)})
    if sources.qkv is not None:
        source = _source(sources.qkv, streams)
        document = _several(read_document(source), source)
        return Operands(**{name: choose(document, name, source.name) for name in (*needs, *also)})
    missing = [f"--{name}" for name in needs if getattr(sources, name) is None]
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} missing: name a file for each, or give --qkv FILE or --seed N"
        )
    wanted = [name for name in (*needs, *also) if getattr(sources, name) is not None]
    return Operands(
        **{name: read_matrix(_source(getattr(sources, name), streams), name) for name in wanted}
    )


def _several(document: Document, source: Source) -> Document:
    if "" in document:
        raise DataError(f"{source.name}: holds one matrix; --qkv takes an .npz or JSON of three")
    return document


def _source(path: Path, streams: Streams) -> Source:
    return streams.take_input() if str(path) == "-" else Source.file(path)


def labelled(operands: Operands, sources: Sources) -> Operands:
    """The operands with the names that --labels and --key-labels give their tokens.

    Raises UsageError where there are more names than tokens, or fewer.
    """
    rows, keys = sources.labels, sources.key_labels
    named = {name: _named(one, name, rows, keys) for name, one in operands.given().items()}
    return Operands(**named)


def _named(one: Labelled, role: str, rows: Labels, keys: Labels) -> Labelled:
    if one.array.ndim < 2:  # the core says what is wrong with it
        return one
    tokens, across = one.shape[-2:]
    if role == "query":
        return replace(one, rows=_fitting(rows, tokens, "--labels", "queries") or one.rows)
    if role == "key":
        return replace(one, rows=_key_labels(rows, keys, tokens) or one.rows)
    if role == "value":
        return one
    return replace(
        one,
        rows=_fitting(rows, tokens, "--labels", "queries") or one.rows,
        columns=_key_labels(rows, keys, across) or one.columns,
    )


def _key_labels(rows: Labels, keys: Labels, count: int) -> Labels:
    if keys is not None:
        return _fitting(keys, count, "--key-labels", "keys")
    return rows if rows is not None and len(rows) == count else None


def _fitting(labels: Labels, count: int, option: str, what: str) -> Labels:
    if labels is not None and len(labels) != count:
        raise UsageError(f"{option} names {len(labels)}, and there are {count} {what}")
    return labels
