"""What a file holds: arrays by name, which of them is meant, and how it is read."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import translate
from functools import lru_cache
from typing import TypeAlias

from qkvcli.core.config import SCORES
from qkvcli.core.operands import Operand, Shape
from qkvcli.core.rows import rows_of
from qkvcli.errors import DataError
from qkvcli.formats.address import HALF, NO_SLICE, WHOLE, Part, readings
from qkvcli.formats.stored import Stored


@dataclass(frozen=True)
class Member:
    """One array of a file.

    ``held`` gives it as the file has it, mapped where that is possible, with its labels;
    ``shape`` and ``stored`` are what is known of it before it is read (None: nothing). Where it
    is read whole, ``check`` raises DataError if it is spoilt.
    """

    held: Callable[[], Operand]
    shape: Shape | None = None
    stored: Stored | None = None
    check: Callable[[], None] = lambda: None

    @classmethod
    def unreadable(cls, fault: DataError) -> "Member":
        """An array that is there and cannot be read: each reading of it raises the fault.

        >>> Member.unreadable(DataError("m.pt: w is sparse")).read()
        Traceback (most recent call last):
        qkvcli.errors.DataError: m.pt: w is sparse
        """

        def held() -> Operand:
            raise fault

        return cls(held)

    def part(self, part: Part) -> Operand:
        """The part of it, as the file has it. Raises DataError."""
        held = self.held()
        found = part.of(held)
        if found.array.size == held.array.size:
            self.check()
        return found

    def read(self, part: Part = WHOLE, role: str = "") -> Operand:
        """The part of it, as numbers that NumPy has. Raises DataError.

        Much that is read for a ``role`` of which a block is looked at at a time is `rows.Rows`.
        """
        found = self.part(part)
        if self.stored is None or self.stored.decode is None:
            return found
        if role in _IN_BLOCKS and found.array.ndim > 1 and found.array.size > _MANY:
            return replace(found, array=rows_of(found.array, self.stored.decode))
        return replace(found, array=self.stored.decode(found.array))


Document: TypeAlias = Mapping[str, Member]
"""What a source holds: the members by name; one without a name has ""."""

NAMES: dict[str, tuple[str, ...]] = {
    "query": ("query", "q", "query_states", "queries", "xq"),
    "key": ("key", "k", "key_states", "keys", "xk"),
    "value": ("value", "v", "value_states", "values", "xv"),
    "scores": SCORES[::-1],  # the last step before the softmax
    "weights": ("weights",),
    "output": ("output",),
    "mask": ("mask", "attn_mask", "attn_bias", "position_bias", "bias"),
    "gate": ("gate", "wg"),
    "embeddings": ("embeddings", "x", "hidden_states"),
    "qkv": ("qkv", "qkv_states"),  # Q, K and V in one array
}
"""The names that each role goes by in a file, the one to prefer first."""

_PROJECTION = {"query": "q", "key": "k", "value": "v"}
OF_MODELS: dict[str, tuple[str, ...]] = {
    **{
        role: (f"{role}_layer", f"{sign}_proj", f"{sign}_lin", f"to_{sign}")
        for role, sign in _PROJECTION.items()
    },
    **{
        f"{kind}{sign}": tuple(
            f"{module}.{part}"
            for module in (f"{sign}_proj", role, f"w{sign}", f"{sign}_lin", f"to_{sign}")
        )
        for role, sign in _PROJECTION.items()
        for kind, part in (("w", "weight"), ("b", "bias"))
    },
    "wo": tuple(f"{module}.weight" for module in ("o_proj", "out_proj", "wo", "out_lin")),
    "bo": tuple(f"{module}.bias" for module in ("o_proj", "out_proj", "wo", "out_lin")),
    "q_norm": ("q_norm.weight", "q_layernorm.weight"),
    "k_norm": ("k_norm.weight", "k_layernorm.weight"),
    "q_norm_bias": ("q_norm.bias", "q_layernorm.bias"),
    "k_norm_bias": ("k_norm.bias", "k_layernorm.bias"),
}
"""The names in models' own files, where the layer's name and a point may stand before them."""

_IN_BLOCKS = ("query", "key", "value", "past_key", "past_value")
"""The roles whose numbers are looked at a block at a time, and need not be made whole."""
_MANY = 2**20
"""To so many numbers they are all the same."""
_NAMED = 8
"""How many names an error lists."""
_LONGEST = 80
"""How much of a name it shows."""
_KNOWN = {name for names in NAMES.values() for name in names}
_SIGNS = re.compile(r"[*?]")


def names_of(role: str) -> tuple[str, ...]:
    """What a role goes by in a file: "query", "wq", …."""
    return NAMES.get(role, (role,))


def fitting(document: Iterable[str], role: str) -> list[str]:
    """The members that are named for a role, the one to prefer first; case does not matter.

    Names of models' own files count where none of ours is there.

    >>> fitting({"h.0.attn.q_proj.weight": 0, "h.0.attn.k_proj.weight": 0}, "wq")
    ['h.0.attn.q_proj.weight']
    """
    small = {name.lower(): name for name in document}
    found = [small[name] for name in names_of(role) if name in small]
    ends = OF_MODELS.get(role, ())
    return found or [
        name for end in ends for low, name in small.items() if f".{low}".endswith(f".{end}")
    ]


def choose(
    document: Document, role: str, where: str, several: bool = False, part: Part = WHOLE
) -> Operand:
    """The matrix that plays ``role`` ("query", "scores", …); case does not matter.

    A matrix without a name, or alone under a name that means nothing to us, is taken as
    it is, unless the document is to hold ``several``; one that is named as something else
    is not. It is called by its role then, or, where the role is "scores", by which of those
    steps it is. Raises DataError, also where two names are as good as each other.
    """
    names = told_apart(document, where)
    found = fitting(document, role)
    if len(found) > 1 and role != "scores":
        held = f"{' and '.join(found[:_NAMED])}, and each may be {role}"
        how = f"{where}:{{query,key,value}}" if several else f"{where}:{found[0]}{part}"
        raise DataError(f"{where}: holds {held}; name one, as {how}")
    if not found and len(names) == 1 and not several and not _KNOWN & set(names):
        found = list(names.values())
    if not found:
        wanted = " or ".join(names_of(role)[:2])
        held = held_in(document, names_of(role))
        how = f"; name one as {where}:NAME" if several or len(document) > 1 else ""
        raise DataError(f"{where}: there is no {wanted} in it; it holds {held}{how}")
    name = found[0]
    step = name.lower() if role == "scores" and name.lower() in SCORES else role
    operand = document[name].read(part, role)
    ours = not name or name.lower() in names_of(role)
    return replace(operand, name=step, origin=operand.origin if ours else f"{where}:{name}{part}")


def fits(document: Document, text: str) -> tuple[list[str], Part]:
    """The members that a person's text after the colon may mean, and the part of each.

    A name as it stands comes first, slice and all; then one in other case; then a pattern
    with ``*`` and ``?``.
    """
    said = list(readings(text))
    for name, part in said:
        if name in document:
            return [name], part
    for name, part in said:
        if found := matching(document, name):
            return found, part
    return [], WHOLE


def named(document: Document, text: str, where: str) -> tuple[str, Part]:
    """The one member that a person's text after the colon means, and the part of it.

    Raises DataError.
    """
    found, part = fits(document, text)
    *_, (name, _) = readings(text)
    if len(found) > 1:
        held = held_in({name: document[name] for name in found})
        raise DataError(f"{where}: {name} fits {len(found)} names, and must fit one: {held}")
    stem = max((name for name in document if name and text.startswith(name)), key=len, default="")
    if not found and text[len(stem) : len(stem) + 1] in ("[", ".") and stem:
        rest = text[len(stem) :]
        half = f"; {HALF}" if "]" not in rest and "[" in rest else ""
        raise DataError(f"{where}:{stem} is there, and {rest} {NO_SLICE}{half}")
    if not found:
        what = "nothing fits" if _SIGNS.search(name) else "there is no"
        held = held_in(document, (_SIGNS.sub("", name),))
        raise DataError(f"{where}: {what} {name!r} in it; it holds {held}")
    return found[0], part


def matching(document: Iterable[str], pattern: str) -> list[str]:
    """The names that a pattern fits; case counts only where it tells names apart.

    >>> matching(["h.0.q", "h.1.q", "h.10.q"], "h.1?.q"), matching(["Q", "q"], "q")
    (['h.10.q'], ['q'])
    """
    text = translate(pattern.replace("[", "[[]"))  # which does not go back and forth for long
    for flags in (0, re.IGNORECASE):
        found = [name for name in document if re.match(text, name, flags)]
        if found:
            return found
    return []


def told_apart(document: Iterable[str], where: str) -> dict[str, str]:
    """The names of a document in small letters, each with the name as it is.

    Raises DataError for two that differ in case alone.
    """
    names: dict[str, str] = {}
    for name in document:
        if name.lower() in names:
            both = f"both {names[name.lower()]!r} and {name!r}"
            raise DataError(f"{where}: {both}; name one, as {where}:{name}")
        names[name.lower()] = name
    return names


def held_in(document: Document, near: Iterable[str] = ()) -> str:
    """What an error says of a document: names with their shapes, those nearest to some first.

    >>> held_in({name: Member(lambda: None, (2, 3)) for name in ("wo", "key_states")}, ["keys"])
    'key_states (2, 3), wo (2, 3)'
    """
    words = tuple(word.lower() for word in near)
    ordered = list(document)
    if words:
        ordered.sort(key=lambda name: -max(_likeness(name.lower(), word) for word in words))
    shown = []
    for name in ordered[:_NAMED]:
        shape = document[name].shape
        short = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
        short = short or "an array without a name"
        shown.append(f"{short} {shape}" if shape is not None else short)
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return ", ".join(shown) + more or "nothing"


def _likeness(name: str, word: str) -> float:
    """How alike a name and a word are, 1 for the same: as a whole, or part by part."""
    parts = [part for part in word.split(".") if part]
    among = [max(_ratio(part, own) for own in name.split(".")) for part in parts]
    return max(_ratio(name, word), sum(among) / len(among) if among else 0)


@lru_cache(maxsize=2**16)  # the same few parts stand in thousands of names
def _ratio(one: str, other: str) -> float:
    from difflib import SequenceMatcher  # imported here: most files have what is asked for

    return SequenceMatcher(None, one, other).ratio()


def listed(names: list[str]) -> str:
    """Names in an error: not all of thousands, and of a long one its beginning."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(name[:_LONGEST] for name in names[:_NAMED]) + more or "nothing"
