"""Plain command lines, read without Typer, whose import takes longer than the work.

Only what is right is read here: help, completion, and anything that is not a known option
with a good value is left to Typer, which says what is wrong with it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qkvcli.cli.commands import Line
    from qkvcli.cli.declare import Option


class Version:
    """The command line that asks which version this is."""


def read(words: list[str]) -> "Line | Version | None":
    """What a command line asks for; None where Typer is to read it."""
    if words == ["--version"]:
        return Version()
    from qkvcli.cli.commands import COMMANDS, Line

    if not words or words[0] not in COMMANDS:
        return None
    command = COMMANDS[words[0]]
    options, places = command.options, command.places
    fields = {name: field for field, option in options.items() for name in option.names}
    values: dict[str, Any] = {}
    said: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        name, equals, text = word.partition("=") if word.startswith("--") else (word, "", "")
        if name in fields:
            field = fields[name]
            try:
                values[field] = _value(options[field], name, text if equals else None, rest)
            except (ValueError, StopIteration):
                return None
        elif len(said) < len(places) and word and (word == "-" or word[0] != "-"):
            said.append(word)
        else:
            return None
    if any(place.required for place in places[len(said) :]):
        return None
    return Line.of(command, values, said)


def _value(option: "Option", name: str, text: str | None, rest: Iterator[str]) -> Any:
    """An option's value; its text stands after an equals sign or is the next word."""
    if option.read is None:
        if text is not None:
            raise ValueError(name)
        return option.names.index(name) == 0
    return option.read(next(rest) if text is None else text)
