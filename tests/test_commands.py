"""The commands from outside: the article's numbers by every way in and every way out."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import SAMPLES, Program

STEPS = ("scores", "weights", "output")


@pytest.fixture(scope="module")
def article() -> dict[str, Any]:
    """The article's own arithmetic, as its script does it."""
    np.random.seed(42)
    query, key, value = np.random.rand(5, 64), np.random.rand(5, 64), np.random.rand(5, 64)
    scores = query @ key.T
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights = shares / shares.sum(axis=1, keepdims=True)
    named = {"query": query, "key": key, "value": value}
    return {**named, "scores": scores, "weights": weights, "output": weights @ value}


def close(actual: Any, expected: Any) -> bool:
    actual = np.asarray(actual, float)
    return actual.shape == expected.shape and bool(np.abs(actual - expected).max() < 1e-13)


def csv(text: str) -> Any:
    return np.loadtxt(io.StringIO(text), delimiter=",", ndmin=2)


@pytest.mark.parametrize("words", [["run"], ["run", "--seed", 42]])
def test_run_as_json_holds_the_articles_matrices(
    qkv: Program, article: dict[str, Any], words: list[object]
) -> None:
    shown = json.loads(qkv(*words, "-f", "json").out)
    assert list(shown) == list(STEPS)
    for name in STEPS:
        assert shown[name]["shape"] == list(article[name].shape)
        assert close(shown[name]["data"], article[name])
        assert ("rows" in shown[name]) == (words == ["run"])


def test_a_bare_command_line_is_the_article_with_its_tokens(qkv: Program) -> None:
    shown = json.loads(qkv("scores", "-f", "json").out)["scores"]
    assert shown["rows"] == shown["columns"] == "The cat sat on mat".split()
    assert "The  12.9818  16.4401  15.7441  15.1542  12.7282" in qkv("run").out
    assert "rows" not in json.loads(qkv("scores", "--seed", 42, "-f", "json").out)["scores"]


def test_a_pipeline_gives_the_articles_output(qkv: Program, article: dict[str, Any]) -> None:
    scores = qkv("scores", "--seed", 42)
    assert close(csv(scores.out), article["scores"])
    weights = qkv("softmax", stdin=scores.out)
    assert close(csv(weights.out), article["weights"])
    output = qkv("output", "-", "--seed", 42, stdin=weights.out)
    assert close(csv(output.out), article["output"])
    assert (scores.err, weights.err, output.err) == ("", "", "")


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "json", "npy", "npz"])
def test_every_format_carries_a_pipeline(qkv: Program, article: dict[str, Any], kind: str) -> None:
    scores = qkv("scores", "-f", kind).data
    weights = qkv("softmax", "-f", kind, stdin=scores).data
    output = qkv("output", "-", "--seed", 42, "-f", "json", stdin=weights).out
    assert close(json.loads(output)["output"]["data"], article["output"])


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "json", "npy", "npz"])
def test_files_of_every_format_give_the_articles_matrices(
    qkv: Program, folder: Path, article: dict[str, Any], kind: str
) -> None:
    for name in ("query", "key", "value"):
        if kind == "npz":
            np.savez(f"{name}.npz", **{name: article[name]})
        elif kind == "json":
            Path(f"{name}.json").write_text(json.dumps(article[name].tolist()))
        elif kind == "npy":
            np.save(f"{name}.npy", article[name])
        else:
            delimiter = {"csv": ",", "tsv": "\t", "txt": " "}[kind]
            np.savetxt(f"{name}.{kind}", article[name], delimiter=delimiter, fmt="%.17g")
    files = [f"-{name[0]}{name}.{kind}" for name in ("query", "key", "value")]
    shown = json.loads(qkv("run", *files, "-f", "json").out)
    for name in STEPS:
        assert close(shown[name]["data"], article[name])


@pytest.mark.parametrize("names", ["qkv", "QKV", "query key value", "Query Key Value"])
@pytest.mark.parametrize("kind", ["npz", "json"])
def test_one_file_may_hold_all_three(
    qkv: Program, folder: Path, article: dict[str, Any], kind: str, names: str
) -> None:
    words = names.split() if " " in names else list(names)
    held = dict(zip(words, (article[n] for n in ("query", "key", "value")), strict=True))
    if kind == "npz":
        np.savez("all.npz", **held)
    else:
        Path("all.json").write_text(json.dumps({k: v.tolist() for k, v in held.items()}))
    file = f"all.{kind}"
    shown = json.loads(qkv("run", "--qkv", file, "-f", "json").out)
    assert close(shown["output"]["data"], article["output"])
    piped = qkv("output", "--qkv", "-", stdin=Path(file).read_bytes())
    assert close(csv(piped.out), article["output"])
    mixed = qkv("output", "-", "--qkv", file, stdin=qkv("softmax", "--qkv", file).out)
    assert close(csv(mixed.out), article["output"])


