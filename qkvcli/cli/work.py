"""What all four commands do: options to operands, to the core, to a delivery."""

from dataclasses import replace

from qkvcli.cli.attention import AttentionOptions
from qkvcli.cli.delivery import Asked, planned
from qkvcli.cli.display import Display
from qkvcli.cli.inputs import Wanted, operands, takes_step
from qkvcli.cli.sources import Sources
from qkvcli.cli.streams import Streams
from qkvcli.core.engine import Stage
from qkvcli.core.prepare import prepared
from qkvcli.core.steps import EVERY
from qkvcli.errors import UsageError


def perform(
    until: Stage,
    sources: Sources,
    options: AttentionOptions,
    display: Display,
    wanted: Wanted,
    show: tuple[str, ...] = (),
    piped: str = "csv",
) -> None:
    """Compute the steps up to a stage, and show those named, or all of them.

    ``piped`` is the format where no terminal is. Raises the errors of all the layers.
    """
    streams = Streams.of_process()
    deliver = planned(display, streams, piped)
    attention = options.attention()
    if attention.kv_heads is not None and attention.heads is not None:
        wanted = replace(wanted, heads=(attention.heads, attention.kv_heads))
    if takes_step(sources, wanted):
        attention.check_beside(wanted.step, wanted.width)
        if wanted.step == "weights" and options.mask is not None:
            raise UsageError("a mask comes before the weights, and those are given")
    found = operands(sources, wanted, options.mask, streams)
    deliver(Asked(prepared(attention, found), until, show or EVERY))
