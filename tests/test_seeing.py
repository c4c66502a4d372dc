"""What can be seen, and where from: examples, folders, steps by name, heads, the strongest keys."""

import csv
import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import qkvcli
from qkvcli.cli.examples import EXAMPLES, samples
from qkvcli.core.facts import Facts, Ranked, Weighed, effective_keys, largest, left_to_sink, top
from qkvcli.core.operands import PARTS
from qkvcli.core.steps import Outline
from qkvcli.formats.long_form import write_long
from tests.conftest import ROOT, SAMPLES, Program
from tests.layers import words_of


def steps(qkv: Program, *words: object) -> dict[str, np.ndarray[Any, Any]]:
    """The steps that a command line gives, by name."""
    result = qkv(*words, "-f", "npz")
    assert result.err == ""
    return dict(np.load(io.BytesIO(result.data)))


def files(folder: str, ending: str) -> list[object]:
    parts = ("query", "key", "value")
    return [w for n in parts for w in (f"--{n}", SAMPLES / folder / f"{n}.{ending}")]


# an example, and the command line that it stands for
SAME: dict[str, list[object]] = {
    "article": [],
    "cat": files("cat_sat_mat", "csv"),
    "translation": ["--qkv", SAMPLES / "translation" / "qkv.json"],
    "bert": [*files("bert", "npy"), "--heads", 12, "--scale", "sqrt"],
    "gpt": [*files("gpt", "npy"), "--scale", "sqrt", "--causal"],
    "karim": [
        *(w for n in ("wq", "wk", "wv") for w in (f"--{n}", SAMPLES / "karim" / f"{n}.csv")),
        *("--embeddings", SAMPLES / "karim" / "x.csv"),
    ],
    "tensorflow": [*files("tensorflow", "csv"), "--scale", "sqrt"],
    "layer": [*words_of("qwen3_next")],
}


def test_every_folder_of_samples_is_an_example() -> None:
    folders = {path.name for path in SAMPLES.iterdir() if path.is_dir()}
    folders.remove("checkpoint")  # weights alone
    known = {name.split("/")[0] for one in EXAMPLES.values() for name in one.files.values()}
    assert (known, set(SAME)) == (folders, set(EXAMPLES))
    assert samples() == SAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_stands_for_its_files(qkv: Program, name: str) -> None:
    found, typed = steps(qkv, "run", "--example", name), steps(qkv, "run", *SAME[name])
    assert list(found) == list(typed)
    for step, array in found.items():
        np.testing.assert_array_equal(array, typed[step])


@pytest.mark.parametrize("name", ["bert", "gpt"])
def test_the_examples_of_models_give_the_models_own_weights(qkv: Program, name: str) -> None:
    found = steps(qkv, "run", "--example", name)
    for step in ("weights", "output"):
        model = np.load(SAMPLES / name / f"{step}.npy")
        np.testing.assert_allclose(found[step], model, atol=2e-5)


def test_options_win_over_those_of_an_example(qkv: Program) -> None:
    one = json.loads(qkv("run", "--example", "bert", "--heads", 6, "-f", "json").out)
    assert one["weights"]["shape"] == [6, 9, 9]
    assert list(one) == ["scores", "scaled", "weights", "output"]
    bare = json.loads(qkv("run", "--example", "gpt", "--preset", "article", "-f", "json").out)
    assert list(bare) == ["scores", "weights", "output"]
    labels = qkv("softmax", "--example", "gpt", "--labels", "a b c d e f g", "-f", "json").out
    assert json.loads(labels)["weights"]["rows"] == list("abcdefg")
    clash = qkv("run", "--example", "cat", "-q", "q.csv")
    assert (clash.code, clash.out) == (2, "")
    assert "--query and --example both say where Q, K and V come from" in clash.err
    near = qkv("run", "--example", "brt")
    assert near.code == 2
    assert "did you mean bert?" in near.err


def test_an_example_beside_a_step_that_is_given(qkv: Program) -> None:
    weights = qkv("softmax", "--example", "bert", "-f", "npy").data
    joined = qkv("output", "-", "--example", "bert", "-f", "npy", stdin=weights).data
    model = np.load(SAMPLES / "bert" / "output.npy")
    np.testing.assert_allclose(np.load(io.BytesIO(joined)), model, atol=2e-5)
    scores = qkv("scores", "--example", "cat").out
    assert qkv("softmax", "-", "--example", "cat", stdin=scores).out == (
        qkv("softmax", "--example", "cat").out
    )


