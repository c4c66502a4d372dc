"""All command lines, read by Typer: help, completion, and what is wrong with a line."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_install_completion_arguments

from qkvcli import __version__
from qkvcli.cli.commands import COMMANDS, Command, Line, Place
from qkvcli.cli.declare import Option, typed
from qkvcli.core.config import PRESETS
from qkvcli.errors import ReaderGone, UsageError

_HELP = {"help_option_names": ["-h", "--help"]}
_ABOUT = """See what attention does to your own queries, keys and values, step by step.

scores = Q·Kᵀ        weights = softmax(scores)        output = weights·V

Start with [bold]qkvcli run[/bold]: the five tokens of an article, and all three matrices."""
_PRESETS = {
    "article": "the article's bare dot products",
    "bert": "BERT: all tokens see all tokens",
    "gpt": "GPT: tokens see none that follow",
}


def read(words: list[str]) -> Line | None:
    """What a command line asks for; None where it asked for help, which has been shown.

    Raises UsageError for a line that is wrong, ReaderGone where nobody reads the help.
    """
    try:
        line = program().main(words or ["--help"], prog_name="qkvcli", standalone_mode=False)
    except typer.TyperException as fault:
        raise UsageError(_nearest(fault)) from None
    except SystemExit as end:  # Typer's own 1: the reader left while help was shown
        if end.code == 1:
            raise ReaderGone from None
        raise
    return line if isinstance(line, Line) else None


def program() -> TyperGroup:
    """The program as Typer has it, made from the tables of commands and options."""
    version = TyperOption(
        param_decls=["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_version,
        help="Show the version.",
    )
    return TyperGroup(
        name="qkvcli",
        commands={name: _command(command) for name, command in COMMANDS.items()},
        params=[version, *get_install_completion_arguments()],
        help=_ABOUT,
        rich_markup_mode="rich",
        context_settings=_HELP,
    )


def _version(context: typer.Context, parameter: Any, asked: bool) -> None:
    if asked:
        typer.echo(f"qkvcli {__version__}")
        raise typer.Exit


def _command(command: Command) -> TyperCommand:
    def line(**values: Any) -> Line:
        said = {name: value for name, value in values.items() if value is not None}
        words = [said.pop(name) for name in _words_of(command) if name in said]
        return Line.of(command, said, words)

    options = (_option(field, option) for field, option in command.options.items())
    return TyperCommand(
        command.name,
        params=[*map(_word, _words_of(command), command.places), *options],
        callback=line,
        help=command.help,
        epilog=_epilog(command),
        rich_markup_mode="rich",
        context_settings=_HELP,
    )


def _words_of(command: Command) -> list[str]:
    """What the words without an option are called here; "query" is an option already."""
    return [f"word_{i}" for i, _ in enumerate(command.places)]


def _word(name: str, place: Place) -> TyperArgument:
    return TyperArgument(
        param_decls=[name],
        type=_reader(_some),
        metavar=place.metavar if place.required else f"[{place.metavar}]",
        help=place.help,
        required=place.required,
        show_default=False,
    )


def _some(text: str) -> str:
    if not text:
        raise ValueError("the word is empty")
    return text


def _option(field: str, option: Option) -> TyperOption:
    shown: dict[str, Any] = {"help": option.help, "rich_help_panel": option.panel}
    if option.read is None:
        return TyperOption(param_decls=[field, "/".join(option.names)], is_flag=True, **shown)
    return TyperOption(
        param_decls=[field, *option.names],
        type=_reader(option.read),
        metavar=option.metavar,
        **shown,
    )


def _reader(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A reader whose faults are Typer's."""

    def file(text: str) -> Any:  # its name stands in the help of an operand
        try:
            return read(text)
        except ValueError as fault:
            raise typer.BadParameter(str(fault)) from None

    return file


def _nearest(fault: typer.TyperException) -> str:
    """Typer's message; of names that might be meant it lists all, a person wants the nearest."""
    near = getattr(fault, "possibilities", None)
    if not near:
        return fault.format_message()
    word = getattr(fault, "option_name", "")
    [best, *_] = get_close_matches(word, near, n=1) or near
    return f"No such option: {word}. Did you mean {best}?"


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
