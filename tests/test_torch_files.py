"""PyTorch's files are read without PyTorch, and what is in them is never run."""

import io
import struct
import time
import tracemalloc
import zipfile
import zlib
from base64 import b64decode
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from qkvcli.errors import DataError, UsageError
from qkvcli.formats.files import read_document
from qkvcli.formats.registry import NPZ, PT, format_by_start, name_by_ending
from qkvcli.formats.source import SMALL, Source
from tests.conftest import Program

# What PyTorch 2.13 wrote, compressed.
# a Linear's state_dict()
LINEAR = """
eNqlVD1v00AYPtup47qQfkBJW6QODMhIJbXzZUoFrSzkxQMhCMlisRzHxBZu3LMvrUCqFAm1EhsMjCBWfgFsbOxdEAMbA2Ji
YGHkzm6D7ZBULadcTonv+bjXz3sNjckBwHFgaMyAOWAGluPu2KttE5ml7ceeqhTAw9To05ble55tIdfvhvzdoG0HdvuOayEe
gmtNSAk6i8l2bbfjIEhbyMeUJaOHXC/kjcBu9VyvbSC7G/qBsVPmISMIeh4jQrzT7NgwF0N41fNNdD/+k4cTOoX3iJDVGbxa
2z2Y11gEuXsa0GiNOYCTGqNRB5B/7hAXUwiea8LzOj4qaLlmCAsO1nFyTswjwWknr9EIzkT4fTirUftwLsZeQPBiE8739uAl
fRJvNrZsZJKCwGL0fEEn1YKLe3ApMr5jByGuBbysUWEYtkoNLc8J4YfXV7ASmY2RFS+CxUHFS4/8YMtExhGbqsxnCn80JEL/
/ufXZ+QcZI6mXwLyX/qj8hqm53a6W3YXqUrl3wrjR71KDGzswh80lqDHGpgFGwMDrSfI9klYVGX9LLrHw3MR8mziYf/Wt0US
NXashwK4nUr1qqgqN//DQMza38Bfm/iDZx/Pt5vEUfHF95cL+MHCCY5W0o4kVRHAKfSxdv8j0XM+Fa4SAW6s3jRYH+gN0iWf
tQQVnigfvuk8OPn9L4Py3wBGRw3twMUJfGqS28Nw26pSOqURsVaXJPFGrVypS2t1WayV16qiLMuiXJMqUnVNlqvVcr0atck7
6dUvAfsQIpcUMTvwmezQmSHn2Xswi042YDGFDCgwqqezJMkmWkqRHCZJhjo3y5NshNkUT5MGww2YhSdTW0jBP9Mg0ztZbDKB
aazDZLBSFpvM0HQK+yWBHVG75KtdTp85B04IXUNj2ZXjiDLXB0gus07R8fo7F68YR+57wOTj3/HtO8HGGC7aH+/9A0fpl48=
"""
# a dict of bfloat16 and both kinds of float8
NARROW = """
eNqllc1rE0EYxie7+Vw1/fCjtmrVWwqabpJNultbo4uswh5MUyqhl2WbTJvFTdLZTCpV1Iqk0P4R/hWCV0G8eVE8KHjzogfx
oiCC4sxuGne3pKHtQBgI8zzPb2bed7agskEAolGwawyCYaBb5aqxBicrOtaTq3dNRY6DRc/YYB4ikCgFiGAJBcq4QRRJrYUN
s8lpFlxqGWZFw7DebFjaWppDTCJRipDFTbJSX4GIdSScrJgNHady887/HAranjwKlVgyl1dbKKwGMYrMqUBlVGYTRckU2ESx
rXK5YZqwjI1GvcndtirQgpUbRhlziJsooiMYHS2iYyWGuEABxfsgZjg0kEhUO1jJDia3UMfrq7DSpRu06VJoqBpWWYyGKRXb
RsfVQBud2KrS4JOdnS3TjYkaFGqZ5TqHTmE0UkSnHZ4sGq3acVXHMI3GiCGD0Rl7m210lhqecwzHfYbZGjnP8xhdKKKLrWRB
jUTffInd2iI+9FfoebEjIN292ORyw6rpWFuDVpOcnyInfffbb6Ro7ovvn55SfPrrnTsGpv7ndg5W001jpV6DdazImX1G2yMn
UID8PfSVHiizJ8AQyHcBltYxbNBaUeQrB8ndGaaBsQkpQ3v282iYpIT3ZIiDq56umuQVefoQABv5ay83HoM8JXj/8ds2jYz2
IZjxEqQUWTwwgfjoCY3+sT39l/Yp2yf6ujc6rcizhzn9xcWZBzT++as/P/vf/4Arvlvwh8zPcDT/7bOVhf754+7Gs/ffhJZB
OuC+Th8vzajsv/94UZAEURSFKSmX5QVxKpPlUylJEiWB53OSlM5KWUnk05Ry4rf6OkE4EjZlgMJ2Od1Px+Aucv93wK92PwAj
HuXHAOj12PhN3E085jGZY8AeL4ffx92IQx6fdy6f7gPgl7u7KO6R32GBr3f9WncbeLUf/NqUX+uuYa92PujTpv1ad/0NeLfs
0vY4d3dZjHvExRDoU7AFNRy+tFPe7OWuMuabbzLO/CvkzEQXse+8w+B8OUJhRxOz1ztr/wEUq/xb
"""
# a Parameter
PARAMETER = """
eNqlVDFv00AUPtupHQwkbZeUDl0Jgqax48QJCFJZyIsHQhBSxGK5zpFaOHHOvgTBFAlR6EYZOiL+BQMSP4AF2BlADIiJv8Bd
3Lq2Q9MWnnw5nf2+931++Z5bBpcBIJsFM7EIloHl29vOGG50LWyVho9cXcuBB4mYsDb2SFbJHGHHDUTTh1sjx+2aQ8u3+hBD
X0TgmBQMB4Hnm2NZREyx2BEIaUAyrR5EB1VF3fUsfC+8KSKuw5CcMsp0OLLbwxFaMHiM+LsGMFiD20GCwRnMDsru2rbnutDG
jjcIxDt+F/qwe9uxsYjOXWkjEaPzbXTh5TY9XHyBcm2UL7UMIVvd3/38kZSmq3VsZwpAijpTeuj5fQubY+gHhEzX1lMNOiEk
Svvu99dn9M2YubSrQD2iPWiUablOb9CHA6xrlbMxh1FTqIDmY/SLJRTsXAFLoBkJ2HqCoUf7qms3/oX3MFwHYxdSDc9v/rjE
ExZ+roYcuJVw5UZZ167/h4Cw6qRJfjbJRdaErLebVFHh1c+9FfJgZa6iPLgaKYpccPm0kioiZfrypnf/5P6vAfnIANOXD6Dv
EAc8tajRTaera6Uz9kKqqnJdajSqklSvKjWlUpZr5ZrakFRZVhrkqNaqDUVRqcoP399/KxIdxalKhoqNdMYnZ3FGefo7kkbH
B6CQND0Djpu1dJG4iVcTRfbiRWYmJ10nbsSlRJ1lFswOQBoed00uAd9nQcq7aWzcB/kEtsiBtMvS4Pjfs5YAv46B/26clsHz
1w5txq1HSCG1f2LCvZ4Jd4KbPhL48Bx+wRb4ECNM88PcP4CIbLM=
"""
# a matrix, its transpose and a part of it
VIEWS = """
eNqlVMtu00AUHduJEwzkUR5Jg1QWLAgC0rycBwhSWcgsvCANQorYWK5jYgs3zjiTQJGQIiEiZQc/gPgCFmz4DFQWrNixQFnx
C8zY1LWdNuVx5fHI9pxzz9w5122JiQAQj4OlSIE1oNiqbky0zZ6ClMLwqSkKCfA4EFP6JQT5LoUBCqRUZGFEQR4jwxxxsq3t
jA2zJyNtMLJseVLmIJ3Pd2N48QivVPoaZFwIJ5qWgh66LzkYcQiLMNpl8KwOx5CVWARj2xKQaImZwbjESNQMnpqrqmWamooM
azDiHtg9zdZ69wwVcZC71oGnETzTgWcdNgQTOs6uM3pEj+oOX5LwMRI9gymJIrTpuU5gawie68DzXVwZMFRsBC+EkRe3iQCC
zLgEWRe5jmCuAy+NC20pFv+wl5tncWoy2sfWOQOueHUuPLHsXQXJE80e4R2JwuVQuZeiRBJ9+vntFdkiGccnyoH6YaLf9ZcV
0+gPdrUBEoXKSbmOilqVCGg9gwsap6BXCkiDlidgZw9pFjkuUbj9L3kPwjQQMjWi4fWd7+sszsKu1JAAdwOu3iyKwq3/EOCy
Tlv4toUvPKZ4vN8iijJvfrzN4g/ZlYqS4LqnyDv3q38qqcKRTPvv+o9Orv8GKB8awNn8SLMN7IAXCukf2eiJQuEva1Hi6+VG
qdnkS6UGX61VK8VyrchX+TJfqRebPH6o1iuNUp2ojC0+LvJYR95RSRGxnk5/r6SWlIf/Q2G0vwEyAaROgeO6K0ziN3EuQLLv
J1nqnDCP34jpAE+HBssNEIb7XZMIwL/SIOTdMNbvg2SwDgwIuywM9h/PRgD8xQc+2jhtiWVvHNiMuekhY6H5M+XOzyPujHHO
p/us++z+waKsi4k56921vwC+/3Gm
"""
# the older format
OLDER = """
eNptkbtOwzAUhnNrC+Z+pxtjWCqIQqETDIjFXMviBUUhtUiQFfc4DggkpE4V5RkYGHk1HgGJgZM2ICoR2f6V38fnOz7uWS9E
fL0efW7cvp/XGz3r5MPG9QkMl80bhtFVUstIiuCOqyyRKZgYwGZwRyRaCx7wtJOEKVjPjKCpH7o8yJJHnoH9BI7LKmhmsVQa
KtRiNv4lqYYqdZhT5JDpDdSok+cj5jBchA9cgXkF6NguM9G6ByfSUkVxI8h1IjISKH6dJ6ITaJ5mUgV3HoGK67JagcPI8IZD
dXSEHAkZ6suRSaDGZjGm5XtbO77vb+01/VYTJoaVRd0cJmn1VAO5oAa1qdWHKWpSuw/TgwibIHiksQcZOVMdrnjnMIk0gZnN
NsxqmGvD/LDYFBZirCX+4R/jJX/xi2N4z/O2d5uwFI+wywXWKngrSDf7sDqIi+xrGtbbUM/DDNt0VTzNP3cw/8ts8UbV+Pv1
9nE5wIGzh/PtYHzfMMxSrVLtUp1SK6V+A182h8k=
"""


