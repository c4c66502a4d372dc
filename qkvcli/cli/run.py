"""``qkvcli run``: every step, from the scores to the output."""

from qkvcli.cli.attention import AttentionOptions
from qkvcli.cli.display import Display
from qkvcli.cli.sources import Sources


def run(sources: Sources, options: AttentionOptions, display: Display) -> None:
    """Show every step: the scores, the weights and the output."""
    from qkvcli.cli.inputs import Wanted
    from qkvcli.cli.work import perform

    wanted = Wanted(("query", "key", "value"))
    perform("output", sources, options, display, wanted, piped="table")
