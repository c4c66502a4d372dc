"""What a shell offers for a value: words that can be counted, and files by their ending."""

from collections.abc import Callable, Iterator, MutableMapping
from itertools import zip_longest
from pathlib import Path
from shlex import quote
from typing import Any, TypeAlias

from qkvcli.cli.commands import Place
from qkvcli.cli.declare import Option

Offered: TypeAlias = list[str | tuple[str, str]]
Completion: TypeAlias = Callable[[Any, list[str], str], Offered]


def mend(variables: MutableMapping[str, str]) -> None:
    """Take out the ``=`` that bash makes a word of, between an option and its value."""
    words = variables.get("COMP_WORDS", "").split("\n")
    if len(words) > 1 and variables.get("_QKVCLI_COMPLETE") == "complete_bash":
        at = int(variables["COMP_CWORD"])
        before = [word for word in words[:at] if word != "="]
        variables["COMP_WORDS"] = "\n".join([*before, *words[at:]])
        variables["COMP_CWORD"] = str(len(before))


def of_option(option: Option) -> Completion | None:
    """What is offered for the value of an option; None where nothing is known of it."""
    if option.words:
        return lambda context, words, start: _words(option, start)
    return _files(option.endings)


def of_place(place: Place) -> Completion | None:
    """What is offered for a word without an option; None where nothing is known of it."""
    told = place.words
    if told is not None:
        return lambda context, words, start: list(told().items())
    return _files(place.endings)


def _words(option: Option, start: str) -> Offered:
    """The words of an option, after those that are listed already."""
    before, comma, _ = start.rpartition(",") if option.several else ("", "", start)
    used = before.split(",")
    pairs = zip_longest(option.words, option.abouts, fillvalue="")
    return [(f"{before}{comma}{word}", about) for word, about in pairs if word not in used]


def _files(endings: tuple[str, ...]) -> Completion | None:
    if not endings:
        return None
    return lambda context, words, start: list(_named(start, endings))


def _named(start: str, endings: tuple[str, ...]) -> Iterator[str]:
    """The files and folders whose names begin so.

    Of a folder that is the only one, also what it holds: a shell ends the word after the
    only thing that is offered, and the word goes on.
    """
    head, slash, name = start.rpartition("/")
    found = sorted(_entries(f"{head}{slash}", name, endings))
    yield from found
    if len(found) == 1 and found[0].endswith("/"):
        yield from _named(found[0], endings)


def _entries(folder: str, name: str, endings: tuple[str, ...]) -> Iterator[str]:
    """The files with one of these endings, and the folders, whose names begin so."""
    try:
        paths = list(Path(folder or ".").expanduser().iterdir())
    except (OSError, RuntimeError):  # no such folder, or no such user's home
        return
    for path in paths:
        fits = path.name.startswith(name) and (name or not path.name.startswith("."))
        if not fits or quote(path.name) != path.name:  # the shell itself knows how to quote
            continue
        if path.is_dir():
            yield f"{folder}{path.name}/"
        elif path.name.lower().endswith(endings):
            yield f"{folder}{path.name}"
