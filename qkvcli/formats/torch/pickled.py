"""Pickles read as data: nothing that they name is imported, and nothing is ever called."""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, TypeAlias

from qkvcli.errors import DataError

Maker: TypeAlias = Callable[[tuple[object, ...]], object]
"""What makes a value of the arguments that a pickle has for a function's name."""

LARGEST = 2**24
"""How many bytes of a pickle are read: the numbers of its tensors lie elsewhere."""
_STEPS = 2**20
"""How many instructions it may have; a model of 20,000 tensors has as many."""
_DEEPEST = 1000
_TALLEST = 2**16
_SHOWN = 80


class Table:
    """A dict of a pickle, as pairs: a file made to be slow could choose keys that collide."""

    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: list[tuple[object, object]] = []

    def add(self, items: list[object]) -> None:
        """Add keys and values, which take turns."""
        self.pairs.extend(zip(items[::2], items[1::2], strict=True))


@dataclass(frozen=True)
class Named:
    """A class, a function or a constant that a pickle names: its name alone."""

    name: str


def named_in_error(name: str) -> str:
    r"""A name of a file in an error: of a long one its beginning, and signs that show escaped.

    >>> named_in_error("os.system"), named_in_error("a\x1b[2J")
    ('os.system', 'a\\x1b[2J')
    """
    short = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
    return short if short.isprintable() else repr(short)[1:-1]


