"""``PATH[:MEMBER][SLICE]`` and ``.T``: the same numbers as NumPy's own indexing gives."""

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkvcli.core.operands import Array, Operand
from qkvcli.errors import DataError
from qkvcli.formats.address import Address, Part, index_of, readings
from qkvcli.formats.members import Member, held_in, matching, named
from tests.conftest import SAMPLES, Program

RNG = np.random.default_rng(12)
ACTS: dict[str, Any] = {
    name: RNG.normal(size=(2, 3, 5, 4)) for name in ("query_states", "key_states", "other")
}


def save(name: str, arrays: dict[str, Any]) -> None:
    np.savez(name, **arrays)


@pytest.fixture
def acts(folder: Path) -> dict[str, Array]:
    """The same arrays in files of several formats."""
    save("acts.npz", ACTS)
    np.savez_compressed("small.npz", **ACTS)
    Path("dump.json").write_text(json.dumps({name: a.tolist() for name, a in ACTS.items()}))
    np.save("x.npy", ACTS["other"])
    return ACTS


def read(qkv: Program, *words: object, **more: Any) -> Array:
    """The array that a command line gives."""
    found = qkv(*words, "-f", "npy", **more)
    assert found.code == 0, found.err
    array: Array = np.load(io.BytesIO(found.data))
    return array


def query(qkv: Program, address: str, **more: Any) -> Array:
    """The queries that an address is read as."""
    words = ["run", "-q", address, "-k", "one.npy", "-v", "one.npy", "--show", "query"]
    width = more.pop("width")
    np.save("one.npy", np.zeros((1, width)))
    return read(qkv, *words, **more)


@pytest.mark.parametrize("file", ["acts.npz", "small.npz", "dump.json"])
@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (":query_states", lambda a: a["query_states"]),
        (":QUERY_states", lambda a: a["query_states"]),
        ("", lambda a: a["query_states"]),
        ("[1]", lambda a: a["query_states"][1]),
        (":other[1, :, 3]", lambda a: a["other"][1, :, 3]),
        (":other[..., 0, :]", lambda a: a["other"][..., 0, :]),
        (":other[0, 1, ::-2, -3:]", lambda a: a["other"][0, 1, ::-2, -3:]),
        (":other[1, 2, None, 3]", lambda a: a["other"][1, 2, None, 3]),
        (":o*[0][1]", None),
        (":o?her[0,0].T", lambda a: a["other"][0, 0].T),
        (":other.T", lambda a: a["other"].swapaxes(-1, -2)),
        (".T", lambda a: a["query_states"].swapaxes(-1, -2)),
    ],
)
def test_an_address_gives_what_numpy_gives(
    qkv: Program, acts: dict[str, Array], file: str, rest: str, expected: Any
) -> None:
    if expected is None:
        assert qkv("scores", "-q", f"{file}{rest}", "-k", "x.npy").code == 3
        return
    array = expected(acts)
    np.testing.assert_array_equal(query(qkv, f"{file}{rest}", width=array.shape[-1]), array)


def test_an_address_is_taken_wherever_a_file_is(qkv: Program, acts: dict[str, Array]) -> None:
    q, k, v = (acts[name][1, 2] for name in ("query_states", "key_states", "other"))
    np.savez("layer.npz", x=q, w=np.arange(24.0).reshape(6, 4), m=np.eye(5)[None] * [[[7.0]]])
    weights = read(qkv, "softmax", "-q", "acts.npz[1,2]", "-k", "acts.npz[1,2]")
    assert read(qkv, "output", "acts.npz:other[1,2]", "-v", "x.npy[1, 2, :4]").shape == (5, 4)
    np.testing.assert_allclose(
        read(
            qkv, "scores", "-q", "acts.npz[1,2]", "-k", "acts.npz[1,2]", "--mask", "layer.npz:m[0]"
        ),
        q @ k.T + 7 * np.eye(5),
    )
    projected = read(
        qkv, "scores", "--embeddings", "layer.npz", "--wq", "layer.npz:w.T", "--wk", "layer.npz:w.T"
    )
    w = np.arange(24.0).reshape(6, 4).T
    np.testing.assert_allclose(projected, (q @ w) @ (q @ w).T)
    np.save("weights.npy", np.stack([weights, weights + 1]))
    words = ["softmax", "-q", "acts.npz[1,2]", "-k", "acts.npz[1,2]", "--expect"]
    assert [qkv(*words, f"weights.npy[{i}]").code for i in (0, 1)] == [0, 1]
    words = ["run", "--qkv", "acts.npz:{query_states,key_states,other}[1,2]", "--show", "output"]
    np.testing.assert_allclose(read(qkv, *words), weights @ v)