def written(text: str) -> bytes:
    return zlib.decompress(b64decode(text))


class Name(NamedTuple):
    """A class or a function in a pickle."""

    name: str


class Call(NamedTuple):
    """A call in a pickle."""

    function: Name
    arguments: tuple[Any, ...]


class Reference(NamedTuple):
    """A persistent identifier in a pickle."""

    said: Any


class Raw(NamedTuple):
    """Instructions of a pickle, as they are."""

    code: bytes


def _whole(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def _name(value: Name) -> bytes:
    module, _, last = value.name.rpartition(".")
    return f"c{module}\n{last}\n".encode()


CODES: dict[type, Callable[[Any], bytes]] = {
    Raw: lambda value: value.code,
    Name: _name,
    Call: lambda value: code(value.function) + code(tuple(value.arguments)) + b"R",
    Reference: lambda value: code(value.said) + b"Q",
    type(None): lambda value: b"N",
    bool: lambda value: b"\x88" if value else b"\x89",
    int: _whole,
    float: lambda value: b"G" + struct.pack(">d", value),
    str: _text,
    tuple: lambda value: b"(" + b"".join(map(code, value)) + b"t",
    list: lambda value: b"](" + b"".join(map(code, value)) + b"e",
    dict: lambda value: b"}(" + b"".join(map(code, chain.from_iterable(value.items()))) + b"u",
}


def code(value: Any) -> bytes:
    """The instructions that torch.save writes for a value, without those that remember it."""
    return CODES[type(value)](value)


def pickled(value: Any) -> bytes:
    return b"\x80\x02" + code(value) + b"."


def storage(kind: str, key: str = "0", count: Any = 6) -> Reference:
    return Reference(("storage", Name(f"torch.{kind}Storage"), key, "cpu", count))


def tensor(
    shape: Any = (2, 3), strides: Any = (3, 1), offset: Any = 0, kind: str = "Float", **more: Any
) -> Call:
    hooks = Call(Name("collections.OrderedDict"), ())
    arguments = (storage(kind, **more), offset, shape, strides, False, hooks)
    return Call(Name("torch._utils._rebuild_tensor_v2"), arguments)


def typed(dtype: str, count: int, shape: Any, strides: Any, offset: int = 0) -> Call:
    hooks = Call(Name("collections.OrderedDict"), ())
    untyped = Reference(("storage", Name("torch.storage.UntypedStorage"), "0", "cpu", count))
    arguments = (untyped, offset, shape, strides, False, hooks, Name(f"torch.{dtype}"))
    return Call(Name("torch._utils._rebuild_tensor_v3"), arguments)


SIX = np.arange(6, dtype="<f4")


def archive(
    value: Any, *storages: bytes, order: bytes = b"little", method: int = zipfile.ZIP_STORED
) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as into:
        into.writestr("x/data.pkl", value if isinstance(value, bytes) else pickled(value))
        into.writestr("x/byteorder", order)
        for key, data in enumerate(storages or (SIX.tobytes(),)):
            into.writestr(f"x/data/{key}", data)
        into.writestr("x/version", b"3\n")
    return stream.getvalue()


MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


def older(value: Any, keys: Any = ("0",), *storages: bytes, protocol: int = 1001) -> bytes:
    said = [protocol, {"little_endian": True}, value, list(keys)]
    return MAGIC + b"".join(map(pickled, said)) + b"".join(storages)


def run_of(array: np.ndarray[Any, Any]) -> bytes:
    """A storage in the older format."""
    return struct.pack("<q", array.size) + array.tobytes()


def arrays(data: bytes) -> dict[str, Any]:
    return read_all(Source("x.pt", data=data))


def read_all(source: Source) -> dict[str, Any]:
    document = read_document(source)
    return {name: member.read().array.tolist() for name, member in document.items()}


WHOLE = SIX.reshape(2, 3).tolist()
TURNED = SIX.reshape(2, 3).T.tolist()


def test_what_pytorch_wrote_is_read() -> None:
    assert arrays(written(LINEAR)) == {"weight": WHOLE, "bias": [0.5, -1]}
    assert arrays(written(PARAMETER)) == {"": WHOLE}
    assert arrays(written(VIEWS)) == {"a": WHOLE, "t": TURNED, "part": [[3, 5]]}
    assert arrays(written(OLDER)) == {"layer.0.w": TURNED, "layer.0.n": WHOLE}
    assert arrays(written(NARROW)) == {
        "b": [[1, -3], [float("inf"), 0.5]],
        "e4": [1, 448, -(2**-9)],
        "e5": [1, 57344],
    }


def test_a_member_is_known_before_it_is_read() -> None:
    document = read_document(Source("x", data=written(NARROW)))
    known = {name: (member.shape, member.stored) for name, member in document.items()}
    assert {name: (shape, stored and stored.name) for name, (shape, stored) in known.items()} == {
        "b": ((2, 2), "bfloat16"),
        "e4": ((3,), "float8_e4m3fn"),
        "e5": ((2,), "float8_e5m2"),
    }
    assert document["b"].held().array.dtype == np.uint16
    assert document["b"].read().array.dtype == np.float32


STORAGES = {
    "Double": "<f8",
    "Float": "<f4",
    "Half": "<f2",
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
    "ComplexFloat": "<c8",
    "ComplexDouble": "<c16",
}


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize("big", [False, True])
def test_every_type_of_numbers_is_read(kind: str, big: bool) -> None:
    held = (np.arange(6) - 3).astype(STORAGES[kind])
    stored = held.astype(held.dtype.newbyteorder(">")) if big else held
    data = archive(tensor(kind=kind), stored.tobytes(), order=b"big" if big else b"little")
    member = read_document(Source("x", data=data))[""]
    assert member.stored is not None
    assert member.stored.name == held.dtype.name
    assert member.read().array.tolist() == held.reshape(2, 3).tolist()
    if not big:
        assert arrays(older(tensor(kind=kind), "0", run_of(held))) == {
            "": held.reshape(2, 3).tolist()
        }


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64", "int16", "float64"])
def test_a_type_may_be_said_beside_bytes(dtype: str) -> None:
    held = np.arange(6, dtype=dtype)
    said = typed(dtype, held.nbytes, (2, 2), (2, 1), 1)
    assert arrays(archive(said, held.tobytes())) == {"": [[1, 2], [3, 4]]}


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "found"),
    [
        ((3, 2), (1, 3), 0, TURNED),
        ((2,), (3,), 2, [2, 5]),
        ((), (), 4, 4),
        ((3, 2), (0, 1), 4, [[4, 5]] * 3),
        ((2, 2), (1, 1), 0, [[0, 1], [1, 2]]),
        ((2, 0), (1, 1), 6, [[], []]),
        ((1, 2), (2**62, 1), 0, [[0, 1]]),
    ],
)
def test_views_of_a_storage_are_read(shape: Any, strides: Any, offset: int, found: Any) -> None:
    said = {"a": tensor(shape, strides, offset), "b": tensor()}
    assert arrays(archive(said)) == {"a": found, "b": WHOLE}
    assert arrays(older(said, "0", run_of(SIX))) == {"a": found, "b": WHOLE}


