"""Which query rows are shown: by index, slice or label."""

import re
from collections.abc import Sequence

import numpy as np

from qkvcli.core.arrays import Array, Labels
from qkvcli.errors import UsageError

_SLICE = re.compile(r"(-?\d*):(-?\d*)(?::(-?\d+))?")


def numbered(indexes: Sequence[int | None]) -> Array:
    """Row numbers as an array; None, which stands for rows left out, is left out."""
    return np.array([i for i in indexes if i is not None], dtype=np.intp)


def picked(text: str, count: int, labels: Labels) -> Array:
    """The rows that ``--rows`` names, of ``count``, in their own order.

    >>> picked("0:2,-1,sat", 5, ("The", "cat", "sat", "on", "mat")).tolist()
    [0, 1, 2, 4]

    Raises UsageError for one that there is not.
    """
    found: set[int] = set()
    for part in (part.strip() for part in text.split(",")):
        if labels is not None and part in labels:
            found |= {i for i, label in enumerate(labels) if label == part}
        elif match := _SLICE.fullmatch(part):
            start, stop, step = (int(one) if one else None for one in match.groups())
            if step == 0:
                raise UsageError(f"--rows {part}: a step of 0 leads nowhere")
            found |= set(range(count)[start:stop:step])
        elif re.fullmatch(r"-?\d+", part):
            if not -count <= int(part) < count:
                raise UsageError(f"--rows: there is no row {part}; there are {count}")
            found.add(int(part) % count)
        else:
            known = "" if labels is None else f"; the labels are {' '.join(labels[:20])}"
            raise UsageError(f"--rows: {part!r} is not an index, a slice or a label{known}")
    return numbered(sorted(found))
