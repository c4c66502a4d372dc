"""Tensors as torch.save writes them: what a pickle says of them, checked, without PyTorch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from qkvcli.core.operands import Shape
from qkvcli.errors import DataError
from qkvcli.formats.stored import BFLOAT16, FLOAT8_E4M3, FLOAT8_E5M2, Stored
from qkvcli.formats.text.cells import DEEPEST
from qkvcli.formats.torch.pickled import Maker, Named, Table, named_in_error

Arguments: TypeAlias = tuple[object, ...]

_WHOLE_NUMBERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_OF_NUMPY = ["float64", "float32", "float16", "complex64", "complex128", "bool", *_WHOLE_NUMBERS]
_TYPES = {
    **{name: Stored.plain(np.dtype(name).newbyteorder("<")) for name in _OF_NUMPY},
    **{stored.name: stored for stored in (BFLOAT16, FLOAT8_E4M3, FLOAT8_E5M2)},
}
_QUANTIZED = {"qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1}
"""Types of storages that are not read, with their sizes in bytes: others may follow them."""
_OTHER_TYPES = (
    *("complex32", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)),
    *(f"bits{bits}" for bits in ("1x8", "2x4", "4x2", "8", "16")),
)
_STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "QInt8": "qint8",
    "QUInt8": "quint8",
    "QInt32": "qint32",
    "QUInt4x2": "quint4x2",
    "QUInt2x4": "quint2x4",
}
_STORED_AS = {
    **{f"torch.{name}Storage": kind for name, kind in _STORAGES.items()},
    "torch.storage.UntypedStorage": "uint8",  # bytes, of which each tensor says the type
    "torch.UntypedStorage": "uint8",
    "torch.storage._UntypedStorage": "uint8",
}
_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
_SCHEMES = [f"per_{of}_{kind}" for of in ("tensor", "channel") for kind in ("affine", "symmetric")]

_NESTED = 64
"""How deep dicts and lists may lie in each other."""
_LONGEST = 1024
_MEMBERS = 2**16
_SHARED = 4
"""How often what a file holds may be held twice, on the whole."""
_EXPANDED = 2**28
"""How many numbers a tensor may have that are the same few in its file."""


@dataclass(frozen=True)
class Storage:
    """A run of ``count`` numbers in a file: those from ``first`` of what it has under ``key``."""

    key: str
    kind: str
    count: int
    first: int = 0


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; ``offset`` and ``strides`` count numbers of ``stored``."""

    storage: Storage
    stored: Stored
    offset: int
    shape: Shape
    strides: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many numbers of the storage lie from the tensor's first to its last."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))


@dataclass(frozen=True)
class Unreadable:
    """A tensor that is not read as an array; ``why`` says what kind it is, and what to do."""

    why: str


Found: TypeAlias = Tensor | Unreadable


def item_size(kind: str) -> int:
    """How many bytes a number of a storage has."""
    return _TYPES[kind].dtype.itemsize if kind in _TYPES else _QUANTIZED[kind]


def storage_of(said: object) -> Storage:
    """The storage that a pickle's persistent identifier says.

    >>> storage_of(("storage", Named("torch.HalfStorage"), "0", "cpu", 6))
    Storage(key='0', kind='float16', count=6, first=0)

    Raises ValueError for any other.
    """
    view = None
    if isinstance(said, tuple) and len(said) == 6:  # the older format's: part of a storage
        *said, view = said
    match said:
        case ("storage", Named(name), str(key), str(), int(count)) if name in _STORED_AS:
            whole = Storage(key, _STORED_AS[name], _natural(count))
        case _:
            raise ValueError("its pickle refers to what is no storage")
    match view:
        case None:
            return whole
        case (_, int(first), int(count)) if _natural(first) + _natural(count) <= whole.count:
            return Storage(key, whole.kind, count, first)
    raise ValueError("part of a storage lies beyond it")


def _natural(number: object) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**63:
        raise ValueError("a tensor's sizes are no whole numbers from 0")
    return number


