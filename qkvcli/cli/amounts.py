"""How large a file will be, said before it is begun; and whether the disk has room for it."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from qkvcli.cli.environment import Environment
from qkvcli.core.steps import Outline
from qkvcli.errors import WriteError
from qkvcli.formats.registry import FORMATS, GZIP
from qkvcli.formats.saving import is_special

_LARGE = 10**9
"""From so many bytes on, a file is announced."""
_LEAST = 2
"""Bytes of text that a number has at least, with what parts it from the next: ``0,``."""
_LIKELY = {2: 10, 4: 12, 8: 20}
"""Bytes of text that it is likely to have, by the bytes of its type: all its digits."""
_NAMED = 8
"""How many steps the note names."""


def check_room(
    path: Path, name: str, steps: Sequence[Outline], advice: str, environment: Environment
) -> None:
    """Note the size of a large file, with ``advice`` on what to save instead.

    Raises WriteError where the disk cannot hold it; what is compressed may be much smaller.
    """
    known = FORMATS[name]
    kept = steps[-1:] if known.alone else steps
    least = likely = 0
    for step in kept:
        count, size = math.prod(step.shape), step.dtype.itemsize
        least += count * (size if known.binary else _LEAST)
        likely += count * (size if known.binary else _LIKELY.get(size, size))
    if likely < _LARGE or is_special(path):
        return
    free, compressed = _free(path), path.suffix.lower() == GZIP
    if free is not None and least > free and not compressed:
        more = "" if known.binary else "at least "
        what = f"needs {more}{_said(least)}, and the disk has {_said(free)}"
        raise WriteError(f"{path}: {what}; {advice}")
    shapes = ", ".join(f"{step.name} {step.shape}" for step in kept[:_NAMED])
    shapes += f" and {len(kept) - _NAMED} more" if len(kept) > _NAMED else ""
    about = "" if known.binary else "at most " if compressed else "about "
    environment.note(f"{path} will have {about}{_said(likely)}: {shapes}; {advice}")


def _free(path: Path) -> int | None:
    """How many bytes the disk has left; None where that is not known."""
    try:
        return shutil.disk_usage(path.resolve().parent).free
    except (OSError, RuntimeError):  # no such folder: writing says so
        return None


def _said(count: int) -> str:
    """A number of bytes as a person says it.

    >>> _said(40_000_000_000), _said(1_234_567)
    ('40.0 GB', '1.2 MB')
    """
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"
