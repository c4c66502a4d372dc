"""From the options of a command to the operands of the attention."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from qkvcli.cli.labels import labelled
from qkvcli.cli.options import given, typed
from qkvcli.cli.sources import Sources
from qkvcli.cli.streams import Streams
from qkvcli.core.arrays import Labelled
from qkvcli.core.operands import Operands
from qkvcli.core.seeded import ARTICLE_SEED, ARTICLE_TOKENS, seeded
from qkvcli.errors import DataError, UsageError
from qkvcli.formats.document import choose
from qkvcli.formats.source import Source

_MATRICES = ("query", "key", "value")
_DRAWN = ("length", "dim", "key_length", "value_dim")
_PARTNERS = {
    "query": ("wq", "bq"),
    "key": ("wk", "bk", "past_key"),
    "value": ("wv", "bv", "past_value"),
}


@dataclass(frozen=True)
class Wanted:
    """What a command works on.

    ``step`` is a step that may be given to it ("scores", "weights"), ``operand`` the file
    that was named for that; ``matrices`` are needed where a step is not given, ``beside``
    where it is, and ``width`` says that it matters then how wide the queries are.
    ``heads`` are those of the queries and of the keys.
    """

    matrices: tuple[str, ...]
    step: str = ""
    operand: Path | None = None
    beside: tuple[str, ...] = ()
    width: bool = False
    heads: tuple[int, int] = (1, 1)


def takes_step(sources: Sources, wanted: Wanted) -> bool:
    """Whether the step is read, from its file or a pipe, and not computed from Q and K."""
    if not wanted.step:
        return False
    gives = sources.qkv is not None or sources.seed is not None or sources.embeddings is not None
    return wanted.operand is not None or not (gives or (sources.query and sources.key))


def operands(sources: Sources, wanted: Wanted, mask: Path | None, streams: Streams) -> Operands:
    """All that the command works on, read and labelled; the article's where nothing is named.

    Raises UsageError where the options contradict, DataError where a file can't be read.
    """
    _check(sources)
    if takes_step(sources, wanted):
        found = _beside_step(sources, wanted, streams)
    elif not any(given(sources).get(name) for name in (*_MATRICES, "qkv", "embeddings")) and (
        sources.seed is None
    ):
        found = seeded(ARTICLE_SEED)
        if sources.labels is None:
            sources = replace(sources, labels=ARTICLE_TOKENS)
        found = _with_partners(found, _MATRICES, sources, streams)
    else:
        found = _found(sources, wanted.matrices, wanted, streams)
    if mask is not None:
        found = found.with_(mask=_matrix(mask, "mask", streams))
    return labelled(found, sources.labels, sources.key_labels)


def _check(sources: Sources) -> None:
    """Raise UsageError where the options that say where things come from contradict."""
    named = given(sources)
    files = [name for name in _MATRICES if name in named][:1]
    origins = [*files, *(name for name in ("qkv", "embeddings", "seed") if name in named)]
    if len(origins) > 1:
        one, other = map(typed, origins[:2])
        raise UsageError(f"{one} and {other} both say where Q, K and V come from; keep one")
    for name in _DRAWN:
        if name in named and sources.seed is None:
            raise UsageError(f"{typed(name)} is for drawing at random; add --seed {ARTICLE_SEED}")


def _beside_step(sources: Sources, wanted: Wanted, streams: Streams) -> Operands:
    """The step, and what goes with it."""
    step, word = wanted.step, wanted.step.upper()
    useful = {"query", "key"} if wanted.width else set()
    useful |= {name for role in wanted.beside for name in (role, *_PARTNERS[role])}
    bundles = {"qkv", "seed", "embeddings", "labels", "key_labels", *_DRAWN}
    for name in given(sources):
        if name not in useful | bundles | {"value"}:
            raise UsageError(f"{typed(name)} has no use beside {word}, which come after it")
    if wanted.operand is None and streams.asks_a_person:
        missing = [name for name in wanted.beside if not _gives(sources, name)]
        besides = "".join(f", and {typed(name)} FILE" for name in missing)
        raise UsageError(
            f"no {step}: pipe them in or name their file{besides}; or give --query and --key, "
            "--qkv FILE or --seed N"
        )
    also = [name for name in ("query", "key") if wanted.width and _gives(sources, name)][:1]
    found = _found(sources, (*wanted.beside, *also), wanted, streams)
    read = _matrix(wanted.operand or Path("-"), step, streams)
    return found.with_(**{step: read})


def _gives(sources: Sources, role: str) -> bool:
    named = given(sources)
    return bool({role, "qkv", "seed", "embeddings"} & set(named))


def _found(sources: Sources, needs: Iterable[str], wanted: Wanted, streams: Streams) -> Operands:
    """The matrices needed, and what they are made of, from wherever the options say."""
    needs = tuple(needs)
    if sources.seed is not None:
        drawn = {name: value for name, value in given(sources).items() if name in _DRAWN}
        of_query, of_key = wanted.heads
        if of_key != of_query:  # the keys have fewer heads, each as wide
            drawn["key_dim"] = drawn.get("dim", 64) * of_key // of_query
        whole = seeded(sources.seed, **drawn)
        found = Operands(**{name: getattr(whole, name) for name in needs})
    elif sources.qkv is not None and needs:
        from qkvcli.formats.files import read_document

        source = _source(sources.qkv, streams)
        document = read_document(source)
        if "" in document:
            raise DataError(
                f"{source.name}: holds one matrix; --qkv takes an .npz or JSON of three"
            )
        found = Operands(**{name: choose(document, name, source.name) for name in needs})
    elif sources.embeddings is not None and needs:
        _check_named(sources, [f"w{name[0]}" for name in needs])
        embeddings = _matrix(sources.embeddings, "embeddings", streams)
        found = Operands(**dict.fromkeys(needs, embeddings))
    else:
        _check_named(sources, needs)
        found = Operands(**{name: _read(sources, name, streams) for name in needs})
    return _with_partners(found, needs, sources, streams)


def _check_named(sources: Sources, needs: Iterable[str]) -> None:
    missing = [typed(name) for name in needs if name not in given(sources)]
    if missing:
        rest = "" if sources.embeddings else ", or give --qkv FILE or --seed N"
        raise UsageError(f"{' and '.join(missing)} missing: name a file for each{rest}")


def _with_partners(
    found: Operands, needs: Iterable[str], sources: Sources, streams: Streams
) -> Operands:
    """The projections and caches that the options name for the matrices needed."""
    names = (name for role in needs for name in _PARTNERS[role] if name in given(sources))
    return found.with_(**{name: _read(sources, name, streams) for name in names})


def _read(sources: Sources, name: str, streams: Streams) -> Labelled:
    return _matrix(getattr(sources, name), name, streams)


def _matrix(path: Path, role: str, streams: Streams) -> Labelled:
    from qkvcli.formats.files import read_matrix

    return read_matrix(_source(path, streams), role)


def _source(path: Path, streams: Streams) -> Source:
    return streams.take_input() if str(path) == "-" else Source.file(path)