def _naturals(numbers: object) -> tuple[int, ...]:
    if not isinstance(numbers, (tuple, list)) or len(numbers) > DEEPEST:
        raise ValueError(f"a tensor's shape is no list of at most {DEEPEST} numbers")
    return tuple(map(_natural, numbers))


def _tensor(storage: object, kind: str, offset: object, shape: object, strides: object) -> Found:
    """A tensor whose numbers all lie in its storage. Raises ValueError where they don't."""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor has no storage")
    if kind not in _TYPES:
        return Unreadable(f"holds numbers of torch.{kind}; save tensor.float()")
    found = Tensor(storage, _TYPES[kind], _natural(offset), _naturals(shape), _naturals(strides))
    if len(found.shape) != len(found.strides):
        raise ValueError("a tensor's shape and strides have other lengths")
    there = storage.count * item_size(storage.kind)
    if (found.offset + found.count) * found.stored.dtype.itemsize > there:
        raise ValueError("a tensor lies beyond its storage")
    if math.prod(found.shape) > max(found.count, _EXPANDED):
        raise ValueError(f"a tensor {found.shape} repeats {found.count} numbers too often")
    return found


def _put_off(found: Found, metadata: object) -> Found:
    """A tensor, unless its signs are still to be changed."""
    pairs = metadata.pairs if isinstance(metadata, Table) else []
    for name, what in (("neg", "negated"), ("conj", "conjugated")):
        if any(key == name and value is True for key, value in pairs if isinstance(key, str)):
            return Unreadable(f"is yet to be {what}; save tensor.resolve_{name}()")
    return found


def _rebuilt(arguments: Arguments) -> Found:
    """``_rebuild_tensor(storage, offset, shape, strides)``, and what version 2 has after them."""
    storage, offset, shape, strides, *more = arguments
    kind = storage.kind if isinstance(storage, Storage) else ""
    return _put_off(_tensor(storage, kind, offset, shape, strides), more[2] if more[2:] else None)


def _rebuilt_of_type(arguments: Arguments) -> Found:
    """``_rebuild_tensor_v3(storage, offset, shape, strides, …, …, dtype)``, and metadata."""
    storage, offset, shape, strides, _, _, dtype, *more = arguments
    if not isinstance(dtype, Named):
        raise ValueError("a tensor has no type")
    kind = dtype.name.removeprefix("torch.")
    return _put_off(_tensor(storage, kind, offset, shape, strides), more[0] if more else None)


def _parameter(arguments: Arguments) -> Found:
    """``_rebuild_parameter(tensor, …)``: the tensor."""
    if not isinstance(arguments[0], Tensor | Unreadable):
        raise ValueError("a parameter has no tensor")
    return arguments[0]


def _with_attributes(arguments: Arguments) -> object:
    """``_rebuild_from_type_v2(function, class, arguments, attributes)``: what the first makes."""
    function, _, inner, _ = arguments
    make = _REBUILT.get(function.name) if isinstance(function, Named) else None
    if make is None or not isinstance(inner, tuple):
        raise ValueError("its pickle calls what makes no tensor")
    return make(inner)


def _unreadable(why: str) -> Maker:
    return lambda arguments: Unreadable(why)


_REBUILT: dict[str, Maker] = {
    "torch._utils._rebuild_tensor": _rebuilt,
    "torch._utils._rebuild_tensor_v2": _rebuilt,
    "torch._utils._rebuild_tensor_v3": _rebuilt_of_type,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_qtensor": _unreadable("is quantized; save tensor.dequantize()"),
    "torch._utils._rebuild_sparse_tensor": _unreadable("is sparse; save tensor.to_dense()"),
    "torch._utils._rebuild_sparse_csr_tensor": _unreadable("is sparse; save tensor.to_dense()"),
    "torch._utils._rebuild_nested_tensor": _unreadable(
        "is nested, of tensors of several shapes; save each of tensor.unbind()"
    ),
    "torch._utils._rebuild_meta_tensor_no_storage": _unreadable(
        "is on the meta device, and has no numbers; save a tensor that has"
    ),
}