@dataclass
class Unpickler:
    """Reads pickles, of protocols 0 to 5, that hold what ``known`` has and plain containers.

    ``known`` has the full names of what may stand there, each with what makes a value of the
    arguments it is called with (None: it is never called); ``persistent`` makes a value of an
    identifier for what lies outside the pickle. Lists, sets and tuples become lists and
    tuples, dicts `Table`, names `Named`; ``where`` is the file, for errors, and
    ``steps`` how many instructions it has read.

    The instructions are those of Python's `pickletools`, which describes each of them.
    """

    where: str
    known: Mapping[str, Maker | None]
    persistent: Callable[[object], object]
    stack: list[Any] = field(default_factory=list)
    steps: int = 0
    _below: list[list[Any]] = field(default_factory=list)
    _memo: dict[int, object] = field(default_factory=dict)

    def load(self, stream: IO[bytes]) -> object:
        """The next pickle of a stream, which holds at most `LARGEST` bytes.

        Raises DataError for a name that is not known, ValueError for what is no pickle, and
        for one that takes more than a file of tensors does.
        """
        self.stack, self._below, self._memo = [], [], {}
        try:
            for count, (code, argument, _) in enumerate(pickletools.genops(stream)):
                self.steps += 1
                if count >= _STEPS or self._too_much:
                    raise ValueError("its pickle holds more than a file of tensors does")
                if code.name in _PUTS and not 0 <= (argument or 0) <= count:
                    raise ValueError("its pickle numbers what it holds in no order")
                act = _ACTIONS.get(code.name)
                if act is None:
                    raise ValueError(f"its pickle has {code.name}, which torch.save never writes")
                act(self, argument)
            if self._below or len(self.stack) != 1:
                raise ValueError("its pickle does not end where it says")
            return self.stack[0]
        except (IndexError, KeyError):  # of the stack, and of what was kept
            raise ValueError("its pickle takes what is not there") from None

    @property
    def _too_much(self) -> bool:
        return len(self._below) > _DEEPEST or len(self.stack) > _TALLEST

    def push(self, value: object) -> None:
        """Put a value onto the stack."""
        self.stack.append(value)

    def marked(self) -> list[Any]:
        """What stands above the last mark."""
        found, self.stack = self.stack, self._below.pop()
        return found

    def mark(self) -> None:
        """Begin what `marked` gives."""
        self._below.append(self.stack)
        self.stack = []

    def keep(self, number: int | None) -> None:
        """Remember the last value under a number, or the next one."""
        self._memo[len(self._memo) if number is None else number] = self.stack[-1]

    def get(self, number: int) -> None:
        """Push what was remembered."""
        self.push(self._memo[number])

    def name(self, module: object, name: object) -> None:
        """Push the name of a class or a function. Raises DataError for one that is not known."""
        module = {"__builtin__": "builtins"}.get(str(module), module)
        full = f"{module}.{name}"
        if full not in self.known:
            raise DataError(
                f"{self.where}: holds {named_in_error(full)}, which is never loaded; "
                "save tensors alone, such as torch.save(model.state_dict(), …)"
            )
        self.push(Named(full))

    def call(self) -> None:
        """Push what is made of a name and its arguments."""
        arguments = self.stack.pop()
        function = self.stack.pop()
        self.push(self.made(function, arguments))

    def made(self, function: object, arguments: object) -> object:
        """What ``known`` makes of a function's name and its arguments. Raises ValueError."""
        make = self.known[function.name] if isinstance(function, Named) else None
        if make is None or not isinstance(arguments, tuple):
            raise ValueError("its pickle calls what is no function")
        return make(arguments)

    def extend(self, items: list[Any]) -> None:
        """Add to the list that is last on the stack."""
        into = self.stack[-1]
        if not isinstance(into, list):
            raise ValueError("its pickle adds to what is no list")
        into.extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Add keys and values to the dict that is last on the stack."""
        into = self.stack[-1]
        if not isinstance(into, Table):
            raise ValueError("its pickle adds to what is no dict")
        into.add(items)

    def build(self) -> None:
        """Leave out the attributes of a dict, such as ``_metadata``; nothing else has any."""
        self.stack.pop()
        if not isinstance(self.stack[-1], Table):
            raise ValueError("its pickle sets attributes of what has none")

    def last(self, count: int) -> list[Any]:
        """Take the last values from the stack."""
        if count > len(self.stack):
            raise IndexError
        found = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return found


def table_of(items: list[Any]) -> Table:
    """A dict of keys and values, which take turns."""
    found = Table()
    found.add(items)
    return found


def _global(machine: Unpickler, argument: Any) -> None:
    module, _, name = argument.partition(" ")
    machine.name(module, name)


_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_VALUES = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BYTEARRAY8"),
)
_ACTIONS: dict[str, Callable[[Unpickler, Any], object]] = {
    **dict.fromkeys(_VALUES, lambda machine, argument: machine.push(argument)),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, argument: None),
    "NONE": lambda machine, argument: machine.push(None),
    "NEWTRUE": lambda machine, argument: machine.push(True),
    "NEWFALSE": lambda machine, argument: machine.push(False),
    "EMPTY_LIST": lambda machine, argument: machine.push([]),
    "EMPTY_SET": lambda machine, argument: machine.push([]),
    "EMPTY_TUPLE": lambda machine, argument: machine.push(()),
    "EMPTY_DICT": lambda machine, argument: machine.push(Table()),
    "MARK": lambda machine, argument: machine.mark(),
    "POP": lambda machine, argument: machine.stack.pop(),
    "POP_MARK": lambda machine, argument: machine.marked(),
    "LIST": lambda machine, argument: machine.push(machine.marked()),
    "FROZENSET": lambda machine, argument: machine.push(machine.marked()),
    "TUPLE": lambda machine, argument: machine.push(tuple(machine.marked())),
    "DICT": lambda machine, argument: machine.push(table_of(machine.marked())),
    "TUPLE1": lambda machine, argument: machine.push(tuple(machine.last(1))),
    "TUPLE2": lambda machine, argument: machine.push(tuple(machine.last(2))),
    "TUPLE3": lambda machine, argument: machine.push(tuple(machine.last(3))),
    "APPEND": lambda machine, argument: machine.extend(machine.last(1)),
    "APPENDS": lambda machine, argument: machine.extend(machine.marked()),
    "ADDITEMS": lambda machine, argument: machine.extend(machine.marked()),
    "SETITEM": lambda machine, argument: machine.set_items(machine.last(2)),
    "SETITEMS": lambda machine, argument: machine.set_items(machine.marked()),
    **dict.fromkeys(_PUTS, lambda machine, argument: machine.keep(argument)),
    "GET": lambda machine, argument: machine.get(argument),
    "BINGET": lambda machine, argument: machine.get(argument),
    "LONG_BINGET": lambda machine, argument: machine.get(argument),
    "GLOBAL": _global,
    "INST": _global,  # protocol 0 wrote instances so: none of them is known
    "STACK_GLOBAL": lambda machine, argument: machine.name(*machine.last(2)),
    "REDUCE": lambda machine, argument: machine.call(),
    "BUILD": lambda machine, argument: machine.build(),
    "BINPERSID": lambda machine, argument: machine.push(machine.persistent(machine.stack.pop())),
}