def test_only_what_a_tensor_spans_is_read(folder: Path) -> None:
    held = np.arange(SMALL, dtype="<f4")
    said = {"all": tensor((SMALL,), (1,), count=SMALL), "two": tensor((2,), (1,), 7, count=SMALL)}
    for data in (archive(said, held.tobytes()), older(said, "0", run_of(held))):
        Path("x.pt").write_bytes(data)
        document = read_document(Source.file(Path("x.pt")))
        tracemalloc.start()
        whole, two = (document[name].read().array for name in ("all", "two"))
        assert tracemalloc.get_traced_memory()[1] < SMALL
        tracemalloc.stop()
        assert (two.tolist(), whole[-1]) == ([7, 8], SMALL - 1)
        assert np.array_equal(whole, held)


def test_part_of_a_storage_is_a_view_in_the_older_format() -> None:
    view = ("storage", Name("torch.FloatStorage"), "0", "cpu", 6, ("1", 2, 4))
    said = Call(Name("torch._utils._rebuild_tensor"), (Reference(view), 1, (3,), (1,)))
    assert arrays(older(said, "0", run_of(SIX))) == {"": [3, 4, 5]}
    beyond = ("storage", Name("torch.FloatStorage"), "0", "cpu", 6, ("1", 3, 4))
    said = Call(Name("torch._utils._rebuild_tensor"), (Reference(beyond), 0, (3,), (1,)))
    with pytest.raises(DataError, match="part of a storage lies beyond it"):
        arrays(older(said, "0", run_of(SIX)))


