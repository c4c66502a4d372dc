"""Plain command lines, read without Typer, whose import takes longer than the work.

Only what is right is read here: completion, and anything that is not a known option with a
good value, is left to Typer, which says what is wrong with it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from qkvcli.cli.commands import Command, Line
    from qkvcli.cli.declare import Option


class Version:
    """The command line that asks which version this is."""


class Help(NamedTuple):
    """The command line that asks for help on a command (None: on the program)."""

    command: "Command | None"
    brief: bool


_BRIEF = {"-h": True, "--help": False}


def read(words: list[str]) -> "Line | Help | Version | None":
    """What a command line asks for; None where Typer is to read it."""
    if words == ["--version"]:
        return Version()
    if len(words) == 1 and words[0] in _BRIEF:
        return Help(None, _BRIEF[words[0]])
    from qkvcli.cli.commands import COMMANDS

    if not words or words[0] not in COMMANDS:
        return None
    try:
        return _line(COMMANDS[words[0]], words[1:])
    except (ValueError, StopIteration):
        return None


def _line(command: "Command", words: list[str]) -> "Line | Help":
    """What the words after a command ask for. Raises ValueError or StopIteration otherwise."""
    from qkvcli.cli.commands import Line

    options, places = command.options, command.places
    fields = {name: field for field, option in options.items() for name in option.names}
    values: dict[str, Any] = {}
    said: list[str] = []
    helps: list[Help] = []
    rest = iter(words)
    for word in rest:
        name, equals, text = word.partition("=") if word.startswith("--") else (word, "", "")
        if name in fields:
            field = fields[name]
            value = _value(options[field], name, text if equals else None, rest)
            if options[field].reads_file and values.get(field, value) != value:
                raise ValueError(name)
            values[field] = (*values.get(field, ()), value) if options[field].repeats else value
        elif word in _BRIEF:
            helps.append(Help(command, _BRIEF[word]))
        elif (len(said) < len(places) or command.takes_more) and _is_place(word):
            said.append(word)
        else:
            raise ValueError(word)
    if helps:
        return helps[0]
    if any(place.required for place in places[len(said) :]):
        raise ValueError(command.name)
    return Line.of(command, values, said)


def _is_place(word: str) -> bool:
    """Whether a word stands for itself, and is no option; an empty one is for Typer to refuse."""
    return word[:1] not in ("", "-") or word == "-" or word.startswith(("-:", "-[", "-.T"))


def _value(option: "Option", name: str, text: str | None, rest: Iterator[str]) -> Any:
    """An option's value; its text stands after an equals sign or is the next word."""
    if option.read is None:
        if text is not None:
            raise ValueError(name)
        return option.names.index(name) == 0
    return option.read(next(rest) if text is None else text)
