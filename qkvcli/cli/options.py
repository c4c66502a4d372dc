"""How options are declared and shared: a command takes groups of them, each one frozen value.

A command says ``def run(sources: Sources, …)``, and a field of a group, annotated with an
`Option`, is an option of every command that takes the group. Nothing of Typer is needed to
declare one: `app` turns them into Typer's, and `quick` reads plain command lines without it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
ANY = 2**62


@dataclass(frozen=True)
class Option:
    """An option as a person types and reads it.

    ``read`` makes a value of its text, or raises ValueError; None for a flag, whose second
    name, if any, unsets it.
    """

    names: tuple[str, ...]
    panel: str
    help: str
    metavar: str | None = None
    read: Callable[[str], Any] | None = None


@dataclass(frozen=True)
class Operand:
    """A file that stands on the command line without an option before it."""

    metavar: str
    help: str


def option(
    *names: str, panel: str, help: str, metavar: str, parser: Callable[[str], Any]
) -> Option:
    """An option with a value that ``parser`` reads."""
    return Option(names, panel, help, metavar, parser)


def flag(*names: str, panel: str, help: str) -> Option:
    """An option without a value."""
    return Option(names, panel, help)


def file(*names: str, panel: str, help: str) -> Option:
    """An option that names a file, or ``-`` for standard input."""
    return Option(names, panel, help, "FILE", Path)


def count(name: str, panel: str, help: str, least: int = 1, most: int = ANY) -> Option:
    """An option that is a whole number."""
    return Option((name,), panel, help, "N", whole(least, most))


def whole(least: int, most: int = ANY) -> Callable[[str], int]:
    """Make a reader of whole numbers, whose error says which are meant."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most or "_" in text:
            upto = f"from {least} to {most}" if most < ANY else f"from {least} on"
            wanted = "a whole number" + (f" {upto}" if least > -ANY else "")
            raise ValueError(f"{text!r} is not {wanted}")
        return value

    return number


def listed(read: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """Make a reader of several, parted by commas."""

    def parts(text: str) -> tuple[T, ...]:
        return tuple(read(part.strip()) for part in text.split(","))

    return parts


def chosen(words: Iterable[str]) -> Callable[[str], str]:
    """Make a reader of one of some words."""
    known = tuple(words)

    def word(text: str) -> str:
        if text not in known:
            raise ValueError(f"{text!r} is not one of {', '.join(known)}")
        return text

    return word


def declared(group: Any) -> dict[str, Option]:
    """The options of a group, by their field."""
    return {field.name: field.type.__metadata__[0] for field in fields(group)}  # type: ignore[union-attr]


def given(group: Any) -> dict[str, Any]:
    """The options of a group that were typed, by their field."""
    return {
        field.name: getattr(group, field.name)
        for field in fields(group)
        if getattr(group, field.name) != field.default
    }


def typed(field: str) -> str:
    """A field as a person types it.

    >>> typed("past_key")
    '--past-key'
    """
    return f"--{field.replace('_', '-')}"
