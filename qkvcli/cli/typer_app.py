"""All command lines, read by Typer: completion, and what is wrong with a line."""

import os
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_install_completion_arguments

from qkvcli import __version__
from qkvcli.cli import completion
from qkvcli.cli.commands import COMMANDS, Command, Line, Place
from qkvcli.cli.declare import Option, typed
from qkvcli.cli.mistaken import no_command
from qkvcli.cli.options import BRIEF, FULL, VERSION
from qkvcli.cli.plain import Help
from qkvcli.errors import ReaderGone, UsageError

_HELP: dict[str, Any] = {"help_option_names": []}  # ours stand in their place


class _Asked(Exception):  # noqa: N818 -- it is no error
    """The line asks for help, whatever else stands on it."""

    def __init__(self, asked: Help) -> None:
        self.help = asked


def read(words: list[str]) -> Line | Help | None:
    """What a command line asks for; None where Typer has done it.

    Raises UsageError for a line that is wrong, ReaderGone where nobody reads what Typer shows.
    """
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        raise UsageError(no_command(words[0]))
    completion.mend(os.environ)
    try:
        line = program().main(words or ["--help"], prog_name="qkvcli", standalone_mode=False)
    except _Asked as asked:
        return asked.help
    except typer.TyperException as fault:
        raise UsageError(_said(fault)) from None
    except SystemExit as end:  # Typer's own 1: the reader left
        if end.code == 1 and "_QKVCLI_COMPLETE" not in os.environ:
            raise ReaderGone from None
        raise
    return line if isinstance(line, Line) else None


def program() -> TyperGroup:
    """The program as Typer has it, made from the tables of commands and options."""
    version = TyperOption(
        param_decls=list(VERSION.names),
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_version,
        help=VERSION.help,
    )
    return TyperGroup(
        name="qkvcli",
        commands={name: _command(command) for name, command in COMMANDS.items()},
        params=[version, *get_install_completion_arguments(), *_helps(None)],
        context_settings=_HELP,
    )


def _version(context: typer.Context, parameter: Any, asked: bool) -> None:
    if asked:
        typer.echo(f"qkvcli {__version__}")
        raise typer.Exit


def _helps(command: Command | None) -> list[TyperOption]:
    """The options that ask for help on a command, or on the program."""

    def made(option: Option) -> TyperOption:
        def ask(context: typer.Context, parameter: Any, asked: bool) -> None:
            if asked and not context.resilient_parsing:
                raise _Asked(Help(command, option is BRIEF))

        return TyperOption(
            param_decls=list(option.names),
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=ask,
            help=option.help,
        )

    return [made(option) for option in (BRIEF, FULL)]


def _command(command: Command) -> TyperCommand:
    def line(**values: Any) -> Line:
        said = {name: value for name, value in values.items() if value is not None}
        for field in [field for field, option in command.options.items() if option.reads_file]:
            if files := dict.fromkeys(said.pop(field, ())):
                said[field] = _one(field, *files)
        words = [said.pop(name) for name in _words_of(command) if name in said]
        if command.takes_more:
            *words, last = words
            words += last
        return Line.of(command, said, words)

    options = (_option(field, option) for field, option in command.options.items())
    words = map(_word, _words_of(command), command.places)
    return TyperCommand(
        command.name,
        params=[*words, *options, *_helps(command)],
        callback=line,
        help=command.help,
        context_settings=_HELP,
    )


def _one(field: str, file: Any, *others: Any) -> Any:
    """The file of an option. Raises UsageError where there are others."""
    if others:
        what = f"{typed(field)} stands there twice, with {file} and {others[0]}"
        raise UsageError(f"{what}; keep one, and quote braces, or a shell writes them out")
    return file


def _words_of(command: Command) -> list[str]:
    """What the words without an option are called here; "query" is an option already."""
    return [f"word_{i}" for i, _ in enumerate(command.places)]


def _word(name: str, place: Place) -> TyperArgument:
    return TyperArgument(
        param_decls=[name],
        type=_reader(_some),
        metavar=place.metavar,
        required=place.required,
        nargs=-1 if place.several else 1,
        autocompletion=completion.of_place(place),
    )


def _some(text: str) -> str:
    if not text:
        raise ValueError("the word is empty")
    return text


def _option(field: str, option: Option) -> TyperOption:
    if option.read is None:
        names = [field, "/".join(option.names)]
        return TyperOption(param_decls=names, is_flag=True, help=option.help)
    return TyperOption(
        param_decls=[field, *option.names],
        type=_reader(option.read),
        multiple=option.repeats or option.reads_file,
        metavar=option.metavar,
        help=option.help,
        autocompletion=completion.of_option(option),
    )


def _reader(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A reader whose faults are Typer's."""

    def value(text: str) -> Any:
        try:
            return read(text)
        except ValueError as fault:
            raise typer.BadParameter(str(fault)) from None

    return value


def _said(fault: typer.TyperException) -> str:
    """Typer's message, and what a person may do about it."""
    command = COMMANDS.get(getattr(getattr(fault, "ctx", None), "info_name", ""))
    if hasattr(fault, "possibilities"):
        return _no_option(getattr(fault, "option_name", ""), command, fault.possibilities or ())
    message = fault.format_message()
    if command is not None and message.startswith("Missing argument"):
        return f"{message.rstrip('.')}; for example {command.examples[0]}"
    if command is not None and message.startswith("Got unexpected") and "query" in command.options:
        return f"{message}; files are named by options, such as -q FILE"
    return message


def _no_option(word: str, command: Command | None, near: Iterable[str]) -> str:
    """What is said of an option that is not there: who has it, or the nearest."""
    having = [c.name for c in COMMANDS.values() if any(word in o.names for o in c.options.values())]
    if having and command is not None:
        return f"{command.name} has no option {word}; those that have it: {', '.join(having)}"
    if having:
        return f"{word} belongs after a command, as in qkvcli {having[0]} {word}"
    [best, *_] = [*get_close_matches(word, near, n=1), *near, ""]
    return f"No such option: {word}" + (f". Did you mean {best}?" if best else "")
