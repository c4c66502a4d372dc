"""How options are declared, and how their values are read from text.

A field of a group of options says what a person types and reads, once; `plain` and
`typer_app` both read command lines from that. Nothing of Typer is needed for it.
"""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")
G = TypeVar("G", bound="Group")
ANY = 2**62
_TEXT = (".csv", ".tsv", ".txt", ".json")
_COMPRESSED = tuple(f"{ending}.gz" for ending in _TEXT)
ENDINGS = (*_TEXT, ".npy", ".npz", ".safetensors", *_COMPRESSED)
"""The endings of files of matrices that are read and written."""
READ = (*ENDINGS, ".pt", ".pth", ".ckpt")
"""Those, and the endings of what is only read."""


class Option(NamedTuple):
    """An option as a person types and reads it.

    ``read`` makes a value of its text, or raises ValueError; None for a flag, whose second
    name, if any, unsets it. ``words`` are what its text may be, where they can be counted, and
    ``abouts`` what each of them stands for; ``several`` may be listed with commas. ``endings``
    are those of the files that it takes. One that ``repeats`` may stand on a line several times,
    and its value is a tuple of all. Where it is not typed, its value is the ``default``.
    """

    names: tuple[str, ...]
    panel: str
    help: str
    metavar: str | None = None
    read: Callable[[str], Any] | None = None
    words: tuple[str, ...] = ()
    abouts: tuple[str, ...] = ()
    several: bool = False
    endings: tuple[str, ...] = ()
    repeats: bool = False
    default: Any = None

    @property
    def reads_file(self) -> bool:
        """Whether its value is a file to read: of two that are named, neither is meant."""
        return self.read is file_name

    @property
    def signature(self) -> str:
        """The option as help writes it: ``-q, --query FILE``."""
        return " ".join(filter(None, (", ".join(self.names), self.metavar)))


def option(panel: str, *names: str, metavar: str, read: Callable[[str], Any], help: str) -> Any:
    """A field that is an option with a value, which ``read`` makes of its text."""
    return _field(Option(names, panel, help, metavar, read), None)


def choice(
    panel: str,
    *names: str,
    metavar: str,
    words: Iterable[str],
    help: str,
    abouts: Iterable[str] = (),
    hint: str = "",
) -> Any:
    """A field that is an option with one of some words, which the ``abouts`` explain.

    The error for another word ends with the ``hint``.
    """
    known = tuple(words)
    declared = Option(names, panel, help, metavar, chosen(known, hint), known, tuple(abouts))
    return _field(declared, None)


def choices(
    panel: str, *names: str, metavar: str, words: Iterable[str], every: str, help: str
) -> Any:
    """A field that is an option with some words, separated by commas, or ``every`` for all."""
    known = (*words, every)
    read = listed(chosen(known))
    return _field(Option(names, panel, help, metavar, read, known, several=True), None)


def flag(panel: str, *names: str, help: str) -> Any:
    """A field that is an option without a value; None where it may also be unset."""
    return _field(Option(names, panel, help), None if len(names) > 1 else False)


def file(panel: str, *names: str, help: str, endings: tuple[str, ...] = READ) -> Any:
    """A field that is an option with a file to read, or ``-`` for standard input."""
    return _field(Option(names, panel, help, "FILE", file_name, endings=endings), None)


def written(panel: str, *names: str, help: str, endings: tuple[str, ...]) -> Any:
    """A field that is an option with files to write, each after its own name of the option."""
    return _field(Option(names, panel, help, "FILE", path, endings=endings, repeats=True), ())


def count(panel: str, name: str, help: str, least: int = 1, most: int = ANY) -> Any:
    """A field that is an option with a whole number."""
    return _field(Option((name,), panel, help, "N", whole(least, most)), None)


def _field(declared: Option, default: Any) -> Any:
    return declared._replace(default=default)


