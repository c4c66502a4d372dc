"""What help says of the program and of a command: the declarations, put in order."""

from collections.abc import Iterable, Iterator

from qkvcli.cli.commands import COMMANDS, Command
from qkvcli.cli.declare import Option
from qkvcli.cli.options import BRIEF, FULL, INSTALL, SHOW, VERSION
from qkvcli.cli.pages import pages
from qkvcli.render.help import Entry, Part

_ABOUT = (
    "qkvcli shows what attention does to queries, keys and values, one matrix at a time: your "
    "own, from files, or those of an example."
)
_EXAMPLES = ("qkvcli run", "qkvcli run --example cat", "qkvcli explain cat sat --example cat")
_FEW = 3


def program_help(brief: bool) -> list[Part]:
    """Help on the program."""
    parts = [
        Part(sentences=("Usage: qkvcli COMMAND [OPTIONS]",)),
        Part(sentences=(_ABOUT,)),
        Part("Commands", entries=tuple(Entry(c.name, c.help) for c in COMMANDS.values())),
        Part("Examples", commands=_EXAMPLES),
    ]
    if brief:
        more = "qkvcli COMMAND -h explains a command, qkvcli help lists topics to read."
        return [*parts, Part(sentences=(more,))]
    options = (VERSION, INSTALL, SHOW, BRIEF, FULL)
    return [
        *parts,
        Part("Topics, for qkvcli help TOPIC", entries=topic_entries()),
        Part("Options", entries=_entries(options)),
        Part(sentences=("The options of a command: qkvcli COMMAND --help.",)),
    ]


def topic_entries() -> tuple[Entry, ...]:
    """The topics of help that have a page, and their titles."""
    return tuple(Entry(page.name, page.title) for page in pages())


def command_help(command: Command, brief: bool) -> list[Part]:
    """Help on a command: all of it, or in brief what a person needs to begin."""
    words = " ".join(place.signature for place in command.places)
    usage = " ".join(filter(None, ("qkvcli", command.name, words, "[OPTIONS]")))
    formulas = tuple(Entry(*formula) for formula in command.formulas)
    parts = [
        Part(sentences=(f"Usage: {usage}",)),
        Part(sentences=(command.help,)),
        *([Part("What is computed", entries=formulas)] if formulas else []),
        *_arguments(command),
    ]
    read_on = f"qkvcli help {command.page}"
    if brief:
        first = (command.options[field] for field in command.first)
        more = f"All options: qkvcli {command.name} --help. To read on: {read_on}"
        return [
            *parts,
            Part("Options to begin with", entries=_entries(first)),
            Part("Examples", commands=command.examples[:_FEW]),
            Part(sentences=(more,)),
        ]
    return [
        *parts,
        *_panels(command),
        *_known(command.options.values()),
        Part("Examples", commands=command.examples),
        Part(sentences=(f"To read on: {read_on}, and qkvcli help for all topics.",)),
    ]


def _arguments(command: Command) -> Iterator[Part]:
    if command.places:
        entries = (Entry(place.metavar, place.help) for place in command.places)
        yield Part("Arguments", entries=tuple(entries))


def _panels(command: Command) -> Iterator[Part]:
    """The options, by panel."""
    options = [*command.options.values(), BRIEF, FULL]
    for panel in dict.fromkeys(option.panel for option in options):
        yield Part(panel, entries=_entries(option for option in options if option.panel == panel))


def _known(options: Iterable[Option]) -> Iterator[Part]:
    """The words that an option may have, where they are explained."""
    for option in options:
        if option.abouts:
            pairs = zip(option.words, option.abouts, strict=True)
            title = f"Values of {option.names[-1]}"
            yield Part(title, entries=tuple(Entry(*pair) for pair in pairs))


def _entries(options: Iterable[Option]) -> tuple[Entry, ...]:
    return tuple(Entry(option.signature, option.help) for option in options)
