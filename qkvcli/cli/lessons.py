"""A page to keep, of the steps that a command shows."""

from collections.abc import Sequence
from typing import BinaryIO

from qkvcli.cli.options import Display
from qkvcli.core.problem import Problem
from qkvcli.core.views import Selection


def write_lesson(
    problem: Problem,
    names: Sequence[str],
    display: Display,
    selection: Selection,
    stream: BinaryIO,
) -> None:
    """Write the page of a selection; it is whole before the first byte is written.

    Raises UsageError for what is too large for a page, ShapeError where there is nothing to
    show.
    """
    from qkvcli.render.lesson.page import lesson

    stream.write(lesson(problem, names, selection, display.theme, display.digits).encode())