@pytest.mark.parametrize("ending", [".csv", ".npy"])
def test_the_sample_files_are_the_articles(
    qkv: Program, article: dict[str, Any], ending: str
) -> None:
    files = [f"-{name[0]}{SAMPLES}/article/{name}{ending}" for name in ("query", "key", "value")]
    assert close(
        json.loads(qkv("run", *files, "-f", "json").out)["output"]["data"], article["output"]
    )


def test_each_command_computes_what_comes_before(qkv: Program, article: dict[str, Any]) -> None:
    assert close(csv(qkv("softmax", "--seed", 42).out), article["weights"])
    assert close(csv(qkv("output", "--seed", 42).out), article["output"])


def test_an_operand_may_be_a_file(qkv: Program, folder: Path, article: dict[str, Any]) -> None:
    qkv("scores", "--seed", 42, "-o", "steps.json", "--quiet")
    assert close(csv(qkv("softmax", "steps.json").out), article["weights"])
    qkv("softmax", "steps.json", "-o", "weights.npz", "--quiet")
    np.save("value.npy", article["value"])
    assert close(csv(qkv("output", "weights.npz", "-v", "value.npy").out), article["output"])
    assert close(
        csv(qkv("output", "-v", "value.npy", stdin=Path("weights.npz").read_bytes()).out),
        article["output"],
    )


def test_seed_draws_the_shapes_asked_for(qkv: Program) -> None:
    words = "--seed 7 --length 3 --dim 4 --key-length 6 --value-dim 2".split()
    np.random.seed(7)
    query, key, value = np.random.rand(3, 4), np.random.rand(6, 4), np.random.rand(6, 2)
    shown = json.loads(qkv("run", *words, "-f", "json").out)
    assert close(shown["scores"]["data"], query @ key.T)
    assert shown["output"]["shape"] == [3, 2]
    assert close(shown["output"]["data"], np.asarray(shown["weights"]["data"]) @ value)


def test_scale_and_causal_are_steps_of_their_own(qkv: Program) -> None:
    shown = json.loads(qkv("run", "--seed", 42, "--scale", "sqrt", "--causal", "-f", "json").out)
    assert list(shown) == ["scores", "scaled", "masked", "weights", "output"]
    scores, scaled = (np.array(shown[name]["data"]) for name in ("scores", "scaled"))
    assert close(scaled, scores / 8)
    assert shown["masked"]["data"][0] == [scaled[0, 0], "-inf", "-inf", "-inf", "-inf"]
    assert shown["weights"]["data"][0] == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("scale", ["0.125", "sqrt"])
def test_scores_may_be_scaled_down_the_pipe(qkv: Program, scale: str) -> None:
    whole = qkv("softmax", "--seed", 42, "--scale", 0.125).out
    scores = qkv("scores", "--seed", 42).out
    assert qkv("softmax", "-", "--seed", 42, "--scale", scale, stdin=scores).out == whole


def test_scaled_scores_are_not_scaled_twice(qkv: Program) -> None:
    scaled = qkv("scores", "--seed", 42, "--scale", 0.125, "-f", "json").out
    assert qkv("softmax", stdin=scaled).out == qkv("softmax", "--seed", 42, "--scale", 0.125).out
    twice = qkv("softmax", "--scale", 0.125, stdin=scaled)
    assert twice.code == 2
    assert "scale comes before the scaled scores, and those are given" in twice.err


def test_labels_travel_through_pipes(qkv: Program) -> None:
    words = ["--seed", 1, "--length", 2, "--key-length", 3, "--dim", 2]
    for kind in ("csv", "tsv", "txt", "json"):
        labels = ["--labels", "le chat", "--key-labels", 'a "b" c,d']
        scores = qkv("scores", *words, *labels, "-f", kind).out
        weights = qkv("softmax", "-f", kind, stdin=scores).out
        shown = json.loads(qkv("softmax", "-f", "json", stdin=scores).out)["weights"]
        assert (shown["rows"], shown["columns"]) == (["le", "chat"], ["a", '"b"', "c,d"])
        output = json.loads(qkv("output", "-", *words, "-f", "json", stdin=weights).out)["output"]
        assert output["rows"] == ["le", "chat"]
        assert "columns" not in output


