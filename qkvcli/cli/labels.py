"""The names that a person gives to the tokens."""

from dataclasses import replace

from qkvcli.core.arrays import Labelled, Labels
from qkvcli.core.operands import Operands
from qkvcli.errors import UsageError


def labelled(found: Operands, rows: Labels, keys: Labels) -> Operands:
    """The operands with the names that --labels and --key-labels give their tokens.

    --labels names the keys too where there are as many. Raises UsageError where there are
    more names than tokens, or fewer.
    """
    if rows is not None:
        for name in ("query", "scores", "weights"):
            found = _named(found, name, "rows", -2, rows, "--labels names", "queries")
    if keys is not None:
        for name in ("scores", "weights"):
            found = _named(found, name, "columns", -1, keys, "--key-labels names", "keys")
        return _named_keys(found, keys, "--key-labels names")
    if rows is not None:
        for name in ("scores", "weights"):
            one: Labelled | None = getattr(found, name)
            if one is not None and one.shape[-1:] == (len(rows),):
                found = found.with_(**{name: replace(one, columns=rows)})
        if found.key is not None and len(rows) == _tokens(found.past_key) + _tokens(found.key):
            return _named_keys(found, rows, "--labels names")
    return found


def _named_keys(found: Operands, names: tuple[str, ...], said: str) -> Operands:
    """The keys named, those of a cache first."""
    if found.key is None:
        return found
    past = _tokens(found.past_key)
    total = past + _tokens(found.key)
    if len(names) != total:
        raise UsageError(f"{said} {len(names)}, and there are {total} keys")
    if found.past_key is not None:
        found = found.with_(past_key=replace(found.past_key, rows=names[:past]))
    return found.with_(key=replace(found.key, rows=names[past:])) if found.key else found


def _named(
    found: Operands, name: str, side: str, axis: int, names: tuple[str, ...], said: str, what: str
) -> Operands:
    one: Labelled | None = getattr(found, name)
    if one is None or one.array.ndim < 2:  # the core says what is wrong with it
        return found
    if one.shape[axis] != len(names):
        raise UsageError(f"{said} {len(names)}, and there are {one.shape[axis]} {what}")
    changed = replace(one, rows=names) if side == "rows" else replace(one, columns=names)
    return found.with_(**{name: changed})


def _tokens(one: Labelled | None) -> int:
    return one.shape[-2] if one is not None and one.array.ndim > 1 else 0
