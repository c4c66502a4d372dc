"""What tokens are called: by their labels, or by their numbers where they have none."""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

from qkvcli.core.operands import Labels
from qkvcli.errors import UsageError

_LISTED = 20
"""How many names an error lists, and how much of each."""
_COMPARED = 1000
"""How many are compared with one that does not exist."""


class Names(Sequence[str]):
    """The names of the queries, or of the keys, each of which means one token.

    A label that several tokens share is followed by its ordinal, and so is a label that looks
    like such a name.

    >>> list(Names(("the", "cat", "the"), 3)), list(Names(None, 2))
    (['the#1', 'cat', 'the#2'], ['0', '1'])
    >>> Names(("the", "cat", "the"), 3).find("the#2", "query")
    2
    """

    def __init__(self, labels: Labels, total: int) -> None:
        self.labels, self.total = labels, total

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, i: int) -> str:  # type: ignore[override]  # no slices
        if not -self.total <= i < self.total:
            raise IndexError(i)
        if self.labels is None:
            return str(i)
        label = self.labels[i]
        return label if self._plain(label) else f"{label}#{self._ordinals[i % self.total]}"

    @cached_property
    def _counts(self) -> Counter[str]:
        return Counter(self.labels or ())

    @cached_property
    def _ordinals(self) -> dict[int, int]:
        """For each token whose label does not do for a name, which of that label it is."""
        seen: Counter[str] = Counter()
        found = {}
        for i, label in enumerate(self.labels or ()):
            if not self._plain(label):
                seen[label] += 1
                found[i] = seen[label]
        return found

    def _plain(self, label: str) -> bool:
        """Whether a label is a name as it is."""
        before, mark, ordinal = label.rpartition("#")
        odd = mark and ordinal.isdecimal() and before in self._counts
        return self._counts[label] == 1 and not odd

    def find(self, text: str, kind: str) -> int:
        """The number of the token that a text names: a label, ``label#2``, or a number.

        Where all labels are numbers, no other number is one: rows that were chosen have
        theirs. Raises UsageError, with ``kind`` ("query", "key") in it, for a token that
        does not exist, and for a label of several.
        """
        labels = self.labels or ()
        label, mark, ordinal = text.rpartition("#")
        wanted = int(ordinal) if mark and ordinal.isdecimal() and len(ordinal) < 19 else 0
        if 0 < wanted <= self._counts[label] and (
            text not in self._counts or not self._plain(label)
        ):
            return [i for i, known in enumerate(labels) if known == label][wanted - 1]
        if self._counts[text] == 1:
            return labels.index(text)
        if text in self._counts:
            several = " or ".join(f"{text}#{n}" for n in range(1, min(self._counts[text], 4) + 1))
            raise UsageError(f"{self._counts[text]} tokens are called {text!r}; say {several}")
        numbered = bool(labels) and all(map(str.isdecimal, labels))
        if text.isdecimal() and len(text) < 19 and int(text) < self.total and not numbered:
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
        listed = ", ".join(label[:_LISTED] for label in self.labels[:_LISTED])
        return f"the labels are {listed}{more}"
