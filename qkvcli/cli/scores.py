"""``qkvcli scores``: how well each query matches each key."""

from qkvcli.cli.options import AttentionOptions, Display, Sources
from qkvcli.cli.streams import Streams


def scores(sources: Sources, options: AttentionOptions, display: Display) -> None:
    """Show the scores Q·Kᵀ, and scaled and masked where asked for."""
    from qkvcli.cli.delivery import planned
    from qkvcli.cli.inputs import matrices
    from qkvcli.core.engine import compute

    streams = Streams.of_process()
    deliver = planned(display, streams, piped="csv")
    operands = matrices(sources, ("query", "key"), streams)
    deliver(compute(options.attention(), operands, until="scores"))
