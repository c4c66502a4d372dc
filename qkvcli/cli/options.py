"""How options are made and shared: a command takes groups of them, each one frozen value.

A command says ``def run(sources: Sources, …)``, and `spread` shows Typer each group's
fields as options, so that an option is written once for all commands.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, TypeVar

import typer

T = TypeVar("T")
ANY = 2**62


def option(*names: str, panel: str, help: str, metavar: str | None = None, **more: Any) -> Any:
    """An option in a panel of the help; ``parser`` among ``more`` reads its text."""
    return typer.Option(
        *names, rich_help_panel=panel, help=help, metavar=metavar, show_default=False, **more
    )


def file(*names: str, panel: str, help: str) -> Any:
    """An option that names a file, or ``-`` for standard input."""
    return option(*names, panel=panel, help=help, metavar="FILE", allow_dash=True)


def count(name: str, panel: str, help: str, least: int = 1, most: int = ANY) -> Any:
    """An option that is a whole number."""
    return option(name, panel=panel, help=help, metavar="N", parser=whole(least, most))


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
            raise typer.BadParameter(f"{text!r} is not {wanted}")
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
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(known)}")
        return text

    return word


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


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer wants it: each group of options among its parameters spread out."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for parameter in inspect.signature(command).parameters.values():
        if not is_dataclass(parameter.annotation):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = parameter.annotation
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=field.type,
            )
            for field in fields(parameter.annotation)
        ]

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
