"""The Typer application, and the one place that turns an error into an exit code."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from qkvcli import __version__
from qkvcli.cli.options import spread
from qkvcli.cli.output import output
from qkvcli.cli.run import run
from qkvcli.cli.scores import scores
from qkvcli.cli.softmax import softmax
from qkvcli.cli.streams import ReaderGone, Streams
from qkvcli.errors import ExitCode, QkvError


class Program(TyperGroup):
    """The four commands; a fault becomes one line on standard error and an exit code."""

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run a command line, and leave Python with its exit code."""
        try:
            code = super().main(*args, **{**settings, "standalone_mode": False})
        except ReaderGone as gone:
            code = gone.exit_code
        except (QkvError, typer.TyperException) as fault:
            message = fault.format_message() if isinstance(fault, typer.TyperException) else fault
            Streams.of_process().report(_one_line(str(message)))
            code = fault.exit_code
        except MemoryError:
            Streams.of_process().report("not enough memory for matrices of this size")
            code = ExitCode.BAD_DATA
        except (KeyboardInterrupt, typer.Abort):
            code = ExitCode.INTERRUPTED
        except SystemExit as end:  # Typer's own 1 is for a reader that left while help was shown
            code = ExitCode.FINE if end.code == 1 else end.code
        sys.exit(code or 0)


def _one_line(message: str) -> str:
    from qkvcli.render.symbols import printable

    return printable(" ".join(message.split("\n")))


app = typer.Typer(
    cls=Program,
    name="qkvcli",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"qkvcli {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def about(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """See what attention does to your own queries, keys and values, step by step.

    scores = Q·Kᵀ        weights = softmax(scores)        output = weights·V

    Start with [bold]qkvcli run[/bold]: the article's five tokens, and all three matrices.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _add(command: Any, *examples: str) -> None:
    """A command with examples under its help; Typer joins lines, but not paragraphs."""
    shown = "\n".join(f"  [bold]{example}[/bold]" for example in examples)
    app.command(epilog=f"Examples\n\n{shown}")(spread(command))


_add(
    scores,
    "qkvcli scores",
    "qkvcli scores -q query.csv -k key.csv --scale sqrt",
    "qkvcli scores --seed 42 | qkvcli softmax | qkvcli output - --seed 42",
)
_add(
    softmax,
    "qkvcli softmax scores.csv",
    "qkvcli scores --seed 42 | qkvcli softmax",
    "qkvcli softmax -q query.npy -k key.npy --scale sqrt -f json",
)
_add(
    output,
    "qkvcli output weights.csv -v value.csv",
    "qkvcli output - -v value.csv < weights.csv",
    "qkvcli output -q query.npy -k key.npy -v value.npy --causal -o output.npy",
)
_add(
    run,
    "qkvcli run",
    "qkvcli run -q query.csv -k key.csv -v value.csv --scale sqrt --causal",
    'qkvcli run --qkv qkv.npz --labels "The cat sat on the mat" --digits 2',
    "qkvcli run --seed 42 -f json | jq -c .weights.data\\[0]",
)