def test_three_matrices_may_be_named_at_once(qkv: Program, acts: dict[str, Array]) -> None:
    expected = ACTS["query_states"][0] @ ACTS["key_states"][0].swapaxes(-1, -2)
    for address in ("acts.npz:{query,key}_states[0]", "acts.npz[0]", "acts.npz:*_states[0]"):
        np.testing.assert_allclose(read(qkv, "scores", "--qkv", address), expected)
    missing = qkv("run", "--qkv", "acts.npz:{query,key}_states[0]")
    assert (missing.code, "no name for the value" in missing.err) == (3, True)
    data = Path("acts.npz").read_bytes()
    for words in (["--qkv", "-[0]"], ["--qkv", "-:{query,key}_states[0]"]):
        found = qkv("scores", *words, "-f", "npy", stdin=data)
        np.testing.assert_allclose(np.load(io.BytesIO(found.data)), expected)
    np.save("query.npy", ACTS["query_states"])
    np.save("k.npy", ACTS["key_states"])
    np.testing.assert_allclose(read(qkv, "scores", "--qkv", ".[0]"), expected)


def test_the_path_as_it_stands_comes_first(qkv: Program, folder: Path) -> None:
    arrays = {"a:b.npy": 1, "w[3].npy": 2, "w.npy.T": 3, "w.npy": 4, "a": 5}
    for name, number in arrays.items():
        with Path(name).open("wb") as file:
            np.save(file, np.full((2, 2), float(number)))
    save("m.npz", {"a": np.full((2, 2), 6.0), "a[0]": np.full((2, 2), 7.0)})
    save("t.npz", {"w.T": np.full((1, 2), 8.0), "w": np.full((1, 2), 9.0)})
    arrays |= {"m.npz:a": 6, "m.npz:a[0]": 7, "t.npz:w.T": 8, "t.npz:w": 9, "m.npz:a[0][0:1]": 7}
    for name, number in arrays.items():
        assert (query(qkv, name, width=2) == number).all()


FAULTS = {
    "acts.npz:querystates": "acts.npz: there is no 'querystates' in it; it holds query_states (2, "
    "3, 5, 4), key_states (2, 3, 5, 4), other (2, 3, 5, 4)",
    "acts.npz:*_states": "acts.npz: *_states fits 2 names, and must fit one: query_states (2, 3, "
    "5, 4), key_states (2, 3, 5, 4)",
    "acts.npz:*_stats[0]": "acts.npz: nothing fits '*_stats' in it; it holds",
    "acts.npz:other[2]": "acts.npz: [2] of (2, 3, 5, 4): index 2 is out of bounds",
    "acts.npz:other[0,0,0,0,0]": "[0,0,0,0,0] names 5 axes, and there are 4: (2, 3, 5, 4)",
    "acts.npz:other[0,0,0].T": ".T turns the last two axes, and there are no two: (4,)",
    "acts.npz:": "no member is named after the colon",
    "acts.npz[a]": "acts.npz[a]: [a] is no slice such as [0], [:, 3] or [..., 0:2]",
    "acts.npz[::0]": "acts.npz[::0]: [::0] is no slice",
    "acts.npz[0": "acts.npz[0: not there; if it is half a slice, quote the whole",
    "gone.npz:q[0]": "gone.npz: cannot be read: No such file",
    "gone.npz[0].T": "gone.npz: cannot be read: No such file",
    "gone": "gone: cannot be read: No such file",
    "x.npy:q": "x.npy: there is no 'q' in it; it holds an array without a name (2, 3, 5, 4)",
    "twice.json": "holds query_states and queries, and each may be query; name one, as",
}


@pytest.mark.parametrize("address", FAULTS)
def test_what_an_address_does_not_find(qkv: Program, acts: dict[str, Array], address: str) -> None:
    Path("twice.json").write_text('{"queries": [[1]], "query_states": [[1]]}')
    found = qkv("scores", "-q", address, "-k", "x.npy")
    assert FAULTS[address] in found.err
    assert (found.code, found.err.count("\n"), found.out) == (3, 1, "")