def test_names_are_the_keys_that_lead_there() -> None:
    ordered = Call(Name("collections.OrderedDict"), ([["w", tensor()]],))  # of Python 2
    said = {
        "model": {"h": [ordered, (1, tensor())], 3: tensor()},
        "epoch": 7,
        "rate": 0.5,
        "note": "\n",
        "\n": [1, None],
        "device": Call(Name("torch.device"), ("cpu",)),
        "type": Name("torch.float32"),
        "size": Call(Name("torch.Size"), ((2, 3),)),
        "set": Call(Name("__builtin__.set"), ([1],)),
    }
    assert list(arrays(archive(said))) == ["model.h.0.w", "model.h.1.1", "model.3"]


def test_attributes_of_a_dict_and_of_a_tensor_are_left_out() -> None:
    ordered = Raw(code(Call(Name("collections.OrderedDict"), ())) + b"X\1\0\0\0w" + code(tensor()))
    metadata = {"_metadata": {"": {"version": 1}}}
    assert arrays(archive(Raw(ordered.code + b"s" + code(metadata) + b"b"))) == {"w": WHOLE}
    inner = (Name("torch._utils._rebuild_tensor_v2"), Name("torch.Tensor"))
    said = Call(Name("torch._tensor._rebuild_from_type_v2"), (*inner, tensor().arguments, {}))
    assert arrays(archive(said)) == {"": WHOLE}


