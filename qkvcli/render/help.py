"""Help as lines of text that fit a width: names are never cut, and words stay whole."""

import re
from collections.abc import Iterable, Iterator
from textwrap import wrap
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from qkvcli.render.screen import ascii_only

_NARROW = 70
"""Below so many columns a description stands under its name, not beside it."""
_WIDEST = 100
_INDENT, _GAP, _UNDER = 2, 2, 6
_TITLE, _NAME, _COMMAND = "bold", "magenta", "bold"  # seen on light and dark


class Entry(NamedTuple):
    """A name, such as an option with its value, and a line about it."""

    name: str
    about: str


class Part(NamedTuple):
    """A part of help: a title, and under it sentences, entries, or commands to type."""

    title: str = ""
    sentences: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def in_ascii(self) -> "Part":
        """The part without signs that not every terminal has."""
        return Part(
            ascii_only(self.title),
            tuple(map(ascii_only, self.sentences)),
            tuple(Entry(*map(ascii_only, entry)) for entry in self.entries),
            tuple(map(ascii_only, self.commands)),
        )


def help_lines(parts: Iterable[Part], columns: int, plain: bool = False) -> Iterator[Text]:
    """The parts, line by line; ``plain`` keeps to ASCII.

    >>> part = Part("Options", entries=(Entry("--seed N", "Draw at random."),))
    >>> [str(line) for line in help_lines([part], 80)]
    ['Options', '  --seed N  Draw at random.']
    >>> [str(line) for line in help_lines([part], 40)]
    ['Options', '  --seed N', '      Draw at random.']
    """
    for i, part in enumerate(parts):
        if i:
            yield Text()
        yield from _part(part.in_ascii if plain else part, min(columns, _WIDEST))


def _part(part: Part, columns: int) -> Iterator[Text]:
    margin = _INDENT if part.title else 0
    if part.title:
        yield Text(part.title, _TITLE)
    for sentence in part.sentences:
        yield from map(Text, _wrapped(sentence, columns, " " * margin))
    longest = max((cell_len(entry.name) for entry in part.entries), default=0)
    for entry in part.entries:
        yield from _entry(entry, columns, longest)
    for command in part.commands:
        for line in broken(command, columns - margin):
            yield Text(" " * margin).append(line, _COMMAND)


def _entry(entry: Entry, columns: int, longest: int) -> Iterator[Text]:
    name = Text(" " * _INDENT).append(entry.name, _NAME)
    if columns < _NARROW:
        yield name
        yield from map(Text, _wrapped(entry.about, columns, " " * _UNDER))
        return
    start = _INDENT + longest + _GAP
    first, *others = _wrapped(entry.about, columns, " " * start) or [""]
    yield name.append(" " * (start - name.cell_len) + first[start:])
    yield from map(Text, others)


def _wrapped(text: str, columns: int, indent: str) -> list[str]:
    return wrap(
        text,
        max(columns, len(indent) + 1),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


def broken(command: str, columns: int) -> list[str]:
    r"""A command on lines that fit, as a shell continues them; an option stays with its value.

    >>> broken("qkvcli run --seed 42 --digits 2", 20)
    ['qkvcli run \\', '    --seed 42 \\', '    --digits 2']
    """
    lines = [""]
    words = _words(command, columns - len("     \\"))
    for word, after in zip(words, [*words[1:], ""], strict=True):
        room = columns - (len(" \\") if after else 0)
        if lines[-1].strip() and cell_len(f"{lines[-1]}{word}") > room:
            lines[-1] += "\\"
            lines.append("    ")
        lines[-1] += f"{word} "
    return [line.rstrip() for line in lines]


_BEFORE = re.compile(r"-\S+|(\||&&)( \w+)?")
"""What the next word belongs to: an option, a pipe, a pipe and a program."""


def _words(command: str, columns: int) -> list[str]:
    """The words of a command; those that belong together are one, where they fit a line."""
    words: list[str] = []
    for word in re.findall(r"""(?:"[^"]*"|'[^']*'|\S)+""", command):
        together = f"{words[-1]} {word}" if words else word
        belongs = bool(words) and bool(_BEFORE.fullmatch(words[-1])) and word[0] not in "-|<>&"
        if belongs and cell_len(together) <= columns:
            words[-1] = together
        else:
            words.append(word)
    return words
