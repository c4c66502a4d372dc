"""``qkvcli softmax``: from scores to weights that sum to 1."""

from pathlib import Path
from typing import Annotated

import typer

from qkvcli.cli.options import AttentionOptions, Display, Sources
from qkvcli.cli.streams import Streams

Scores = Annotated[
    Path | None,
    typer.Argument(
        metavar="[SCORES]",
        help="A file of scores, or - for standard input; left out, it is standard input "
        "unless Q and K are given.",
        allow_dash=True,
        show_default=False,
    ),
]


def softmax(
    sources: Sources, options: AttentionOptions, display: Display, scores: Scores = None
) -> None:
    """Show the weights: the softmax of each row of scores."""
    from qkvcli.cli.delivery import planned
    from qkvcli.cli.inputs import step_or_matrices
    from qkvcli.core.engine import compute

    streams = Streams.of_process()
    deliver = planned(display, streams, piped="csv")
    operands = step_or_matrices(sources, "scores", scores, (), streams)
    deliver(compute(options.attention(), operands, until="weights")[-1:])
