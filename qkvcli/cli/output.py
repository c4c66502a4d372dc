"""``qkvcli output``: the values, mixed by the weights."""

from pathlib import Path
from typing import Annotated

from qkvcli.cli.attention import AttentionOptions
from qkvcli.cli.display import Display
from qkvcli.cli.options import Operand
from qkvcli.cli.sources import Sources

Weights = Annotated[
    Path | None,
    Operand(
        "[WEIGHTS]",
        "A file of weights, or - for standard input; left out, it is standard input "
        "unless Q and K are given.",
    ),
]


def output(
    sources: Sources, options: AttentionOptions, display: Display, weights: Weights = None
) -> None:
    """Show the output weights·V: for each query, a mix of the values."""
    from qkvcli.cli.inputs import Wanted
    from qkvcli.cli.work import perform

    wanted = Wanted(("query", "key", "value"), "weights", weights, beside=("value",))
    perform("output", sources, options, display, wanted, ("output",))