def test_labels_may_be_given_down_the_pipe(qkv: Program) -> None:
    scores = qkv("scores", "--seed", 42).out
    shown = qkv("softmax", "--labels", "a b c d e", "-f", "json", stdin=scores).out
    assert json.loads(shown)["weights"]["columns"] == list("abcde")


def test_labels_of_files_show_and_may_be_overruled(qkv: Program) -> None:
    files = [f"-{n[0]}{SAMPLES}/cat_sat_mat/{n}.csv" for n in ("query", "key", "value")]
    shown = json.loads(qkv("run", *files, "-f", "json").out)
    assert (
        shown["weights"]["rows"] == shown["weights"]["columns"] == "The cat sat on the mat".split()
    )
    assert shown["output"]["columns"] == ["animal", "action", "place"]
    renamed = json.loads(qkv("run", *files, "--labels", "a b c d e f", "-f", "json").out)
    assert renamed["weights"]["columns"] == list("abcdef")


def test_cat_weighs_sat_and_mat_above_the(qkv: Program) -> None:
    files = [f"-{n[0]}{SAMPLES}/cat_sat_mat/{n}.csv" for n in ("query", "key")]
    weights = json.loads(qkv("softmax", *files, "-f", "json").out)["weights"]
    cat = dict(zip(range(6), weights["data"][1], strict=True))
    the, _, sat, _, other, mat = cat.values()
    assert min(sat, mat) > max(the, other) * 10
    total = 1 + np.exp(2) + np.exp(4) + np.exp(1) + 1 + np.exp(3)
    assert sat == pytest.approx(np.exp(4) / total)


def test_output_also_saves_and_shows_the_same(qkv: Program, folder: Path) -> None:
    shown = qkv("run", "--seed", 42).out
    for ending in ("csv", "tsv", "txt", "json", "npy", "npz", "md"):
        result = qkv("run", "--seed", 42, "--digits", 4, "-o", f"out.{ending}")
        assert (result.code, result.out, result.err) == (0, shown, "")
    with np.load("out.npz") as saved:
        assert set(saved) == set(STEPS)
    output = np.load("out.npy")
    assert (np.loadtxt("out.csv", delimiter=",") == output).all()  # every digit, whatever is shown
    assert (np.loadtxt("out.txt") == output).all()
    assert Path("out.md").read_text() == qkv("run", "--seed", 42, "-f", "markdown").out


def test_float32_stays_float32(qkv: Program, folder: Path) -> None:
    np.save("a.npy", np.full((2, 2), 0.1, np.float32))
    result = qkv("run", "-qa.npy", "-ka.npy", "-va.npy", "-f", "npy")
    assert np.load(io.BytesIO(result.data)).dtype == np.float32
    assert qkv("run", "-qa.npy", "-ka.npy", "-va.npy", "-f", "csv").out == "0.1,0.1\n0.1,0.1\n"


def test_digits_round_text_and_tables(qkv: Program) -> None:
    assert qkv("scores", "--seed", 42, "--digits", 1).out.startswith("13.0,16.4,")
    assert '"data": [[13, 16,' in qkv("scores", "--seed", 42, "--digits", 0, "-f", "json").out
    assert " 12.98 " in qkv("run", "--digits", 2).out


def test_quiet_shows_nothing(qkv: Program, folder: Path) -> None:
    for words in (["run"], ["run", "-o", "out.npy"], ["scores", "--seed", 1, "-f", "npy"]):
        result = qkv(*words, "--quiet")
        assert (result.code, result.out, result.err) == (0, "", "")
    assert np.load("out.npy").shape == (5, 64)


def test_batches_go_through_pipes(qkv: Program, folder: Path) -> None:
    rng = np.random.default_rng(0)
    query, key, value = rng.normal(size=(3, 2, 4, 3, 5))
    for name, array in (("q", query), ("k", key), ("v", value)):
        np.save(f"{name}.npy", array)
    shown = json.loads(qkv("run", "-qq.npy", "-kk.npy", "-vv.npy", "-f", "json").out)
    for kind in ("csv", "json", "npy"):
        weights = qkv("softmax", "-qq.npy", "-kk.npy", "-f", kind).data
        output = qkv("output", "-", "-v", "v.npy", "-f", "json", stdin=weights).out
        assert json.loads(output)["output"] == shown["output"]


def test_module_runs_too(qkv: Program) -> None:
    import subprocess
    import sys

    shown = subprocess.run(
        [sys.executable, "-m", "qkvcli", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == qkv("--version").out