def _pairs(arguments: Arguments) -> Table:
    """``OrderedDict()``, as Python 2 wrote it with a list of pairs, and ``Counter(dict)``."""
    found = Table()
    match arguments:
        case ():
            pass
        case (list(pairs),):
            for pair in pairs:
                if not isinstance(pair, (list, tuple)):
                    raise ValueError("its pickle makes a dict of what is no pair")
                found.add(list(pair))
        case (Table() as found,):
            pass
        case _:
            raise ValueError("its pickle makes a dict of what is none")
    return found


def _listed(arguments: Arguments) -> object:
    """``set(list)`` and ``Size(tuple)``: what they are made of."""
    return arguments[0] if arguments else []


def _left_out(arguments: Arguments) -> object:
    """A value that holds no tensors."""
    return None


KNOWN: dict[str, Maker | None] = {
    **_REBUILT,
    **dict.fromkeys((*_CLASSES, *_STORED_AS)),
    **dict.fromkeys(f"torch.{name}" for name in (*_TYPES, *_QUANTIZED, *_OTHER_TYPES, *_SCHEMES)),
    "torch.per_channel_affine_float_qparams": None,
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    "collections.OrderedDict": _pairs,
    "collections.Counter": _pairs,
    "builtins.set": _listed,
    "builtins.frozenset": _listed,
    "torch.Size": _listed,
    "torch.device": _left_out,
    "torch.serialization._get_layout": _left_out,
    "builtins.complex": _left_out,
    "builtins.bytearray": _left_out,
    "builtins.slice": _left_out,
    "_codecs.encode": _left_out,
}
"""The names that torch.save writes of tensors and plain values, and what is made of them."""


def flattened(value: object, where: str, steps: int) -> dict[str, Found]:
    """The tensors of nested dicts and lists by the keys that lead to them, with points between.

    >>> one = Unreadable("is sparse")
    >>> list(flattened(["layers", [1, one], 3, one], "x.pt", 9))
    ['1.1', '3']

    A tensor alone has the name "". It took ``steps`` instructions to make the value. Raises
    DataError for two of one name, for what is nested in itself or too deep, and for what holds
    the same lists so often that it has far more parts than instructions.
    """
    found: dict[str, Found] = {}
    for path, tensor in _walked(value, (), where, iter(range(_SHARED * steps))):
        name = ".".join(_text(key, where) for key in path)
        if name in found:
            raise DataError(f"{where}: two tensors are called {named_in_error(name)}")
        if len(name) > _LONGEST or not name.isprintable():
            raise DataError(f"{where}: {named_in_error(name)} is no name for a tensor")
        if len(found) == _MEMBERS:
            raise DataError(f"{where}: holds more than {_MEMBERS} tensors")
        found[name] = tensor
    return found


def _walked(
    value: object, path: Arguments, where: str, visits: Iterator[int]
) -> Iterator[tuple[Arguments, Found]]:
    """The tensors, each with the keys that lead to it; ``visits`` ends when there are too many."""
    if isinstance(value, Tensor | Unreadable):
        yield path, value
        return
    for key, child in _children(value):
        if next(visits, None) is None or len(path) == _NESTED:
            raise DataError(f"{where}: what it holds is nested in itself, or too deep")
        if isinstance(child, Tensor | Unreadable | Table | list | tuple):
            yield from _walked(child, (*path, key), where, visits)


def _children(value: object) -> Iterator[tuple[object, object]]:
    if isinstance(value, Table):
        yield from value.pairs
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)


def _text(key: object, where: str) -> str:
    """A key as part of a name. Raises DataError for what is neither text nor a number."""
    if isinstance(key, int) and not isinstance(key, bool) and abs(key) < 2**63:
        return str(key)
    if not isinstance(key, str):
        raise DataError(f"{where}: a key is a {type(key).__name__}; use text, or whole numbers")
    return key
