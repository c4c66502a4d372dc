"""What a token is called where its number is not seen: each by a name of its own."""

from bisect import bisect_left
from collections import Counter
from functools import cached_property

from qkvcli.core.operands import Labels


class Names:
    """Tokens by their labels, by label and ordinal where several share one, else by number.

    The labels are counted at the first look, once: a million take a fraction of a second.

    >>> names = Names(("the", "cat", "sat", "on", "the", "mat"))
    >>> names[0], names[1], names[4], Names(None)[4]
    ('the#1', 'cat', 'the#2', '4')
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def __getitem__(self, i: int) -> str:
        """The name of token ``i``, which is not counted from the end."""
        if self.labels is None:
            return str(i)
        label = self.labels[i]
        places = self._repeated.get(label)
        return label if places is None else f"{label}#{bisect_left(places, i) + 1}"

    @cached_property
    def _repeated(self) -> dict[str, list[int]]:
        """Where each label stands that stands more than once."""
        labels = self.labels or ()
        found: dict[str, list[int]] = {
            label: [] for label, count in Counter(labels).items() if count > 1
        }
        for i, label in enumerate(labels):
            if label in found:
                found[label].append(i)
        return found
