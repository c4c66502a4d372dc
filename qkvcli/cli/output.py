"""``qkvcli output``: the values, mixed by the weights."""

from pathlib import Path
from typing import Annotated

import typer

from qkvcli.cli.options import AttentionOptions, Display, Sources
from qkvcli.cli.streams import Streams
from qkvcli.errors import UsageError

Weights = Annotated[
    Path | None,
    typer.Argument(
        metavar="[WEIGHTS]",
        help="A file of weights, or - for standard input; left out, it is standard input "
        "unless Q and K are given.",
        allow_dash=True,
        show_default=False,
    ),
]


def output(
    sources: Sources, options: AttentionOptions, display: Display, weights: Weights = None
) -> None:
    """Show the output weights·V: for each query, a mix of the values."""
    from qkvcli.cli.delivery import planned
    from qkvcli.cli.inputs import step_or_matrices
    from qkvcli.core.engine import compute

    streams = Streams.of_process()
    deliver = planned(display, streams, piped="csv")
    operands = step_or_matrices(sources, "weights", weights, ("value",), streams)
    if operands.weights is not None and options.asked():
        raise UsageError(f"{options.asked()[0]} comes before the weights, and those are given")
    deliver(compute(options.attention(), operands)[-1:])