class Group:
    """Options that belong together, and the values that were typed for them; frozen.

    A class of its kind declares each option as a field. They are found once, when the class is
    made: a dataclass would compile its methods each time that the program starts. Raises
    TypeError for a value that no option has.

    >>> class Sizes(Group):
    ...     width: int | None = count("Sizes", "--width", "Columns of text.")
    >>> Sizes().width, Sizes(width=40), Sizes(width=40) == Sizes().replaced(width=40)
    (None, Sizes(width=40), True)
    """

    declared: ClassVar[dict[str, Option]]

    def __init_subclass__(cls) -> None:
        found = {name: value for name, value in vars(cls).items() if isinstance(value, Option)}
        cls.declared = found
        for name, declared in found.items():
            setattr(cls, name, declared.default)

    def __init__(self, **values: Any) -> None:
        unknown = values.keys() - self.declared.keys()
        if unknown:
            raise TypeError(f"{type(self).__name__} has no option {min(unknown)}")
        vars(self).update(values)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and given(self) == given(other)

    def __hash__(self) -> int:
        return hash((type(self), *given(self).items()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in given(self).items())
        return f"{type(self).__name__}({shown})"

    def replaced(self: "G", **values: Any) -> "G":
        """The same with other values for some."""
        return type(self)(**{**vars(self), **values})


def declared(group: Group | type[Group]) -> dict[str, Option]:
    """The options of a group, by their field."""
    return group.declared


def given(group: Group) -> dict[str, Any]:
    """The options of a group that were typed, by their field, in the order of their declaration."""
    typed = vars(group)
    return {
        name: typed[name]
        for name, option in group.declared.items()
        if name in typed and typed[name] != option.default
    }


def typed(field: str) -> str:
    """A field as a person types it.

    >>> typed("past_key")
    '--past-key'
    """
    return f"--{field.replace('_', '-')}"


class FileName(str):
    """A file, and perhaps a member and a part of it, as a person typed it."""


def file_name(text: str) -> FileName:
    """Read what a person typed for a matrix: ``PATH[:MEMBER][SLICE]``."""
    if not text:
        raise ValueError("the name of the file is empty")
    return FileName(text)


def path(text: str) -> "Path":
    """Read the name of a file to write."""
    from pathlib import Path  # imported here: most lines write none

    return Path(file_name(text))


def whole(least: int, most: int = ANY) -> Callable[[str], int]:
    """Make a reader of whole numbers, whose error says which are meant."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most or "_" in text:
            upto = f"from {least} to {most}" if most < ANY else f"from {least} on"
            wanted = "a whole number" + (f" {upto}" if least > -ANY else "")
            raise ValueError(f"{text!r} is not {wanted}")
        return value

    return read


def listed(read: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """Make a reader of several values, separated by commas."""
    return lambda text: tuple(read(part.strip()) for part in text.split(","))


def chosen(words: Iterable[str], hint: str = "") -> Callable[[str], str]:
    """Make a reader of one of some words, whose error says which is meant, and the hint."""
    known = tuple(words)

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"{text!r} is not one of {', '.join(known)}{meant(text, known)}{hint}")
        return text

    return read


def meant(text: str, known: Iterable[str]) -> str:
    """The end of an error about a word that is not known: the one that is nearest.

    >>> meant("brt", ("article", "bert", "gpt"))
    '; did you mean bert?'
    """
    from difflib import get_close_matches

    near = get_close_matches(text.lower(), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


_INDEX = re.compile(r"\d{1,18}|(-?\d{1,18})?:(-?\d{1,18})?(:-?[1-9]\d{0,17})?|all")


def indexes(text: str) -> tuple[str, ...]:
    """Read indexes and slices, or ``all``; which there are is not known yet."""
    parts = tuple(part.strip() for part in text.split(","))
    for part in parts:
        if not _INDEX.fullmatch(part):
            raise ValueError(f"{part[:40]!r} is not an index, a slice such as 0:3, or all")
    return parts


_ADDRESS = re.compile(r"local:[1-9]\d{0,3}|(?!local:)(?:\w+://)?\[?[\w.:-]+\]?:\d{1,5}")


def address(text: str) -> str:
    """Read where a scheduler is, or how many workers are to be started here."""
    if not _ADDRESS.fullmatch(text):
        raise ValueError(f"{text!r} is not an address such as tcp://host:8786, or local:2")
    return text


def number(text: str) -> float:
    """Read a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if "_" in text or value - value != 0:  # 1_000, inf and nan are for Python to read, not us
        raise ValueError(f"{text!r} is not a finite number such as 0.125")
    return value


def above_zero(text: str) -> float:
    """Read a number above 0."""
    value = number(text)
    if value <= 0:
        raise ValueError(f"{text!r} is not above 0")
    return value


def above_zero_or_none(text: str) -> float | str:
    """Read a number above 0, or the word that undoes a preset's."""
    return text if text == "none" else above_zero(text)


def not_negative(text: str) -> float:
    """Read a number that is not below 0."""
    value = number(text)
    if value < 0:
        raise ValueError(f"{text!r} is below 0")
    return value


def scale(text: str) -> float | str:
    """Read a scale: a number, or the words for two of them."""
    if text in ("none", "sqrt"):
        return text
    try:
        return number(text)
    except ValueError:
        wanted = "none, sqrt or a number such as 0.125"
        raise ValueError(f"{text!r} is not {wanted}") from None


def window(text: str) -> tuple[int | None, int | None]:
    """Read a left and perhaps a right, each a number or none."""
    sides = listed(lambda side: None if side == "none" else whole(0)(side))(text)
    if len(sides) > 2:
        raise ValueError(f"{text!r} is not LEFT or LEFT,RIGHT")
    return sides[0], sides[1] if len(sides) == 2 else None


def words(text: str) -> tuple[str, ...]:
    """Read labels, which are separated at white space."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the labels are not UTF-8 text") from None
    return tuple(text.split())
