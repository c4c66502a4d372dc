"""What a file holds: one matrix, or several by name, each read when it is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from qkvcli.core.operands import Operand
from qkvcli.core.steps import SCORES
from qkvcli.errors import DataError

Document: TypeAlias = Mapping[str, Callable[[], Operand]]
"""Name to reader; a format that names nothing has the one name ""."""

NAMES: dict[str, tuple[str, ...]] = {
    "query": ("query", "q"),
    "key": ("key", "k"),
    "value": ("value", "v"),
    "scores": SCORES[::-1],  # the last step before the softmax
    "weights": ("weights",),
    "output": ("output",),
    "mask": ("mask", "attn_mask"),
    "embeddings": ("embeddings", "x"),
}
"""The names that each role goes by in a file, the one to prefer first."""

_KNOWN = {name for names in NAMES.values() for name in names}


def choose(document: Document, role: str, where: str) -> Operand:
    """The matrix that plays ``role`` ("query", "scores", …); case does not matter.

    A matrix without a name, or alone under a name that means nothing to us, is taken as
    it is; one that is named as something else is not. Its name becomes one of the role's
    own. Raises DataError.
    """
    names: dict[str, str] = {}
    for name in document:
        if name.lower() in names:
            raise DataError(f"{where}: both {names[name.lower()]!r} and {name!r}; keep one")
        names[name.lower()] = name
    wanted = NAMES.get(role, (role,))
    found = next((names[name] for name in wanted if name in names), None)
    if found is None and len(names) == 1 and not _KNOWN & set(names):
        [found] = names.values()
    if found is None:
        held = ", ".join(document) or "nothing"
        raise DataError(f"{where}: holds {held}; there is no {' or '.join(wanted)} in it")
    name = found.lower()
    return replace(document[found](), name=name if name in wanted else role)
