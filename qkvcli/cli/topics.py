"""The command ``help``, and the help of the options ``-h`` and ``--help``."""

from collections.abc import Iterable

from qkvcli.cli.commands import COMMANDS, OPTIONS, Line, topics
from qkvcli.cli.declare import meant, typed
from qkvcli.cli.environment import Environment
from qkvcli.cli.helping import command_help, program_help, topic_entries
from qkvcli.cli.pages import Page, pages
from qkvcli.cli.plain import Help
from qkvcli.cli.terminal import Printer
from qkvcli.core.config import PRESETS
from qkvcli.errors import UsageError
from qkvcli.render.help import Part, help_lines
from qkvcli.render.screen import Block

_WIDEST = 90
"""Columns of text beyond which prose is hard to read."""


_SPOKEN_OF = {
    **dict.fromkeys(("preset", "presets", *PRESETS), "models"),
    **dict.fromkeys(("query", "key", "value", "weights", "scale", "softcap"), "attention"),
    **dict.fromkeys(("entropy", "article"), "attention"),
    **dict.fromkeys(("heat", "heatmap", "colour", "colours", "color", "top"), "pictures"),
    **dict.fromkeys(("mask", "causal", "window", "offset", "padding"), "masks"),
    **dict.fromkeys(("head", "heads", "cache", "onnx", "pytorch", "bert", "gpt"), "models"),
    **dict.fromkeys(("layers", "rope", "rotation", "position", "positions", "rotary"), "layer"),
    **dict.fromkeys(("cos", "sin", "yarn"), "layer"),
    **dict.fromkeys(("gqa", "mqa", "cross", "linear", "transpose", "fused"), "models"),
    **dict.fromkeys(("sliding", "attention-mask"), "masks"),
    **dict.fromkeys(("norm", "norms", "alibi", "sink", "sinks", "gate", "clip"), "layer"),
    **dict.fromkeys(("projection", "projections", "projected", "wo"), "layer"),
    **dict.fromkeys(("csv", "json", "npy", "npz", "labels", "gzip", "header"), "formats"),
    **dict.fromkeys(("file", "checkpoint", "safetensors", "torch", "pt", "slice"), "files"),
    **dict.fromkeys(
        ("member", "members", "layout", "layouts", "convert", "flashattention"), "files"
    ),
    **dict.fromkeys(("bfloat16", "float8", "float16", "dtype", "precision"), "models"),
    **dict.fromkeys(("stdin", "shell", "pipe", "jq"), "pipes"),
    **dict.fromkeys(("example", "examples", "option"), "options"),
}
"""Words that a person may look for, and the page that speaks of each."""


def show(asked: Help, environment: Environment) -> None:
    """Show the help of the options. Raises ReaderGone or WriteError."""
    command = asked.command
    parts = program_help(asked.brief) if command is None else command_help(command, asked.brief)
    _write_parts(parts, None, environment)


def perform(line: Line, environment: Environment) -> None:
    """Show the topics, or the page of one. Raises UsageError for one that does not exist."""
    topic = "-".join("-".join(line.words).lower().split())
    width = line.display.width
    if not topic:
        usage = "Read one with qkvcli help TOPIC; qkvcli help COMMAND has a command's options."
        listed = Part("Topics", entries=topic_entries())
        commands = Part("Commands", sentences=(", ".join(COMMANDS),))
        _write_parts([listed, commands, Part(sentences=(usage,))], width, environment)
    elif topic in COMMANDS:
        _write_parts(command_help(COMMANDS[topic], brief=False), width, environment)
    else:
        _write_page(_page(topic), width, environment)


def _page(topic: str) -> Page:
    found = {page.name: page for page in pages()}
    if topic in found or topic in _SPOKEN_OF:
        return found[_SPOKEN_OF.get(topic, topic)]
    known = topics()
    if meant(topic, known):
        rest = meant(topic, known)
    elif any(typed(topic) in option.names for option in OPTIONS.values()):
        rest = f"; the option {typed(topic)} is explained by qkvcli help options"
    else:
        rest = f"; the topics are {', '.join(known)}"
    raise UsageError(f"there is no help on {topic!r}{rest}")


def _write_page(page: Page, width: int | None, environment: Environment) -> None:
    from qkvcli.render.pages import page_content

    columns = width or min(environment.size[0], _WIDEST)
    content = page_content(page.text, environment.plain)
    environment.write(Printer(environment)(Block(content, columns)))


def _write_parts(parts: Iterable[Part], width: int | None, environment: Environment) -> None:
    printer = Printer(environment)
    lines = help_lines(parts, width or environment.size[0], environment.plain)
    environment.write(b"".join(printer(Block(line, line.cell_len)) for line in lines))