@pytest.mark.parametrize(
    ("names", "role"),
    [
        ("query_states key_states value_states", "query key value"),
        ("queries keys values", "query key value"),
        ("XQ XK XV", "query key value"),
        ("blocks.3.attn.q_proj blocks.3.attn.k_proj blocks.3.attn.v_proj", "query key value"),
        ("to_q to_k to_v", "query key value"),
        ("l.query_layer l.key_layer l.value_layer", "query key value"),
    ],
)
def test_names_that_people_use_are_known(qkv: Program, folder: Path, names: str, role: str) -> None:
    arrays = [RNG.normal(size=(3, 2)) for _ in range(3)]
    save("a.npz", dict(zip(names.split(), arrays, strict=True)))
    shown = json.loads(qkv("run", "--qkv", "a.npz", "--show", "all", "-f", "json").out)
    for name, array in zip(role.split(), arrays, strict=True):
        assert shown[name]["data"] == array.tolist()


@pytest.mark.parametrize(
    ("modules", "end"),
    [("q_proj k_proj o_proj", "o_proj"), ("query key out_proj", "out_proj"), ("wq wk wo", "wo")],
)
def test_a_layers_own_names_are_known(qkv: Program, folder: Path, modules: str, end: str) -> None:
    q, k, o = modules.split()
    arrays = {f"layer.{m}.{part}": RNG.normal(size=(4, 4) if part == "weight" else 4)
              for m in (q, k, o) for part in ("weight", "bias")}  # fmt: skip
    save("a.npz", arrays)
    x = RNG.normal(size=(3, 4))
    np.save("x.npy", x)
    files = [f"--{kind}{side}=a.npz" for kind in "wb" for side in "qk"]
    found = qkv("scores", "--embeddings", "x.npy", *files, "-f", "json")
    made = [x @ arrays[f"layer.{m}.weight"] + arrays[f"layer.{m}.bias"] for m in (q, k)]
    np.testing.assert_allclose(json.loads(found.out)["scores"]["data"], made[0] @ made[1].T)
    assert "read as (in, out)" in found.err  # they are square


def test_weights_that_are_turned_the_other_way_are_told_of_t(qkv: Program, folder: Path) -> None:
    save("m.npz", {"h.0.q_proj.weight": np.ones((6, 4)), "h.0.q_proj.bias": np.ones(6)})
    np.save("x.npy", np.ones((2, 4)))
    words = ["scores", "--embeddings", "x.npy", "--wk", "m.npz:h.0.q*t.T", "--wq"]
    wrong = qkv(*words, "m.npz:h.0.q*t")
    assert (wrong.code, "add .T to its name" in wrong.err) == (3, True)
    assert "from m.npz:h.0.q_proj.weight" in wrong.err
    right = qkv(*words, "m.npz:h.0.q*t.T")
    assert right.out == "96.0,96.0\n96.0,96.0\n"
    assert right.err == "note: m.npz also has h.0.q_proj.bias; --bq, --bk would take them\n"