def test_the_examples_are_in_the_wheel(folder: Path) -> None:
    """The installed package has them, from the one folder of samples."""
    words = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", ".", str(ROOT)]
    built = subprocess.run(words, capture_output=True, text=True)
    if "No matching distribution found for hatchling" in built.stderr:
        pytest.skip("there is no network to fetch what builds a wheel")
    assert built.returncode == 0, built.stderr
    [wheel] = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), "site"], check=True)
    script = "import sys; sys.path.insert(0, 'site'); from qkvcli.cli import main; main()"
    words = [sys.executable, "-P", "-c", script] if sys.version_info >= (3, 11) else []
    if words:
        ended = subprocess.run(
            [*words, "softmax", "--example", "karim", "--digits", "2"],
            capture_output=True,
            text=True,
        )
        assert (ended.returncode, ended.stdout.splitlines()[0]) == (0, "0.06,0.47,0.47")
    names = {path.relative_to("site").as_posix() for path in Path("site").rglob("*.*")}
    assert "qkvcli/sample_inputs/bert/query.npy" in names
    assert not [name for name in names if name.startswith("sample_inputs")]


def test_a_folder_holds_q_k_and_v(qkv: Program, folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("Q.npy", "key.csv", "v.JSON", "output.npy", "notes.md"):
        Path(name).write_text("")
    query, key, value = rng.random((3, 2, 4))
    np.save("Q.npy", query)
    np.savetxt("key.csv", key, delimiter=",")
    Path("v.JSON").write_text(json.dumps(value.tolist()))
    found = qkv("run", "--qkv", ".", "-f", "npy").data
    np.testing.assert_allclose(np.load(io.BytesIO(found)), qkvcli.attend(query, key, value).output)
    assert qkv("softmax", "--qkv", SAMPLES / "bert", "--heads", 12).code == 0
    twice = qkv("softmax", "--qkv", SAMPLES / "article")  # as .csv and as .npy, the same
    assert twice.out == qkv("softmax", "--example", "article").out
    np.save("k.npy", key + 1)
    clash = qkv("softmax", "--qkv", folder)
    assert clash.code == 3
    assert "k.npy and key.csv differ, and each may be key" in clash.err
    Path("Q.npy").unlink()
    Path("k.npy").unlink()
    missing = qkv("softmax", "--qkv", folder)
    assert missing.code == 3
    assert "there is no file called query or q in it" in missing.err


def test_labels_set_how_many_are_drawn(qkv: Program) -> None:
    few = json.loads(qkv("run", "--seed", 1, "--labels", "a b c", "-f", "json").out)
    assert (few["scores"]["shape"], few["scores"]["rows"]) == ([3, 3], ["a", "b", "c"])
    wide = json.loads(
        qkv("run", "--seed", 1, "--labels", "a b", "--key-labels", "x y z", "-f", "json").out
    )
    assert (wide["weights"]["shape"], wide["weights"]["columns"]) == ([2, 3], ["x", "y", "z"])
    clash = qkv("run", "--seed", 1, "--labels", "a b", "--length", 3)
    assert clash.err == "qkvcli: --labels names 2, and there are 3 queries\n"


@pytest.mark.parametrize("command", ["scores", "softmax", "output", "run"])
def test_the_articles_tokens_are_named_on_pages_and_not_in_data(
    qkv: Program, folder: Path, command: str
) -> None:
    words = [command, "--seed", 42]
    page = qkv(*words, "-f", "table", "-o", "data.csv", "-o", "data.csv").out
    assert re.search("^cat  ", page, re.M)
    assert "| cat |" in qkv(*words, "-f", "markdown").out
    assert "cat" not in Path("data.csv").read_text()
    assert "cat" not in qkv(*words, "-f", "csv").out + qkv(*words, "-f", "json").out
    for other in (["--length", 5], ["--dim", 3], ["--key-length", 5]):
        assert not re.search("^cat  ", qkv(*words, *other, "-f", "table").out, re.M)


def test_any_step_can_be_shown_piped_and_saved(qkv: Program, folder: Path) -> None:
    words = ["run", "--example", "gpt"]
    everything = steps(qkv, *words, "--show", "all")
    assert list(everything) == [*PARTS, "scores", "scaled", "masked", "weights", "output"]
    for name, array in everything.items():
        alone = np.load(io.BytesIO(qkv(*words, "--show", name, "-f", "npy").data))
        np.testing.assert_array_equal(alone, array)
    for name in ("query", "key", "value"):
        np.testing.assert_array_equal(everything[name], np.load(SAMPLES / "gpt" / f"{name}.npy"))
    shown = qkv(*words, "--show", "weights, query", "--quiet", "-o", "some.npz")
    assert (shown.code, list(np.load("some.npz"))) == (0, ["query", "weights"])
    text = qkv("run", "--example", "cat", "--show", "query,key", "-f", "csv").out
    assert text.splitlines()[0] == ",article,animal,action,place"
    assert text.splitlines()[2] == "cat,0.0,2.0,0.0,0.0"  # of text formats, the last
    title = qkv("run", "--example", "cat", "--show", "query").out.splitlines()[0]
    assert title == "query = Q   (6, 4)"
    saved = qkv("run", "--example", "bert", "--show", "query,key,value", "--quiet", "-o", "q.npz")
    assert saved.code == 0
    again = steps(qkv, "run", "--qkv", "q.npz", "--heads", 12, "--preset", "bert")
    np.testing.assert_array_equal(again["output"], steps(qkv, "run", "--example", "bert")["output"])


def test_a_step_needs_only_what_it_is_made_of(qkv: Program) -> None:
    two = files("cat_sat_mat", "csv")[:4]
    weights = qkv("run", *two, "--show", "weights", "-f", "csv")
    assert weights.out == qkv("softmax", *two).out
    scores = qkv("scores", *two).out
    value = files("cat_sat_mat", "csv")[4:]
    whole = qkv("softmax", "-", *value, "--show", "scores,output", "-f", "json", stdin=scores).out
    assert list(json.loads(whole)) == ["scores", "output"]
    assert json.loads(whole)["output"]["data"][1] == pytest.approx(
        [0.8514, 6.2908, 2.3456], abs=1e-4
    )
    missing = qkv("run", *two, "--show", "output")
    assert "--value missing" in missing.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run --show scaled", "--show: there is no step scaled here; --scale asks for it"),
        ("run --show masked", "there is no step masked here; a mask asks for it, such as --causal"),
        ("run --show weigths", "did you mean weights?"),
        ("run --show scores --top 2", "--top shows the weights alone; leave out --show"),
        ("softmax --example cat --top 2 -f npy", "--top is shown as table, csv, tsv, json"),
        ("softmax --example cat --top 2 --quiet -o x.npz", "--top is shown as"),
        ("scores --top 2", "scores has no option --top; those that have it: softmax, run"),
    ],
)
def test_what_cannot_be_shown_is_refused(qkv: Program, words: str, said: str) -> None:
    result = qkv(*words.split())
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_heads_come_one_after_the_other(qkv: Program) -> None:
    shown = qkv("run", "--example", "gpt", "--head", "4,0:2", "--digits", 2).out
    expected = ["scores", "scaled", "masked", "weights", "output"]
    assert re.findall(r"^head \d|^\w+(?= = )", shown, re.M) == [
        line for head in (4, 0, 1) for line in (f"head {head}", *expected)
    ]
    joined = qkv("run", "--example", "bert", "--digits", 2).out
    assert re.findall(r"^\w+(?= = )", joined, re.M)[-1] == "output"
    assert "output = join(weights·V)" in joined
    own = qkv("run", "--example", "bert", "--head", 6, "--digits", 2).out
    assert "output = weights·V   (12, 9, 9)·(12, 9, 32) → (12, 9, 32)" in own
    one = steps(qkv, "output", "--example", "bert", "--head", 6)["output"]
    whole = steps(qkv, "output", "--example", "bert")["output"]
    np.testing.assert_allclose(one, whole[None, :, 6 * 32 : 7 * 32], atol=1e-6)
    every = steps(qkv, "softmax", "--example", "bert", "--head", "all")["weights"]
    assert every.shape == (12, 9, 9)
    for text, said in {
        "9": "they are 0 to 8",
        "9:": "there is no head 9:",
        "x": "'x' is not an index, a slice such as 0:3, or all",
        "0:3:0": "is not an index",
    }.items():
        refused = qkv("run", "--example", "gpt", "--head", text)
        assert refused.code == 2
        assert said in refused.err