def test_two_tensors_of_one_name_are_refused() -> None:
    for said in ({"a.b": tensor(), "a": {"b": tensor()}}, {1: tensor(), "1": tensor()}):
        with pytest.raises(DataError, match=r"x.pt: two tensors are called (a\.b|1)"):
            arrays(archive(said))


UNREADABLE = {
    "_rebuild_qtensor": "w is quantized; save tensor.dequantize()",
    "_rebuild_sparse_tensor": "w is sparse; save tensor.to_dense()",
    "_rebuild_nested_tensor": "w is nested",
    "_rebuild_meta_tensor_no_storage": "w is on the meta device",
}


@pytest.mark.parametrize("function", UNREADABLE)
def test_tensors_of_other_kinds_are_named_and_the_others_read(function: str) -> None:
    said = {"w": Call(Name(f"torch._utils.{function}"), (tensor(),)), "a": tensor()}
    document = read_document(Source("x.pt", data=archive(said)))
    assert document["a"].read().array.tolist() == WHOLE
    with pytest.raises(DataError) as refused:
        document["w"].read()
    assert str(refused.value).startswith(f"x.pt: {UNREADABLE[function]}")


def test_numbers_that_we_lack_or_are_yet_to_be_changed_are_named() -> None:
    with pytest.raises(DataError, match=r"holds numbers of torch\.float8_e8m0fnu; save tensor\.fl"):
        arrays(archive(typed("float8_e8m0fnu", 6, (6,), (1,))))
    for name in ("neg", "conj"):
        plain = tensor()
        said = Call(plain.function, (*plain.arguments, {name: True}))
        with pytest.raises(DataError, match=rf"save tensor.resolve_{name}\(\)"):
            arrays(archive(said))
    plain = tensor()
    assert arrays(archive(Call(plain.function, (*plain.arguments, {"neg": False})))) == {"": WHOLE}


MODEL = {
    "h.0.q_proj.weight": tensor(),
    "query": tensor(),
    "key": tensor(),
    "value": tensor(),
}


def test_the_program_takes_tensors_by_name_from_files_and_pipes(qkv: Program, folder: Path) -> None:
    npz = io.BytesIO()
    np.savez(npz, query=SIX.reshape(2, 3), key=SIX.reshape(2, 3), value=SIX.reshape(2, 3))
    Path("x.npz").write_bytes(npz.getvalue())
    wanted = qkv("run", "--qkv", "x.npz")
    assert wanted.code == 0
    for data in (archive(MODEL), older(MODEL, "0", run_of(SIX))):
        for name in ("x.pt", "x.pth", "x.ckpt", "x.bin"):
            Path(name).write_bytes(data)
            assert qkv("run", "--qkv", name) == wanted
        assert qkv("run", "--qkv", "-", stdin=data) == wanted
        assert qkv("softmax", "x.bin:h.?.q_proj.weight.T", "-f", "csv").code == 0
    Path("e.csv").write_text("1,2\n3,4\n5,6\n")
    found = qkv(
        *("run", "--embeddings", "e.csv", "--wq", "x.pt:*.q_proj.weight", "--wk", "x.pt:query"),
        *("--wv", "x.pt:value[:, :1]", "-f", "csv"),
    )
    assert found.code == 0, found.err
    turned = qkv(
        *("run", "--embeddings", "x.pt:key", "--wq", "x.pt:*.q_proj.weight.T"),
        *("--wk", "x.pt:query.T", "--wv", "x.pt:value.T", "-f", "csv"),
    )
    assert turned.code == 0, turned.err


