"""Plain command lines, read without Typer, whose import takes longer than the work.

Only what is right is read here: help, completion, and anything that is not a known option
with a good value is left to Typer, which says what is wrong with it.
"""

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from qkvcli.cli.commands import COMMANDS
from qkvcli.cli.options import Operand, Option, declared


def read(words: list[str]) -> Callable[[], None] | None:
    """What a command line asks for, ready to be called; None where Typer is to read it."""
    if not words or words[0] not in COMMANDS:
        return None
    command = COMMANDS[words[0]].run
    groups, operand = _parameters(command)
    known = {
        name: (group, field, one)
        for group, kind in groups.items()
        for field, one in declared(kind).items()
        for name in one.names
    }
    values: dict[str, dict[str, Any]] = {group: {} for group in groups}
    extra: dict[str, Any] = {}
    rest = iter(words[1:])
    for word in rest:
        name, equals, text = word.partition("=") if word.startswith("--") else (word, "", "")
        if name in known:
            group, field, one = known[name]
            try:
                values[group][field] = _value(one, name, text if equals else None, rest)
            except (ValueError, StopIteration):
                return None
        elif operand and operand not in extra and word and (word == "-" or word[0] != "-"):
            extra[operand] = Path(word)
        else:
            return None
    made = {group: kind(**values[group]) for group, kind in groups.items()}
    return partial(command, **made, **extra)


def _parameters(command: Callable[..., None]) -> tuple[dict[str, Any], str | None]:
    """A command's groups of options, and the name of its operand."""
    groups: dict[str, Any] = {}
    operand = None
    for parameter in inspect.signature(command).parameters.values():
        if is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation
        elif isinstance(get_args(parameter.annotation)[-1], Operand):
            operand = parameter.name
    return groups, operand


def _value(one: Option, name: str, text: str | None, rest: Any) -> Any:
    """An option's value; its text stands after an equals sign or is the next word."""
    if one.read is None:
        if text is not None:
            raise ValueError(name)
        return one.names.index(name) == 0
    return one.read(next(rest) if text is None else text)