def test_hidden_cells_are_dots_on_pages_and_zeros_in_data(qkv: Program) -> None:
    words = ["softmax", "--example", "gpt", "--head", 4, "--rows", "cat"]
    row = qkv(*words, "-f", "table").out.splitlines()[4]
    assert row.split() == "cat *0.8110 0.1890 · · · · · → The 81%".split()
    assert "| · | · |" in qkv(*words, "-f", "markdown").out
    assert qkv(*words).out.splitlines()[2].split(",")[3:] == ["0.0"] * 5
    far = qkv("softmax", "--seed", 1, "--length", 3, "--scale", 1000, "-f", "table").out
    assert "·" not in far.split("─\n")[1]  # a weight that has become 0 is no hidden one
    assert "0.0000" in far
    given = qkv("softmax", "-", "-f", "table", stdin="1,-inf\n1,1\n").out
    assert "0 *1.0000       ·  → 0 100%" in given


def test_ties_are_all_marked(qkv: Program) -> None:
    shown = qkv("softmax", "-", "-f", "table", stdin="1,1,0,0\n2,2,2,0\n-inf,-inf,-inf,-inf\n").out
    ends = [line.split("→ ")[1] for line in shown.splitlines() if "→" in line][1:]
    assert ends == ["0, 1 37%", "3 keys 32%", "no key"]
    assert [line.count("*") for line in shown.splitlines()[3:6]] == [2, 3, 0]
    assert "rows sum to 1, but 1 sees no key; effective keys" in shown
    for kind in ("f2", "f4", "f8"):
        row = np.array([0.3, 0.1 + 0.2, 0.1], kind)  # but for the last digit
        assert largest(row).tolist() == [0, 1]
    assert largest(np.array([0.3, 0.300001, 0.1], "f4")).tolist() == [0, 1]
    assert largest(np.array([0.3, 0.300001, 0.1], "f8")).tolist() == [1]
    assert largest(np.array([0.3, 0.2998, 0.1], "f2")).tolist() == [0]  # rounded once, at the end


