"""The commands as a Typer application, for help, completion, and all that goes wrong."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.markup import escape
from typer.core import TyperGroup

from qkvcli import __version__
from qkvcli.cli.commands import COMMANDS, Command
from qkvcli.cli.faults import code_of
from qkvcli.cli.options import Operand, Option, typed
from qkvcli.core.description import PRESETS
from qkvcli.errors import ExitCode, UsageError


class Program(TyperGroup):
    """The four commands; a fault becomes one line on standard error and an exit code."""

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run a command line, and leave Python with its exit code."""

        def work() -> Any:
            try:
                return super(Program, self).main(*args, **{**settings, "standalone_mode": False})
            except typer.TyperException as fault:
                raise UsageError(_nearest(fault)) from None
            except SystemExit as end:  # Typer's own 1: the reader left while help was shown
                return ExitCode.FINE if end.code == 1 else end.code

        sys.exit(code_of(work))


def _nearest(fault: typer.TyperException) -> str:
    """Typer's message; of names that might be meant it lists all, a person wants the nearest."""
    near = getattr(fault, "possibilities", None)
    if not near:
        return fault.format_message()
    word = getattr(fault, "option_name", "")
    [best, *_] = get_close_matches(word, near, n=1) or near
    return f"No such option: {word}. Did you mean {best}?"


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


def _parameter(one: Option | Operand) -> Any:
    """An option or an operand as Typer declares it."""
    if isinstance(one, Operand):
        return typer.Argument(
            metavar=one.metavar, help=one.help, allow_dash=True, show_default=False
        )
    settings: dict[str, Any] = {"allow_dash": True} if one.read is Path else {}
    if one.read not in (None, Path):
        settings["parser"] = _reader(one.read)
    names = one.names if one.read else ("/".join(one.names),)
    return typer.Option(
        *names,
        rich_help_panel=one.panel,
        help=one.help,
        metavar=one.metavar,
        show_default=False,
        **settings,
    )


def _reader(read: Any) -> Callable[[str], Any]:
    """A reader whose faults are Typer's; each has a name of its own, as Typer asks."""

    def reader(text: str) -> Any:
        try:
            return read(text)
        except ValueError as fault:
            raise typer.BadParameter(str(fault)) from None

    return reader


def _spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer wants it: each group of options among its parameters spread out."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for parameter in inspect.signature(command).parameters.values():
        if is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation
            parameters += [
                _keyword(field.name, field.type, field.default)
                for field in fields(parameter.annotation)
            ]
        else:
            parameters.append(_keyword(parameter.name, parameter.annotation, parameter.default))

    @wraps(command)
    def spread_out(**values: Any) -> None:
        gathered = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**values, **gathered)

    spread_out.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    spread_out.__annotations__ = {one.name: one.annotation for one in parameters}
    return spread_out


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind, declared = get_args(annotation)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, _parameter(declared)],
    )


_PRESETS = {
    "article": "the article's bare dot products",
    "bert": "BERT: all tokens see all tokens",
    "gpt": "GPT: tokens see none that follow",
}


def _epilog(command: Command) -> str:
    """The presets, and the examples; Typer joins lines of help, but not of this."""
    rows = [
        f"  [bold]{name:9}[/bold]{_words(PRESETS[name]):24}{meaning}"
        for name, meaning in _PRESETS.items()
    ]
    shown = [f"  [bold]{escape(example)}[/bold]" for example in command.examples]
    return "\n".join(["Presets", *rows, "", "Examples", *shown])


def _words(options: dict[str, Any]) -> str:
    words = (
        typed(name) if value is True else f"{typed(name)} {value}"
        for name, value in options.items()
    )
    return " ".join(words) or "--scale none"


for _name, _command in COMMANDS.items():
    app.command(_name, epilog=_epilog(_command))(_spread(_command.run))
