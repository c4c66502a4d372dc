"""``qkvcli scores``: how well each query matches each key."""

from qkvcli.cli.attention import AttentionOptions
from qkvcli.cli.display import Display
from qkvcli.cli.sources import Sources


def scores(sources: Sources, options: AttentionOptions, display: Display) -> None:
    """Show the scores Q·Kᵀ, and scaled, capped and masked where asked for."""
    from qkvcli.cli.inputs import Wanted
    from qkvcli.cli.work import perform
    from qkvcli.core.steps import SCORES

    perform("scores", sources, options, display, Wanted(("query", "key")), SCORES)