def facts_of(rows: Any, sinks: bool = False) -> Facts | None:
    return Facts.of([Weighed(row) for row in rows], sinks)


ROWS = arrays(
    np.float64, st.tuples(st.integers(1, 8), st.integers(1, 12)), elements=st.floats(0, 1)
)


@given(ROWS, st.integers(1, 14))
def test_facts_and_ranks_are_those_of_a_plain_loop(rows: Any, count: int) -> None:
    rows = rows * (rows > 0.2)
    sums = rows.sum(axis=1, keepdims=True)
    weights = rows / np.where(sums == 0, 1, sums)
    keys = [2 ** -sum(w * math.log2(w) for w in row if w) if any(row) else 0 for row in weights]
    for row, effective in zip(weights, keys, strict=True):
        assert effective_keys(row) == pytest.approx(effective)
        ranks = sorted(range(len(row)), key=lambda j: (-row[j], j))
        assert top(row, count).tolist() == ranks[:count]
    facts = facts_of(weights)
    seeing = [k for k in keys if k]
    if not seeing:
        assert facts is None
        return
    assert facts is not None
    assert (facts.fewest, facts.most) == pytest.approx((min(seeing), max(seeing)))
    assert facts.unseeing == len(keys) - len(seeing)
    assert keys[facts.sharpest] == pytest.approx(facts.fewest)


