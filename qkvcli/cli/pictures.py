"""The steps as one picture to keep, which fits a page whatever their size."""

from typing import BinaryIO

from qkvcli.cli.environment import Environment
from qkvcli.cli.options import Display
from qkvcli.cli.terminal import Meter
from qkvcli.core.config import Stage
from qkvcli.core.patches import affordable, patches
from qkvcli.core.problem import Problem
from qkvcli.core.views import Selection, axes_of, outlines
from qkvcli.render.svg import fit, write_svg


def write_picture(
    problem: Problem,
    until: Stage,
    names: tuple[str, ...],
    display: Display,
    selection: Selection,
    stream: BinaryIO,
    environment: Environment,
) -> None:
    """The steps ``names`` of a selection as SVG, on a page of the theme that was asked for."""
    steps = [step for step in outlines(problem, until, selection) if step.name in names]
    rows = selection.rows
    shapes = [
        (
            *map(len, axes_of(step, problem, selection)),
            step.shape[-2] if rows is None or not step.of_queries else len(rows),
            step.shape[-1],
        )
        for step in steps
    ]
    most = affordable(problem, until, names, selection, fit(shapes))
    with Meter(environment) as advance:
        found = patches(problem, until, names, selection, most, advance=advance)
    write_svg(found, stream, display.theme or "light", display.digits)