def test_only_what_is_asked_for_is_read(folder: Path) -> None:
    """A terabyte of numbers, of which there is one page on the disk."""
    shape = (2**20, 2**18)
    with Path("large.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        file.truncate(start + 4 * shape[0] * shape[1])
        file.seek(start + 4 * (7 * shape[1] + 3))
        file.write(np.float32(5).tobytes())
    from qkvcli.formats.files import address_of, read_document, taken
    from qkvcli.formats.source import Source

    address = address_of("large.npy[6:8, 2:4].T")
    document = read_document(Source.file(address.path))
    found = taken(document, address, "query", "large.npy")
    assert found.array.tolist() == [[0, 0], [0, 5]]


def test_a_large_member_of_an_archive_is_mapped(folder: Path) -> None:
    array = RNG.normal(size=(1025, 1024)).astype(">f4")
    np.savez("l.npz", a=array, f=np.asfortranarray(array))
    np.savez_compressed("c.npz", a=array, f=np.asfortranarray(array))
    from qkvcli.formats.files import read_document
    from qkvcli.formats.source import Source

    for file, mapped in (("l.npz", True), ("c.npz", False)):
        document = read_document(Source.file(Path(file)))
        for name in "af":
            found = document[name].read().array
            np.testing.assert_array_equal(found, array)
            assert found.flags.writeable != mapped


def test_labels_go_with_their_rows_and_columns(qkv: Program) -> None:
    file = SAMPLES / "cat_sat_mat" / "query.csv"
    text = file.read_text().splitlines()
    for part, rows in (("[1:4:2]", [2, 4]), ("[-1:]", [6])):
        found = qkv("scores", "-k", file, "-f", "csv", "-q", f"{file}{part}").out.splitlines()
        assert [line.split(",")[0] for line in found[1:]] == [text[i].split(",")[0] for i in rows]


AXIS = st.one_of(
    st.integers(-4, 4),
    st.builds(slice, *[st.none() | st.integers(-5, 5)] * 2, st.sampled_from([None, 1, -1, 2, -3])),
    st.none(),
    st.just(...),
)


@given(st.lists(AXIS, min_size=1, max_size=6), st.booleans())
def test_the_part_of_an_operand_is_numpys(index: list[Any], turned: bool) -> None:
    """Numbers, and for the last two axes their labels."""
    array = np.arange(60).reshape(3, 4, 5)
    rows, columns = tuple("abcd"), tuple("vwxyz")
    operand = Operand(array, rows=rows, columns=columns)
    text = ", ".join(
        "..." if item is ... else str(item) if not isinstance(item, slice)
        else ":".join("" if n is None else str(n) for n in (item.start, item.stop, item.step))
        for item in index
    )  # fmt: skip
    if index.count(...) > 1:
        assert index_of(text) is None
        return
    assert index_of(text) == tuple(
        item if not isinstance(item, slice) else slice(item.start, item.stop, item.step)
        for item in index
    )
    part = Part(index_of(text), turned, text)
    try:
        expected = array[tuple(index)]
        expected = expected.swapaxes(-1, -2) if turned and expected.ndim > 1 else expected
    except IndexError:
        expected = np.zeros(())
    if expected.ndim < (2 if turned else 1):
        return
    found = part.of(operand)
    np.testing.assert_array_equal(found.array, expected)
    for labels, axis in ((found.rows, -2), (found.columns, -1)):
        if labels is None:
            continue
        along = np.moveaxis(found.array, axis, -1)
        for place in np.ndindex(along.shape[:-1]):
            numbers = along[place]
            own = [rows[n // 5 % 4] for n in numbers], [columns[n % 5] for n in numbers]
            assert list(labels) in own


@given(st.text(alphabet="aq:[]0.T,*-", max_size=12))
def test_any_text_is_an_address_or_bad_data(text: str) -> None:
    try:
        address = Address.of(text or "x")
    except DataError:
        return
    assert address.text == (text or "x")
    assert next(name for name, _ in readings(text)) == text


def test_thousands_of_names_are_sorted_in_time() -> None:
    document = {
        f"model.layers.{i}.self_attn.{m}_proj.weight": Member(lambda: Operand(np.eye(1)), (1, 1))
        for i in range(2000)
        for m in "qkvo"
    }
    shown = held_in(document, [".layers.1234..q_prj.weight"])
    assert shown.startswith("model.layers.1234.self_attn.q_proj.weight (1, 1), ")
    name, part = named(document, "*.1234.*.q_*[0]", "x")
    assert (name, part.index) == ("model.layers.1234.self_attn.q_proj.weight", (0,))


def test_each_option_takes_its_name_of_those_in_braces(qkv: Program, folder: Path) -> None:
    arrays = {f"h.{i}.{m}_proj.weight": RNG.normal(size=(4, 3)) for i in (0, 1) for m in "qkv"}
    arrays |= {f"h.{i}.o_proj.weight": RNG.normal(size=(3, 4)) for i in (0, 1)}
    save("m.npz", arrays | {"{a,b}": np.eye(3)})
    np.save("x.npy", np.eye(3))
    words = [f"--w{side}=m.npz:*.1.{{q,k,v,o}}_proj.weight.T" for side in "qkvo"]
    q, k, v, o = (arrays[f"h.1.{m}_proj.weight"].T for m in "qkvo")
    scores = q @ k.T
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    projected = read(qkv, "output", "--embeddings", "x.npy", *words, "--show", "projected")
    np.testing.assert_allclose(projected, weights @ v @ o)
    assert query(qkv, "m.npz:{a,b}", width=3).tolist() == np.eye(3).tolist()
    few = qkv("output", "--embeddings", "x.npy", *words[:3], "--wo=m.npz:*.1.{q,k,v}_proj.weight")
    assert (few.code, "{q,k,v} has no name for the wo" in few.err) == (3, True)


def test_a_checkpoint_of_several_files_is_read_by_its_index(qkv: Program, folder: Path) -> None:
    save("a.npz", {"h.0.q": np.eye(2), "h.0.k": 2 * np.eye(2)})
    save("b.npz", {"h.1.q": 3 * np.eye(2)})
    places = {"h.0.q": "a.npz", "h.0.k": "a.npz", "h.1.q": "b.npz", "h.2.q": "c.npz"}
    index = Path("m.safetensors.index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert query(qkv, f"{index}:h.1.q", width=2).tolist() == [[3, 0], [0, 3]]
    gone = qkv("scores", "-q", f"{index}:h.2.q", "-k", f"{index}:*.0.k")
    assert (gone.code, "c.npz: cannot be read: it is not there" in gone.err) == (3, True)
    index.write_text(json.dumps({"weight_map": {"q": "../a.npz"}}))
    outside = qkv("scores", "-q", f"{index}:q", "-k", f"{index}:q")
    assert (outside.code, "'../a.npz' is no file of tensors beside it" in outside.err) == (3, True)
    for text in ("[]", "{}", '{"weight_map": [1]}', '{"weight_map": {"q": 1}}', "[" * 9999, "{"):
        index.write_text(text)
        wrong = qkv("scores", "-q", f"{index}:q", "-k", f"{index}:q")
        assert (wrong.code, wrong.err.count("\n")) == (3, 1)
        assert "not the index of a checkpoint" in wrong.err


def test_objects_within_objects_have_names_with_points(qkv: Program, folder: Path) -> None:
    layers = {"layers": {"0": {"q": [[1, 2]], "k": {"rows": ["a"], "data": [[3, 4]]}}}, "n": {}}
    Path("d.json").write_text(json.dumps(layers))
    assert qkv("scores", "-q", "d.json:layers.0.q", "-k", "d.json:*.k").out == ",a\n0,11.0\n"
    deep = {"q": [[1.0]]}
    for _ in range(200):
        deep = {"a": deep}  # type: ignore[dict-item]
    Path("deep.json").write_text(json.dumps(deep))
    wrong = qkv("scores", "-q", "deep.json", "-k", "d.json:*.k")
    assert (wrong.code, wrong.err.count("\n")) == (3, 1)


def test_a_name_with_stars_is_reached_as_it_stands(qkv: Program, folder: Path) -> None:
    save("s.npz", {"a*": np.eye(1), "ab": 2 * np.eye(1), "?": 3 * np.eye(1), "Q[0]": np.eye(2)})
    for name, number in (("a*", 1), ("?", 3), ("ab", 2)):
        assert query(qkv, f"s.npz:{name}", width=1).tolist() == [[number]]
        [told] = json.loads(qkv("inspect", f"s.npz:{name}", "-f", "json").out)
        assert (told["name"], told["max"]) == (name, number)


def test_a_long_name_is_no_work_for_a_pattern() -> None:
    started = time.monotonic()
    assert matching(["a" * 200_000], "a*a*a*a*a*ab") == []
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("name", ["m.safetensors", "m.json", "m.npz"])
def test_names_that_are_no_text_are_bad_data(qkv: Program, folder: Path, name: str) -> None:
    if name == "m.json":
        Path(name).write_text('{"\\ud800": [[1]]}')
    else:
        header = b'{"\\ud800":{"dtype":"U8","shape":[1,1],"data_offsets":[0,1]}}'
        Path(name).write_bytes(len(header).to_bytes(8, "little") + header + b"1")
    wrong = qkv("inspect", name, "-f", "csv")
    assert (wrong.code, wrong.err.count("\n")) == (3, 1)


def test_half_a_slice_and_what_is_none_are_told_for_what_they_are(
    qkv: Program, acts: dict[str, Array]
) -> None:
    for address, said in (
        ("acts.npz:other[0,", "[0, is no slice such as"),
        (":3]", "if it is half a slice, quote the whole"),
        ("acts.npz:other[a]", "acts.npz:other is there, and [a] is no slice such as"),
        ("acts.npz:other[[0,1]]", "acts.npz:other is there, and [[0,1]] is no slice"),
        ("acts.npz:other.T[0]", "acts.npz:other is there, and .T[0] is no slice such as [0], "),
    ):
        for words in (["-q", address, "-k", "x.npy"], ["-k", address, "-q", "x.npy"]):
            wrong = qkv("scores", *words)
            assert (wrong.code, said in wrong.err) == (3, True), wrong.err
    half = qkv("softmax", "-q", "acts.npz:other[0,", ":3]", "-k", "x.npy")
    assert (half.code, "half a slice" in half.err) == (3, True)


def test_a_file_is_named_once(qkv: Program, acts: dict[str, Array]) -> None:
    words = ["scores", "-k", "acts.npz:other"]
    same = qkv(*words, "-q", "acts.npz", "--query=acts.npz")
    assert same.code == 0
    for more in (["-q", "x.npy", "-q", "acts.npz"], ["--query=x.npy", "-q", "acts.npz"]):
        wrong = qkv(*words, *more)
        assert wrong.code == 2
        assert "--query stands there twice, with x.npy and acts.npz; keep one" in wrong.err


def test_more_axes_than_numpy_broadcasts(qkv: Program, folder: Path) -> None:
    np.save("deep.npy", np.ones((1,) * 40))
    wrong = qkv("scores", "-q", "deep.npy", "-k", "deep.npy")
    assert (wrong.code, "40 axes are more than 32" in wrong.err) == (3, True)


def test_biases_and_turned_weights_are_told_by_their_names(qkv: Program, folder: Path) -> None:
    arrays = {"in_proj_weight": np.ones((12, 4)), "in_proj_bias": np.ones(12)}
    arrays |= {"h.c_proj.weight": np.ones((4, 4)), "mlp.gate_proj.weight": np.ones((4, 4))}
    save("m.npz", arrays)
    np.save("x.npy", np.ones((2, 4)))
    words = ["scores", "--embeddings", "x.npy", "--wk", "m.npz:in_proj_weight[4:8].T", "--wq"]
    plain = qkv(*words, "m.npz:in_proj_weight[:4]").err
    assert "--wq (4, 4): read as (in, out); nn.Linear keeps (out, in)" in plain
    assert "m.npz also has in_proj_bias; --bk, --bq would take them" in plain
    assert "gate" not in plain
    assert "--wq (4, 4)" not in qkv(*words, "m.npz:in_proj_weight[:4].T").err
    assert "--wq (4, 4)" not in qkv(*words, "m.npz:h.c_proj.weight").err
    flax = qkv(*words, "m.npz:in_proj_weight[:4, None]")
    assert "a projection has the axes (m, d); one head of (m, H, d) is [:, 0]" in flax.err


def test_two_names_that_become_one_are_bad_data(qkv: Program, folder: Path) -> None:
    Path("c.json").write_text('{"a.b": [[1, 2]], "a": {"b": [[9, 9]]}}')
    wrong = qkv("inspect", "c.json")
    assert wrong.code == 3
    assert "two matrices are called a.b; keep one" in wrong.err + wrong.out


def test_an_object_called_data_holds_others(qkv: Program, folder: Path) -> None:
    Path("d.json").write_text('{"data": {"q": [[1, 2]], "k": {"shape": [1, 2], "data": [[3, 4]]}}}')
    assert qkv("scores", "-q", "d.json:data.q", "-k", "d.json:data.k").out == "11.0\n"


def test_a_step_is_expected_through_an_index(qkv: Program, folder: Path) -> None:
    save("w.npz", {"weights": np.array([[0.5, 0.5]])})
    index = Path("w.index.json")
    index.write_text(json.dumps({"weight_map": {"weights": "w.npz", "gone": "x" * 300}}))
    np.save("s.npy", np.zeros((1, 2)))
    for address in ("w.index.json:weights", "w.index.json"):
        assert qkv("softmax", "s.npy", "--expect", address).code == 0
    gone = qkv("inspect", "w.index.json:gone")
    assert (gone.code, "cannot be read: it is not there" in gone.err) == (3, True)
    index.write_text(json.dumps({"weight_map": {"q": "w.index.json"}}))
    assert "'w.index.json' is no file of tensors beside it" in qkv("inspect", "w.index.json").err
