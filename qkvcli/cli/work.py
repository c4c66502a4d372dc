"""What all four commands do: options to operands, to the core, to a delivery."""

from qkvcli.cli.attention import AttentionOptions
from qkvcli.cli.delivery import Asked, planned
from qkvcli.cli.display import Display
from qkvcli.cli.inputs import Wanted, operands, takes_step
from qkvcli.cli.options import given, typed
from qkvcli.cli.sources import Sources
from qkvcli.cli.streams import Streams
from qkvcli.core.engine import Stage
from qkvcli.core.prepare import prepared
from qkvcli.core.steps import EVERY
from qkvcli.errors import UsageError

_AFTER = {"scores": set(AttentionOptions.__dataclass_fields__) - {"heads", "kv_heads"}}
_AFTER["weights"] = {"heads", "kv_heads", "dtype"}


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
    if takes_step(sources, wanted):
        _check_of_use(options, wanted.step)
    found = operands(sources, wanted, options.mask, streams)
    deliver(Asked(prepared(attention, found), until, show or EVERY))


def _check_of_use(options: AttentionOptions, step: str) -> None:
    """Raise UsageError for an option that comes before a step that is given."""
    for name in given(options):
        if name not in _AFTER[step]:
            raise UsageError(f"{typed(name)} comes before the {step}, and those are given")