def test_the_strongest_keys_in_long_form(qkv: Program, folder: Path) -> None:
    words = ["softmax", "--example", "bert", "--top", 3]
    table = list(csv.DictReader(io.StringIO(qkv(*words).out)))
    weights = np.load(SAMPLES / "bert" / "weights.npy")
    assert list(table[0]) == ["head", "query", "key", "weight"]
    assert len(table) == 12 * 9 * 3
    names = ["[CLS]", "the#1", "cat", "sat", "on", "the#2", "mat", ".", "[SEP]"]
    for i, line in enumerate(table):
        head, query, rank = i // 27, i // 3 % 9, i % 3
        assert (line["head"], line["query"]) == (str(head), names[query])
        expected = np.sort(weights[head, query])[::-1][rank]
        assert float(line["weight"]) == pytest.approx(expected, abs=1e-5)
        found = weights[head, query, names.index(line["key"])]
        assert found == pytest.approx(expected, abs=1e-5)
    assert json.loads(qkv(*words, "-f", "json").out)[0] == {
        "head": 0, "query": "[CLS]", "key": table[0]["key"], "weight": float(table[0]["weight"])
    }  # fmt: skip
    assert qkv(*words, "-f", "tsv").out.splitlines()[0] == "head\tquery\tkey\tweight"
    plain = qkv("softmax", "--seed", 1, "--length", 3, "--top", 1, "--digits", 2).out
    assert plain.splitlines()[0] == "head,query,key,weight"
    assert re.fullmatch(r"0,0,\d,0\.\d\d", plain.splitlines()[1])
    causal = qkv("softmax", "--seed", 1, "--length", 3, "--top", 3, "--causal").out
    assert [line.split(",")[1] for line in causal.splitlines()[1:]] == list("011222")
    np.save("q.npy", np.ones((2, 3, 1, 4)))
    batches = qkv("softmax", "-q", "q.npy", "-k", "q.npy", "--top", 1, "--batch", 1).out
    assert batches == "batch,head,query,key,weight\n1,0,0,0,1.0\n1,1,0,0,1.0\n1,2,0,0,1.0\n"
    saved = qkv(*words, "--rows", "cat", "--head", 6, "-o", "some.csv", "-f", "json").out
    assert len(json.loads(saved)) == 3
    assert len(Path("some.csv").read_text().splitlines()) == 1 + 3


def test_the_strongest_keys_as_a_page(qkv: Program) -> None:
    words = ["softmax", "--example", "cat", "--top", 2, "--rows", "cat,sat"]
    assert qkv(*words, "-f", "table").out == (
        "weights = softmax(scores)   (6, 6) → (6, 6)\n"
        "cat  sat  0.6291  █████████████████████████▏\n"
        "     mat  0.2314  █████████▎\n"
        "sat  cat  0.6791  ███████████████████████████▏\n"
        "     mat  0.2498  ██████████\n\n"
    )
    assert "| cat | sat | 0.6291 |" in qkv(*words, "-f", "markdown").out
    heads = qkv("run", "--example", "gpt", "--top", 1, "--head", "4,5", "-f", "table").out
    assert re.findall("^head .", heads, re.M) == ["head 4", "head 5"]
    long = qkv("run", "--seed", 1, "--length", 300, "--top", 5).out.splitlines()
    assert len(long) <= 24
    assert long[6] == "…"
    assert [line.split()[0] for line in long[1:] if line[:1].isdigit()] == ["0", "299"]


def test_heads_are_the_queries_also_where_keys_have_fewer(qkv: Program) -> None:
    key = np.load(SAMPLES / "gpt" / "key.npy")
    for head, own in ((2, 0), (3, 1), (8, 2)):
        found = steps(qkv, "run", "--example", "gpt", "--show", "key", "--head", head)["key"]
        np.testing.assert_array_equal(found, key[[own]])
    both = qkv("run", "--example", "gpt", "--show", "key", "--head", 9)
    assert "there is no head 9; they are 0 to 8" in both.err


def test_folders_of_all_sorts(qkv: Program, folder: Path) -> None:
    for name in "qk":
        np.save(f"{name}.npy", np.array([[1.0, np.nan]]))
        np.savetxt(f"{name}.csv", [[1.0, np.nan]], delimiter=",")
    Path("query.npy").mkdir()
    assert qkv("softmax", "--qkv", ".").code == 0  # the same numbers, NaN too; folders are none
    assert qkv("explain", 0, "--qkv", ".").code == 0  # values may be missing there
    missing = qkv("run", "--qkv", ".")
    assert missing.code == 3
    assert "there is no file called value or v in it" in missing.err
    np.savez("two.npz", q=np.eye(2), k=np.eye(2))
    assert "output" not in qkv("explain", 0, "--qkv", "two.npz").out
    assert qkv("output", "--qkv", "two.npz").code == 3