def test_it_is_only_read(qkv: Program, folder: Path) -> None:
    for name in ("x.pt", "x.PTH", "x.ckpt"):
        found = qkv("run", "-o", name)
        ending = name[1:].lower()
        assert (found.code, found.out) == (2, "")
        assert found.err.startswith(f"qkvcli: -o {name}: {ending} is only read; use .npz")
        assert not Path(name).exists()
    with pytest.raises(UsageError, match="only read"):
        name_by_ending(Path("a.pt"), "a.pt")


def test_an_archive_is_told_from_npz(folder: Path) -> None:
    npz = io.BytesIO()
    np.savez(npz, query=SIX)
    assert format_by_start(npz.getvalue()) is NPZ
    assert format_by_start(written(LINEAR)) is format_by_start(written(OLDER)) is PT
    Path("x.npz").write_bytes(written(LINEAR))
    with pytest.raises(DataError, match=r"is a PyTorch file; rename it to \.pt"):
        read_document(Source.file(Path("x.npz")))
    Path("x.pt").write_bytes(npz.getvalue())
    with pytest.raises(DataError, match=r"holds no data\.pkl"):
        read_document(Source.file(Path("x.pt")))
    Path("x.pt").write_bytes(b"1,2\n")
    with pytest.raises(DataError, match=r"does not begin as \.pt files do"):
        read_document(Source.file(Path("x.pt")))
    with pytest.raises(DataError, match=r"x\.pt: is a Python pickle, which is never loaded"):
        arrays(pickled({"a": 1}))


def test_torchscript_is_refused() -> None:
    stream = io.BytesIO(archive(tensor()))
    with zipfile.ZipFile(stream, "a") as into:
        into.writestr("x/constants.pkl", pickled(()))
    with pytest.raises(DataError, match="is a TorchScript archive, whose code is never run"):
        arrays(stream.getvalue())


def remembered(*codes: bytes) -> Raw:
    return Raw(b"".join(codes))


def doubled(times: int, last: Any) -> Raw:
    """A list that holds the same list twice, and so on."""
    return Raw(code(last) + b"q\0" + b"0](h\0h\0eq\0" * times)


def patched(data: bytes, at: bytes, offset: int, value: bytes) -> bytes:
    """An archive with other bytes after the last place of some."""
    place = data.rindex(at) + offset
    return data[:place] + value + data[place + len(value) :]


def central(data: bytes, name: bytes, offset: int, value: bytes) -> bytes:
    """An archive whose directory says something else of a member."""
    return patched(data, name, offset - 46, value)


