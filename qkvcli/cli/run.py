"""``qkvcli run``: every step, from the scores to the output."""

from qkvcli.cli.options import AttentionOptions, Display, Sources
from qkvcli.cli.streams import Streams


def run(sources: Sources, options: AttentionOptions, display: Display) -> None:
    """Show every step: the scores, the weights and the output."""
    from qkvcli.cli.delivery import planned
    from qkvcli.cli.inputs import matrices
    from qkvcli.core.engine import compute

    streams = Streams.of_process()
    deliver = planned(display, streams, piped="table")
    operands = matrices(sources, ("query", "key", "value"), streams)
    deliver(compute(options.attention(), operands))
