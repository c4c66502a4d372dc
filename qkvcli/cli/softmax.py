"""``qkvcli softmax``: from scores to weights that sum to 1."""

from pathlib import Path
from typing import Annotated

from qkvcli.cli.attention import AttentionOptions
from qkvcli.cli.display import Display
from qkvcli.cli.options import Operand
from qkvcli.cli.sources import Sources

Scores = Annotated[
    Path | None,
    Operand(
        "[SCORES]",
        "A file of scores, or - for standard input; left out, it is standard input "
        "unless Q and K are given.",
    ),
]


def softmax(
    sources: Sources, options: AttentionOptions, display: Display, scores: Scores = None
) -> None:
    """Show the weights: the softmax of each row of scores."""
    from qkvcli.cli.inputs import Wanted
    from qkvcli.cli.work import perform

    width = options.attention().scale == "sqrt"
    wanted = Wanted(("query", "key"), "scores", scores, width=width)
    perform("weights", sources, options, display, wanted, ("weights",))