FOUR_BYTES = struct.pack("<I", 10**9)
CELL = Name("torch.float32")
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "os.system by GLOBAL": (
        lambda: archive(Call(Name("os.system"), ("touch ran",))),
        r"holds os\.system, which is never loaded; save tensors alone, such as torch\.save\(mod",
    ),
    "os.system by STACK_GLOBAL": (
        lambda: archive(Raw(code("os") + code("system") + b"\x93" + code(("touch ran",)) + b"R")),
        r"holds os\.system, which",
    ),
    "os.system by INST": (
        lambda: archive(Raw(b"(" + code("touch ran") + b"ios\nsystem\n")),
        r"holds os\.system, which",
    ),
    "os.system in the older format": (
        lambda: older(Call(Name("os.system"), ("touch ran",))),
        r"holds os\.system, which",
    ),
    "builtins.eval": (
        lambda: archive(Call(Name("builtins.eval"), ("open('ran', 'w')",))),
        r"holds builtins\.eval, which",
    ),
    "__builtin__.getattr": (
        lambda: archive(Call(Name("__builtin__.getattr"), (CELL, "__class__"))),
        r"holds builtins\.getattr, which",
    ),
    "a dotted name": (
        lambda: archive(Raw(code("torch") + code("Size.__init__") + b"\x93")),
        r"holds torch\.Size\.__init__, which",
    ),
    "a name of no text": (
        lambda: archive(Raw(code(1) + code(["system"]) + b"\x93")),
        r"which is never loaded",
    ),
    "a name that paints the terminal": (
        lambda: archive(Raw(code("os\x1b[2J\n") + code("x" * 10**6) + b"\x93")),
        r"holds os\\x1b\[2J\\n\.x+…, which",
    ),
    "a call of a type": (lambda: archive(Call(CELL, (1,))), "calls what is no function"),
    "a call of what was called": (
        lambda: archive(Raw(code(Call(Name("torch.Size"), (1,))) + b")R")),
        "calls what is no function",
    ),
    "a call of a type beside attributes": (
        lambda: archive(Call(Name("torch._tensor._rebuild_from_type_v2"), (CELL, CELL, (1,), {}))),
        "calls what makes no tensor",
    ),
    "attributes of a name": (
        lambda: archive(Raw(code(Name("torch._utils._rebuild_tensor_v2")) + code({"a": 1}) + b"b")),
        "sets attributes of what has none",
    ),
    "attributes of a tensor": (
        lambda: archive(Raw(code(tensor()) + code({"shape": (9, 9)}) + b"b")),
        "sets attributes of what has none",
    ),
    "NEWOBJ": (
        lambda: archive(Raw(code(Name("collections.OrderedDict")) + b")\x81")),
        "has NEWOBJ, which torch.save never writes",
    ),
    "an extension": (lambda: archive(Raw(b"\x82\1")), "has EXT1, which"),
    "a buffer": (lambda: archive(Raw(b"\x97")), "has NEXT_BUFFER, which"),
    "a persistent identifier of text": (lambda: archive(Raw(b"P0\n")), "has PERSID, which"),
    "a memo of a billion places": (
        lambda: archive(Raw(b"Nr" + FOUR_BYTES)),
        "numbers what it holds in no order",
    ),
    "a memo below zero": (lambda: archive(Raw(b"Np-1\n")), "numbers what it holds in no order"),
    "a memo that is empty": (lambda: archive(Raw(b"h\7")), "takes what is not there"),
    "an empty stack": (lambda: archive(Raw(b"\x86")), "takes what is not there"),
    "no end": (lambda: archive(b"\x80\x02N"), "not a whole .pt file"),
    "marks that are open": (lambda: archive(Raw(b"N(N")), "does not end where it says"),
    "text of a gigabyte": (lambda: archive(Raw(b"X" + FOUR_BYTES)), "not a whole .pt file"),
    "text of an exabyte": (
        lambda: archive(Raw(b"\x8d" + struct.pack("<Q", 2**62))),
        "not a whole .pt file",
    ),
    "a number of a gigabyte": (lambda: archive(Raw(b"\x8b\xff\xff\xff\x7f")), "not a whole"),
    "ten million marks": (lambda: archive(Raw(b"(" * 10**7)), "more than a file of tensors"),
    "sixty thousand lists in lists": (
        lambda: archive(Raw(b"]" * 60000 + b"a" * 59999)),
        "nested in itself, or too deep",
    ),
    "a hundred thousand tuples as a key": (
        lambda: archive(Raw(b"})" + b"\x85" * 10**5 + code(tensor()) + b"s")),
        "a key is a tuple; use text, or whole numbers",
    ),
    "ten million dicts": (lambda: archive(Raw(b"}" * 10**7)), "more than a file of tensors"),
    "sixteen million bytes": (
        lambda: archive(Raw(b"N0" * 10**7)),
        r"data\.pkl has 20000003 bytes",
    ),
    "a list in itself": (
        lambda: archive(remembered(b"]q\0h\0a")),
        "nested in itself, or too deep",
    ),
    "a dict in itself": (
        lambda: archive(remembered(b"}q\0", code("a"), b"h\0s")),
        "nested in itself, or too deep",
    ),
    "the same list twice, 60 deep": (
        lambda: archive(doubled(60, tensor())),
        "nested in itself, or too deep",
    ),
    "the same list of none twice, 60 deep": (
        lambda: archive(doubled(60, 1)),
        "nested in itself, or too deep",
    ),
    "a tensor seventy thousand times": (
        lambda: archive(remembered(code(tensor()), b"q\0000]", (b"(" + b"h\0" * 35000 + b"e") * 2)),
        "more than 65536 tensors",
    ),
    "a long name": (lambda: archive({"a" * 9999: tensor()}), r"a+… is no name for a tensor"),
    "a name of control characters": (
        lambda: archive({"a\x1b[2J": tensor()}),
        r"a\\x1b\[2J is no name for a tensor",
    ),
    "a key that is a number with a point": (
        lambda: archive({0.5: tensor()}),
        "a key is a float; use text, or whole numbers",
    ),
    "a size beyond the storage": (lambda: archive(tensor((2, 4))), "lies beyond its storage"),
    "a huge size": (lambda: archive(tensor((2**40, 3))), "lies beyond its storage"),
    "a huge size without strides": (
        lambda: archive(tensor((2**40, 3), (0, 1))),
        "repeats 3 numbers too often",
    ),
    "a size beyond 64 bits": (lambda: archive(tensor((2**70,), (0,))), "no whole numbers from 0"),
    "a huge stride": (lambda: archive(tensor(strides=(2**62, 1))), "lies beyond its storage"),
    "a stride below zero": (lambda: archive(tensor(strides=(-3, 1))), "no whole numbers from 0"),
    "an offset below zero": (lambda: archive(tensor(offset=-1)), "no whole numbers from 0"),
    "an offset beyond the storage": (lambda: archive(tensor(offset=1)), "lies beyond its storage"),
    "a size that is true": (lambda: archive(tensor((True, 3))), "no whole numbers from 0"),
    "a size with a point": (lambda: archive(tensor((2.0, 3))), "no whole numbers from 0"),
    "a shape of another length": (lambda: archive(tensor((2, 3, 1))), "have other lengths"),
    "a shape of a thousand axes": (
        lambda: archive(tensor((1,) * 1000, (0,) * 1000)),
        "no list of at most 64 numbers",
    ),
    "a shape that is text": (lambda: archive(tensor("23", "31")), "no list of at most 64"),
    "a tensor of a number": (
        lambda: archive(Call(Name("torch._utils._rebuild_tensor_v2"), (1, 0, (), (), False, None))),
        "a tensor has no storage",
    ),
    "a tensor of too little": (
        lambda: archive(Call(Name("torch._utils._rebuild_tensor_v2"), (storage("Float"),))),
        "not a whole .pt file",
    ),
    "a parameter of a number": (
        lambda: archive(Call(Name("torch._utils._rebuild_parameter"), (1, True, None))),
        "a parameter has no tensor",
    ),
    "more numbers than the storage has": (
        lambda: archive(tensor(count=7)),
        "storage '0' has fewer bytes than a tensor says",
    ),
    "a storage of true numbers": (lambda: archive(tensor(count=True)), "no whole numbers from 0"),
    "a storage of a type": (
        lambda: archive(Reference(("storage", CELL, "0", "cpu", 6))),
        "refers to what is no storage",
    ),
    "a module": (lambda: archive(Reference(("module", CELL, "a", "b"))), "is no storage"),
    "a key outside": (
        lambda: archive(tensor(key="../data.pkl")),
        r"a storage is not there: '\.\./data\.pkl'",
    ),
    "a key that is missing": (lambda: archive(tensor(key="1")), "a storage is not there: '1'"),
    "an archive cut short": (lambda: archive(tensor())[:-30], "not a whole .pt file"),
    "a member that is longer than the archive": (
        lambda: central(
            archive(tensor((10**8,), (1,), count=10**8)),
            b"x/data/0",
            20,
            struct.pack("<II", *[4 * 10**8] * 2),
        ),
        "not whole: it ends before its numbers do",
    ),
    "a member of two sizes": (
        lambda: central(archive(tensor()), b"x/data/0", 24, struct.pack("<I", 48)),
        "x/data/0 is compressed, and torch.save compresses nothing",
    ),
    "a member elsewhere": (
        lambda: central(archive(tensor()), b"x/data/0", 42, struct.pack("<I", 1)),
        "is not where the archive says|Overlapped entries",  # as newer Pythons say
    ),
    "an encrypted member": (
        lambda: central(archive(tensor()), b"x/data/0", 8, b"\1"),
        "x/data/0 is encrypted",
    ),
    "a compressed archive": (
        lambda: archive(tensor(), method=zipfile.ZIP_DEFLATED),
        "is compressed, and torch.save compresses nothing",
    ),
    "another version": (lambda: older(tensor(), protocol=1000), "its version is not 1001"),
    "no list of storages": (
        lambda: MAGIC + b"".join(map(pickled, [1001, {}, tensor(), {}])),
        "no list of its storages",
    ),
    "a storage twice": (lambda: older(tensor(), "00", run_of(SIX), run_of(SIX)), "twice"),
    "a storage of nothing": (lambda: older(tensor(), "01", run_of(SIX)), "that no tensor has"),
    "a storage that is cut": (
        lambda: older(tensor(), "0", run_of(SIX)[:-1]),
        "ends before its numbers do",
    ),
    "a storage of fewer": (lambda: older(tensor(), "0", run_of(SIX[:5])), "has fewer bytes"),
    "a storage of less than none": (
        lambda: older(tensor(), "0", struct.pack("<q", -6)),
        "ends before its numbers do",
    ),
    "storages without a count": (lambda: older(tensor(), "0"), "ends before its numbers do"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("in_file", [False, True])
def test_a_hostile_file_is_refused_at_once(folder: Path, name: str, in_file: bool) -> None:
    make, message = HOSTILE[name]
    data = make()
    Path("x.pt").write_bytes(data)
    source = Source.file(Path("x.pt")) if in_file else Source("x.pt", data=data)
    begun = time.process_time()
    with pytest.raises(DataError, match=message) as refused:
        read_all(source)
    assert time.process_time() - begun < 5  # seconds; a loaded machine takes one
    assert str(refused.value).startswith("x.pt: ")
    assert len(str(refused.value)) < 300
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "name", ["ten million marks", "ten million dicts", "a tensor seventy thousand times"]
)
def test_a_hostile_file_takes_little_memory(name: str) -> None:
    data = HOSTILE[name][0]()
    tracemalloc.start()
    with pytest.raises(DataError):
        read_document(Source("x.pt", data=data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26
