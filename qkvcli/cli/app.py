"""The Typer application, and the one place that turns an error into an exit code."""

import sys
from difflib import get_close_matches
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from qkvcli import __version__
from qkvcli.cli.options import spread, typed
from qkvcli.cli.output import output
from qkvcli.cli.run import run
from qkvcli.cli.scores import scores
from qkvcli.cli.softmax import softmax
from qkvcli.cli.streams import Streams
from qkvcli.core.description import PRESETS
from qkvcli.errors import ExitCode, QkvError, ReaderGone


class Program(TyperGroup):
    """The four commands; a fault becomes one line on standard error and an exit code."""

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run a command line, and leave Python with its exit code."""
        streams = Streams.of_process()
        try:
            code = super().main(*args, **{**settings, "standalone_mode": False})
        except ReaderGone as gone:
            code = gone.exit_code
        except (QkvError, typer.TyperException) as fault:
            streams.report(_one_line(fault))
            code = fault.exit_code
        except MemoryError:
            streams.report("not enough memory for matrices of this size")
            code = ExitCode.BAD_DATA
        except OSError as fault:  # Typer's own output: help, the version
            streams.report(f"standard output: cannot be written: {fault.strerror}")
            code = ExitCode.CANNOT_WRITE
        except (KeyboardInterrupt, typer.Abort):
            code = ExitCode.INTERRUPTED
        except SystemExit as end:  # Typer's own 1 is for a reader that left while help was shown
            code = ExitCode.FINE if end.code == 1 else end.code
        streams.settle()
        sys.exit(code or 0)


def _one_line(fault: QkvError | typer.TyperException) -> str:
    from qkvcli.render.symbols import printable

    message = fault.format_message() if isinstance(fault, typer.TyperException) else str(fault)
    near = getattr(fault, "possibilities", None)
    if near:  # Typer lists them by the alphabet; a person wants the nearest
        typed = getattr(fault, "option_name", "")
        [best, *_] = get_close_matches(typed, near, n=1) or near
        message = f"No such option: {typed}. Did you mean {best}?"
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


_PRESETS = {
    "article": "the article's bare dot products",
    "bert": "BERT: all tokens see all tokens",
    "gpt": "GPT: tokens see none that follow",
}


def _add(command: Any, *examples: str) -> None:
    """A command with examples under its help; Typer joins lines, but not paragraphs."""
    rows = [
        f"  [bold]{name:9}[/bold]{' '.join(_words(PRESETS[name])):24}{meaning}"
        for name, meaning in _PRESETS.items()
    ]
    shown = [f"  [bold]{example}[/bold]" for example in examples]
    epilog = "\n".join(["Presets", *rows, "", "Examples", *shown])
    app.command(epilog=epilog)(spread(command))


def _words(options: dict[str, Any]) -> list[str]:
    words = [
        typed(name) if value is True else f"{typed(name)} {value}"
        for name, value in options.items()
    ]
    return words or ["--scale none"]


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
    "qkvcli softmax -q query.npy -k key.npy --heads 12 --preset bert --head 6",
)
_add(
    output,
    "qkvcli output weights.csv -v value.csv",
    "qkvcli output - -v value.csv < weights.csv",
    "qkvcli output -q query.npy -k key.npy -v value.npy --preset gpt -o output.npy",
)
_add(
    run,
    "qkvcli run",
    "qkvcli run -q query.csv -k key.csv -v value.csv --preset gpt --window 4",
    "qkvcli run --embeddings x.csv --wq wq.csv --wk wk.csv --wv wv.csv",
    'qkvcli run --qkv qkv.npz --labels "The cat sat on the mat" --digits 2',
    "qkvcli run --seed 42 -f json | jq -c .weights.data\\[0]",
)
