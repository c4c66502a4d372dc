"""What tokens are called: by their labels, or by their numbers where they have none."""

from collections.abc import Sequence
from functools import cached_property, lru_cache

from qkvcli.core.operands import Labels
from qkvcli.errors import UsageError

_LISTED = 20
"""How many names an error lists."""
_COMPARED = 1000
"""How many are compared with one that does not exist."""


class Names(Sequence[str]):
    """The names of the queries, or of the keys, each of which means one token.

    A label that several tokens have is followed by which of them it is.

    >>> list(Names(("the", "cat", "the"), 3)), list(Names(None, 2))
    (['the#1', 'cat', 'the#2'], ['0', '1'])
    >>> Names(("the", "cat", "the"), 3).find("the#2", "query")
    2
    """

    def __init__(self, labels: Labels, total: int) -> None:
        self.labels, self.total = labels, total

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, labels: Labels, total: int) -> "Names":
        """The names again where the same were asked for lately: a million take a while."""
        return cls(labels, total)

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, i: int) -> str:  # type: ignore[override]  # no slices
        if not -self.total <= i < self.total:
            raise IndexError(i)
        if self.labels is None:
            return str(i)
        places = self._places[self.labels[i]]
        if len(places) == 1:
            return self.labels[i]
        return f"{self.labels[i]}#{places.index(i % self.total) + 1}"

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for i, label in enumerate(self.labels or ()):
            found.setdefault(label, []).append(i)
        return found

    def find(self, text: str, kind: str) -> int:
        """The number of the token that a text names: a label, ``label#2``, or an index.

        Raises UsageError, with ``kind`` ("query", "key") in it, for a token that does not
        exist, and for a label of several.
        """
        places = self._places.get(text, [])
        if len(places) == 1:
            return places[0]
        if places:
            several = " or ".join(f"{text}#{n}" for n in range(1, min(len(places), 4) + 1))
            raise UsageError(f"{len(places)} tokens are called {text!r}; say {several}")
        label, mark, ordinal = text.rpartition("#")
        places = self._places.get(label, [])
        if mark and ordinal.isdecimal() and 0 < int(ordinal) <= len(places):
            return places[int(ordinal) - 1]
        if text.isdecimal() and int(text[:18]) < self.total:
            return int(text)
        raise UsageError(f"there is no {kind} {text[:40]!r}; {self._known(text)}")

    def _known(self, text: str) -> str:
        """Which tokens there are, in an error."""
        if self.labels is None:
            return f"they are 0 to {self.total - 1}" if self.total else "there are none"
        for label in self.labels[:_COMPARED]:
            if label.lower() == text.lower():
                return f"did you mean {label}?"
        if self.total > _LISTED:
            from difflib import get_close_matches

            near = get_close_matches(text, self.labels[:_COMPARED], n=1, cutoff=0.5)
            if near:
                return f"did you mean {near[0]}?"
        more = f" and {self.total - _LISTED} more" if self.total > _LISTED else ""
        return f"the labels are {', '.join(label[:20] for label in self.labels[:_LISTED])}{more}"