def test_an_examples_labels_are_not_for_other_matrices(qkv: Program, folder: Path) -> None:
    np.save("s.npy", np.eye(3))
    assert qkv("softmax", "s.npy", "--example", "bert").code == 0


def test_what_is_no_weight_is_not_said_to_sum(qkv: Program, folder: Path) -> None:
    value = SAMPLES / "karim" / "x.csv"
    words = ["output", "-", "-v", value, "--show", "weights", "-f", "table"]
    shown = qkv(*words, stdin="1,-1,0\n.5,.5,0\n")
    assert "effective" not in shown.out
    sums = qkv(*words, stdin="1,1,0\n.5,.5,0\n")
    assert "rows sum to 1 to 2\n" in sums.out


def test_the_strongest_keys_have_their_names_and_bars(
    qkv: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("q.npy", np.zeros((2, 2)))
    words = ["softmax", "-q", "q.npy", "-k", "q.npy", "--labels", f"{'x' * 15} {'y' * 16}"]
    words += ["--top", "1", "-f", "table", "--width"]
    shown = qkv(*words, 60).out.splitlines()  # a name may take a quarter
    assert shown[1:3] == [
        f"{'x' * 15}  {'x' * 15}  0.5000  {'█' * 9}",
        f"{'y' * 14}…  {'x' * 15}  0.5000  {'█' * 9}",
    ]
    assert max(map(len, qkv(*words, 40).out.splitlines())) <= 40
    wide = qkv(*words, 200).out.splitlines()
    assert wide[2] == f"{'y' * 16}  {'x' * 15}  0.5000  {'█' * 20}"
    nobody = qkv("softmax", "--seed", 1, "--length", 2, "--causal", "--offset", -1, *words[-5:-1])
    assert nobody.out.splitlines()[1:] == ["0  no key", f"1  0       1.0000  {'█' * 40}", ""]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert f"\n\x1b[35m{'x' * 15}" in qkv(*words, 200).out


def test_long_form_has_any_number_of_batches_and_odd_numbers() -> None:
    def written(kind: str, dims: int, *rows: Ranked, **more: Any) -> str:
        step = Outline("weights", "", (), (2,) * dims, np.dtype(float))
        stream = io.BytesIO()
        write_long(rows, step, stream, kind, **more)
        return stream.getvalue().decode()

    row = Ranked((0, 1, 1), 1, np.array([1, 0]), np.array([2 / 3, np.nan]))
    assert written("csv", 5, row) == (
        f"batch,head,query,key,weight\n0 1,1,1,1,{2 / 3}\n0 1,1,1,0,nan\n"
    )
    assert written("json", 5, row, digits=2) == (
        '[{"batch": "0 1", "head": 1, "query": 1, "key": 1, "weight": 0.67},\n'
        ' {"batch": "0 1", "head": 1, "query": 1, "key": 0, "weight": "nan"}]\n'
    )
    assert written("json", 2) == "[]\n"
    assert written("csv", 3) == "head,query,key,weight\n"
    one = Ranked((), 0, np.array([1]), np.array([0.5], "f4"))
    assert written("tsv", 2, one) == "head\tquery\tkey\tweight\n0\t0\t1\t0.5\n"
    many = [Ranked((), i, np.array([0]), np.array([1.0])) for i in range(5000)]
    for kind, count in (("csv", 5001), ("json", 5000)):
        lines = written(kind, 2, *many).splitlines()
        assert len(lines) == count
        assert "4999" in lines[-1]
    assert [line["query"] for line in json.loads(written("json", 2, *many))] == list(range(5000))


def test_facts_are_exact_in_every_dtype() -> None:
    for kind in ("f2", "f4", "f8"):
        row = np.full((1, 3), 1 / 3, kind)
        facts = facts_of(row)
        assert facts is not None
        assert facts.sums == (math.fsum(row[0].tolist()),) * 2
        assert facts.most == pytest.approx(3, rel=1e-2)
    assert facts_of(np.array([[0.5, 0.5], [1.0, np.inf]])) is None
    assert facts_of(np.array([[0.5, 0.5], [np.nan, 1.0]])) is None
    assert top(np.array([np.nan, 0.1, 0.5]), 2).tolist() == [2, 1]
    assert top(np.array([np.nan, 0.1, 0.5]), 3).tolist() == [2, 1, 0]


def test_rows_are_those_of_queries_and_not_of_keys(qkv: Program) -> None:
    words = ["run", "--example", "cat", "--rows", "-6,cat", "-f", "table"]
    shown = qkv(*words, "--show", "query,key,value,weights").out.split("\n\n")
    labels = [[line.split()[0] for line in part.splitlines()[3:]] for part in shown[:4]]
    every = "The cat sat on the mat".split()
    assert labels == [["The", "cat"], every, every, ["The", "cat", "shown"]]
    wrong = qkv("run", "--example", "cat", "--rows", "-7")
    assert (wrong.code, wrong.err) == (2, "qkvcli: --rows: there is no row -7; there are 6\n")


def test_what_is_missing_is_said(qkv: Program) -> None:
    karim = SAMPLES / "karim"
    words = ["scores", "--embeddings", karim / "x.csv", "--wq", karim / "wq.csv"]
    assert qkv(*words).err == "qkvcli: --wk missing: name a file for each\n"
    bare = qkv("scores", "--query", karim / "x.csv")
    assert bare.err == (
        "qkvcli: --key missing: name a file for each, or give --qkv FILE or --seed N\n"
    )


def test_of_three_origins_two_are_named(qkv: Program) -> None:
    wrong = qkv("run", "--example", "cat", "--seed", 1, "--qkv", "a.npz")
    assert (wrong.code, wrong.err) == (
        2,
        "qkvcli: --qkv and --seed both say where Q, K and V come from; keep one\n",
    )


def test_numbers_of_an_example_come_from_it(qkv: Program) -> None:
    wrong = qkv("softmax", "--example", "cat", "--heads", 3)
    assert wrong.code == 3
    assert "example cat" in wrong.err
    assert str(SAMPLES) not in wrong.err


def test_a_row_with_a_nan_has_no_largest_weight(qkv: Program) -> None:
    words = ["output", "-", "-v", SAMPLES / "karim" / "x.csv", "--show", "weights", "-f", "table"]
    shown = qkv(*words, stdin="nan,1,0\n0,.5,.5\n").out.splitlines()
    assert "→" not in shown[3]
    assert shown[4].endswith("→ 1, 2 50%")


def test_how_a_file_was_read_is_noted(qkv: Program, folder: Path) -> None:
    Path("s.csv").write_text("1,O.5\n3,4\n")
    assert "note: s.csv: the first line is read as labels" in qkv("softmax", "s.csv").err
    assert qkv("softmax", "--example", "cat").err == ""


def test_a_head_where_there_are_none_says_what_splits_into_heads(qkv: Program) -> None:
    wrong = qkv("run", "--seed", 1, "--head", 0)
    assert wrong.code == 2
    assert wrong.err.endswith("has no head axis; --heads N splits the last axis into heads\n")
    assert qkv("run", "--seed", 1, "--batch", 0).err.endswith("has no batch axis\n")


@given(ROWS, st.floats(0.1, 0.9))
def test_facts_of_rows_with_sinks_are_of_what_the_keys_share(rows: Any, share: float) -> None:
    whole = rows / np.where(
        rows.sum(axis=1, keepdims=True) == 0, 1, rows.sum(axis=1, keepdims=True)
    )
    facts, part = facts_of(whole), facts_of(whole * share, sinks=True)
    if facts is None or part is None:
        assert facts is part
        return
    assert part.sums == pytest.approx((0 if facts.unseeing else share, share))
    assert part.unseeing == 0
    assert (part.fewest, part.most) == pytest.approx((facts.fewest, facts.most))
    for row in whole * share:
        assert left_to_sink(row) == pytest.approx(1 - row.sum())


def test_lists_say_what_a_sink_takes(qkv: Program, layer: list[str]) -> None:
    said = "sum to less than 1: the sink takes the rest"
    words = ("softmax", *layer, "--top", 1)
    assert (
        qkv(*words, "-f", "table", "--width", 40).out.split("\n")[2]
        == "rows sum to less than 1: the sink takes"
    )
    assert f"\nRows {said}.\n\n| head" in qkv(*words, "-f", "markdown").out
    assert "sink" not in qkv(*words, "-f", "csv").out
