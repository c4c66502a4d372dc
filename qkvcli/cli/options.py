"""The options that the commands share, in groups; a group is one frozen value.

A command takes whole groups (``def run(sources: Sources, …)``), and `spread` shows Typer
each group's fields as options, so that an option is written once for all commands.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from qkvcli.core.description import Attention

_FROM = "Where Q, K and V come from"
_ATTENTION = "The attention"
_SHOWN = "What is shown"


def _scale(text: str) -> Any:
    """Read none, sqrt or a number; Typer takes the type of an option for what reads it."""
    if text in ("none", "sqrt"):
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"{text!r} is not none, sqrt or a number such as 0.125")
    return value


def _whole(least: int, most: int) -> Callable[[str], int]:
    """Make a reader of whole numbers, whose error says which are meant."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise typer.BadParameter(f"{text!r} is not a whole number from {least} to {most}")
        return value

    return number


def _labels(text: str) -> Any:
    """Part the tokens' names at white space."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("the labels are not UTF-8 text") from None
    return tuple(text.split())


class Format(str, Enum):
    """What standard output may hold."""

    table = "table"
    csv = "csv"
    tsv = "tsv"
    txt = "txt"
    json = "json"
    npy = "npy"
    npz = "npz"
    markdown = "markdown"


def _file(short: str, long: str, what: str, panel: str = _FROM) -> Any:
    return typer.Option(
        *filter(None, (short, long)),
        metavar="FILE",
        help=what,
        rich_help_panel=panel,
        allow_dash=True,
        show_default=False,
    )


def _count(long: str, what: str, panel: str, least: int = 1, most: int = 2**62) -> Any:
    return typer.Option(
        long,
        metavar="N",
        parser=_whole(least, most),
        help=what,
        rich_help_panel=panel,
        show_default=False,
    )


@dataclass(frozen=True)
class Sources:
    """Where the matrices come from, and what their tokens are called."""

    query: Annotated[
        Path | None, _file("-q", "--query", "The queries Q, (…, L_q, d); - reads a pipe.")
    ] = None
    key: Annotated[Path | None, _file("-k", "--key", "The keys K, (…, L_k, d).")] = None
    value: Annotated[Path | None, _file("-v", "--value", "The values V, (…, L_k, d_v).")] = None
    qkv: Annotated[
        Path | None, _file("", "--qkv", "All three: one .npz or JSON with q, k and v in it.")
    ] = None
    seed: Annotated[
        int | None,
        _count("--seed", "Draw Q, K and V at random; the article's is 42.", _FROM, 0, 2**32 - 1),
    ] = None
    length: Annotated[int | None, _count("--length", "Queries to draw, L_q (5).", _FROM)] = None
    dim: Annotated[int | None, _count("--dim", "Width of Q and K, d (64).", _FROM)] = None
    key_length: Annotated[
        int | None, _count("--key-length", "Keys and values to draw, L_k (as --length).", _FROM)
    ] = None
    value_dim: Annotated[
        int | None, _count("--value-dim", "Width of the values, d_v (as --dim).", _FROM)
    ] = None
    labels: Annotated[
        Any,
        typer.Option(
            "--labels",
            metavar="TEXT",
            parser=_labels,
            help='Names of the tokens: "The cat sat on mat".',
            rich_help_panel=_FROM,
            show_default=False,
        ),
    ] = None
    key_labels: Annotated[
        Any,
        typer.Option(
            "--key-labels",
            metavar="TEXT",
            parser=_labels,
            help="Names of the keys, where they differ from the queries.",
            rich_help_panel=_FROM,
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True)
class AttentionOptions:
    """What is done between Q·Kᵀ and the softmax."""

    scale: Annotated[
        Any,
        typer.Option(
            "--scale",
            metavar="none|sqrt|NUMBER",
            parser=_scale,
            help="Multiply the scores; sqrt is 1/√d, none (as in the article) leaves them.",
            rich_help_panel=_ATTENTION,
            show_default=False,
        ),
    ] = None
    causal: Annotated[
        bool,
        typer.Option(
            "--causal",
            help="Hide later tokens: query i sees keys 0 to i.",
            rich_help_panel=_ATTENTION,
        ),
    ] = False

    def attention(self) -> Attention:
        """The description that the core takes."""
        return Attention(scale=self.scale, causal=self.causal)

    def asked(self) -> list[str]:
        """The options that were given a meaning, as a person types them."""
        return [f"--{field.name}" for field in fields(self) if getattr(self, field.name)]


@dataclass(frozen=True)
class Display:
    """What is shown, how, and where it is saved."""

    format: Annotated[
        Format | None,
        typer.Option(
            "-f",
            "--format",
            help="What standard output holds: a table on a terminal; in a pipe CSV, "
            "or for run the tables.",
            metavar="table|csv|tsv|txt|json|npy|npz|markdown",
            rich_help_panel=_SHOWN,
            show_default=False,
        ),
    ] = None
    output: Annotated[
        Path | None,
        _file("-o", "--output", "Also save, in the format of the file's ending.", _SHOWN),
    ] = None
    digits: Annotated[
        int | None,
        _count("--digits", "Decimals: 4 in tables, else all that there are.", _SHOWN, 0, 17),
    ] = None
    full: Annotated[
        bool,
        typer.Option("--full", help="Show every row and column.", rich_help_panel=_SHOWN),
    ] = False
    width: Annotated[
        int | None, _count("--width", "Columns of text for a table (the terminal's).", _SHOWN)
    ] = None
    quiet: Annotated[
        bool,
        typer.Option("--quiet", help="Nothing on standard output.", rich_help_panel=_SHOWN),
    ] = False


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
