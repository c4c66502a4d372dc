"""Whether a whole layer of somebody else's is the same: right in every type, and with one fault.

The kernel is written here once more, in plain NumPy that rounds each step to a type, with a place
for each fault that people make.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qkvcli
from qkvcli.core.compare.tolerance import narrowed
from qkvcli.core.config import Kind
from qkvcli.core.operands import Array
from tests.conftest import Program

BATCHES, TOKENS, MODEL, HEADS, SHARED, WIDTH = 2, 12, 32, 4, 2, 8
NARROW: tuple[Kind, ...] = ("float64", "float32", "float16", "bfloat16")
Options = dict[str, Any]


def drawn(
    kind: Kind = "float64", seed: int = 0, heads: int = HEADS, shared: int = SHARED
) -> Options:
    """X and the weights of a layer, which a type holds."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, size: float = 1.0) -> Array:
        return narrowed(size * rng.normal(size=shape), kind).astype(np.float64)

    whole, fewer, root = heads * WIDTH, shared * WIDTH, 1.2 / math.sqrt(MODEL)
    return {
        "x": normal(BATCHES, TOKENS, MODEL),
        "wq": normal(MODEL, whole, size=root),
        "wk": normal(MODEL, fewer, size=root),
        "wv": normal(MODEL, fewer, size=root),
        "bq": normal(whole),
        "bk": normal(fewer),
        "bv": normal(fewer),
        "wo": normal(whole, MODEL, size=root),
        "bo": normal(MODEL),
        "q_norm": 1 + normal(WIDTH, size=0.3),
        "k_norm": 1 + normal(WIDTH, size=0.3),
        "q_norm_bias": normal(WIDTH, size=0.3),
        "k_norm_bias": normal(WIDTH, size=0.3),
        "sinks": normal(heads, size=2.0),
        "gate": normal(MODEL, whole, size=root),
        "past_key": normal(BATCHES, shared, 5, WIDTH),
        "past_value": normal(BATCHES, shared, 5, WIDTH),
    }


class Layer:
    """A layer that is right, with places for one fault each.

    ``given`` are the arrays by name, ``options`` those of `qkvcli.attend`; each step is rounded to
    ``kind``.
    """

    def __init__(self, given: Options, options: Options, kind: Kind = "float64") -> None:
        self.given, self.kind, self.options = given, kind, options
        self.heads: int = options["heads"]
        self.shared: int = options["kv_heads"]
        self.past = given["past_key"].shape[-2] if "past_key" in options else 0

    def rounded(self, array: Array) -> Array:
        work = np.float64 if self.kind == "float64" else np.float32
        return narrowed(array, self.kind).astype(work)

    def asked(self, name: str) -> Array | None:
        return self.rounded(self.given[name]) if name in self.options else None

    def __call__(self) -> dict[str, Array]:
        found: dict[str, Array] = {}
        x = self.rounded(self.given["x"])
        sides = {}
        for name, heads in (("query", self.heads), ("key", self.shared), ("value", self.shared)):
            sides[name] = self.made(x, name, heads, found)
        for name in ("key", "value"):
            past = self.asked(f"past_{name}")
            if past is not None:
                sides[name] = np.concatenate([past, sides[name]], axis=-2)
        group = self.heads // self.shared
        query, key, value = (
            sides["query"],
            *(np.repeat(sides[n], group, 1) for n in ("key", "value")),
        )
        scores = found["scores"] = self.rounded(query @ key.swapaxes(-1, -2))
        scores = found["scaled"] = self.rounded(scores * (1 / math.sqrt(WIDTH)))
        if self.options.get("alibi"):
            scores = found["biased"] = self.rounded(scores + self.rounded(self.bias(scores)))
        if self.options.get("causal"):
            seen = np.tri(TOKENS, TOKENS + self.past, self.past, dtype=bool)
            scores = found["masked"] = np.where(seen, scores, -np.inf)
        weights = found["weights"] = self.rounded(self.weights(scores))
        apart = self.rounded(weights @ value)
        output = found["output"] = self.joined(apart)
        if "gate" in self.options:
            opening = self.rounded(x @ self.rounded(self.given["gate"]))
            output = found["gated"] = self.gated(output, opening)
        if "wo" in self.options:
            found["projected"] = self.projected(output)
        return found

    def made(self, x: Array, name: str, heads: int, found: dict[str, Array]) -> Array:
        letter = name[0]
        rows = x @ self.weight(f"w{letter}")
        bias = self.asked(f"b{letter}")
        rows = self.clipped(self.rounded(rows if bias is None else rows + bias))
        found[name] = rows
        apart = self.split(rows, heads)
        if name == "value":
            return apart
        for step in self.order:
            if step == "normed" and f"{letter}_norm" in self.options:
                apart = found[f"{name}_normed"] = self.normed(apart, letter)
            if step == "rotated" and "rope" in self.options:
                apart = found[f"{name}_rotated"] = self.rotated(apart, name)
        return apart

    order: tuple[str, ...] = ("normed", "rotated")

    def weight(self, name: str) -> Array:
        return self.rounded(self.given[name])

    def clipped(self, rows: Array) -> Array:
        limit = self.options.get("clip")
        return rows if limit is None else np.clip(rows, -limit, limit)

    def split(self, rows: Array, heads: int) -> Array:
        return rows.reshape(BATCHES, TOKENS, heads, WIDTH).transpose(0, 2, 1, 3)

    def normed(self, rows: Array, letter: str) -> Array:
        weight = self.norm_weight(self.rounded(self.given[f"{letter}_norm"]))
        if self.centred:
            rows = rows - rows.mean(axis=-1, keepdims=True)
        size = np.sqrt((rows * rows).mean(axis=-1, keepdims=True) + 1e-6)
        brought = self.rounded(self.rounded(rows / size) * weight)
        bias = self.asked(f"{letter}_norm_bias")
        return brought if bias is None else self.rounded(brought + bias)

    @property
    def centred(self) -> bool:
        return self.options.get("norm") == "layer"

    def norm_weight(self, weight: Array) -> Array:
        return weight

    def start(self, name: str) -> int:
        return self.past

    def base(self) -> float:
        return float(self.options["rope"])

    def columns(self) -> int:
        return int(self.options.get("rope_dim", WIDTH))

    def pairs(self, count: int) -> tuple[Array, Array]:
        if self.options.get("rope_pairs") == "interleaved":
            return np.arange(0, count, 2), np.arange(1, count, 2)
        return np.arange(count // 2), np.arange(count // 2, count)

    def rotated(self, rows: Array, name: str) -> Array:
        count = self.columns()
        wide = np.dtype(np.float64 if self.kind == "float64" else np.float32)
        powers: Array = (self.base() ** (-np.arange(0, count, 2) / count)).astype(wide)
        places: Array = (self.start(name) + np.arange(TOKENS)).astype(wide)
        angles = places[:, None] * powers
        cos, sin = self.rounded(np.cos(angles)), self.rounded(np.sin(angles))
        one, other = self.pairs(count)
        turned = rows.copy()
        a, b = rows[..., one], rows[..., other]
        turned[..., one] = self.rounded(self.rounded(a * cos) - self.rounded(b * sin))
        turned[..., other] = self.rounded(self.rounded(a * sin) + self.rounded(b * cos))
        return turned

    def slopes(self) -> Array:
        whole = 2 ** math.floor(math.log2(self.heads))
        found = [2 ** (-8 * h / whole) for h in range(1, whole + 1)]
        found += [2 ** (-8 * h / (2 * whole)) for h in range(1, 2 * whole + 1, 2)]
        return np.array(found[: self.heads])

    def bias(self, scores: Array) -> Array:
        query, key = np.arange(TOKENS)[:, None] + self.past, np.arange(TOKENS + self.past)
        return np.multiply(self.slopes()[:, None, None], key - query)

    def sinks(self) -> Array | None:
        return self.asked("sinks")

    def weights(self, scores: Array) -> Array:
        sinks, whole = self.sinks(), scores
        if sinks is not None:
            column = np.broadcast_to(sinks[:, None, None], (*scores.shape[:-1], 1))
            whole = np.concatenate([scores, column], axis=-1)
        powers = np.exp(whole - whole.max(axis=-1, keepdims=True))
        return (powers / powers.sum(axis=-1, keepdims=True))[..., : scores.shape[-1]]

    def joined(self, apart: Array) -> Array:
        return apart.transpose(0, 2, 1, 3).reshape(BATCHES, TOKENS, -1)

    def opened(self, opening: Array) -> Array:
        return 1 / (1 + np.exp(-opening))

    def gated(self, output: Array, opening: Array) -> Array:
        return self.rounded(output * self.rounded(self.opened(opening)))

    def projected(self, output: Array) -> Array:
        projected = output @ self.weight("wo")
        bias = self.asked("bo")
        return self.rounded(projected if bias is None else projected + bias)


def changed(**methods: Any) -> type[Layer]:
    """A layer with one fault."""
    return type("Faulty", (Layer,), methods)


def _whole_norm(self: Layer, rows: Array, letter: str) -> Array:
    size = np.sqrt((rows * rows).mean(axis=(-3, -1), keepdims=True) + 1e-6)
    return self.rounded(self.rounded(rows / size) * self.rounded(self.given[f"{letter}_norm"]))


def _cut(self: Layer, rows: Array, heads: int) -> Array:
    return rows.reshape(BATCHES, heads, TOKENS, WIDTH)


def _other_pairs(self: Layer, count: int) -> tuple[Array, Array]:
    first, second = np.arange(0, count, 2), np.arange(1, count, 2)
    if self.options.get("rope_pairs") == "interleaved":
        return np.arange(count // 2), np.arange(count // 2, count)
    return first, second


def _left(self: Layer, rows: Array, *_: Any) -> Array:
    return rows


ROPE: Options = {"rope": 10000.0, "causal": True, "kv_heads": SHARED, "wo": True}
NORM: Options = {**ROPE, "q_norm": True, "k_norm": True}
CACHE: Options = {**ROPE, "past_key": True, "past_value": True}
PLAIN: Options = {"causal": True, "kv_heads": SHARED, "wo": True, "bo": True}
ALIBI: Options = {"causal": True, "alibi": True, "kv_heads": SHARED}
SINKS: Options = {**PLAIN, "sinks": True}
GATE: Options = {**ROPE, "gate": True}
LAYER: Options = {**NORM, "norm": "layer", "q_norm_bias": True, "k_norm_bias": True}

FAULTS: list[tuple[str, Options, type[Layer]]] = [
    ("with --rope-pairs interleaved", ROPE, changed(pairs=_other_pairs)),
    ("with --rope-pairs half", {**ROPE, "rope_pairs": "interleaved"}, changed(pairs=_other_pairs)),
    ("without --rope", ROPE, changed(rotated=_left)),
    ("without --rope-dim", {**ROPE, "rope_dim": 4}, changed(columns=lambda self: WIDTH)),
    ("with --rope 500000", ROPE, changed(base=lambda self: 5e5)),
    ("with --rope 1000000", ROPE, changed(base=lambda self: 1e6)),
    ("with --rope 10000", {**ROPE, "rope": 500000.0}, changed(base=lambda self: 1e4)),
    (
        "with the queries turned from position 0 on",
        CACHE,
        changed(start=lambda self, name: 0 if name == "query" else self.past),
    ),
    (
        "with queries and keys turned from position 0 on",
        CACHE,
        changed(start=lambda self, name: 0),
    ),
    (
        "with the queries turned one position further on",
        ROPE,
        changed(start=lambda self, name: int(name == "query")),
    ),
    (
        "with the queries turned one position further back",
        CACHE,
        changed(start=lambda self, name: self.past - (name == "query")),
    ),
    (
        "with queries and keys turned one position further on",
        CACHE,
        changed(start=lambda self, name: self.past + 1),
    ),
    ("with the rotation before the norm", NORM, changed(order=("rotated", "normed"))),
    ("without --q-norm and --k-norm", NORM, changed(normed=_left)),
    (
        "with 1 + w in place of the norm's weights w",
        NORM,
        changed(norm_weight=lambda self, weight: 1 + weight),
    ),
    (
        "with w − 1 in place of the norm's weights w",
        NORM,
        changed(norm_weight=lambda self, weight: weight - 1),
    ),
    ("with --norm layer", NORM, changed(centred=True)),
    ("with the norm over the whole width", NORM, changed(normed=_whole_norm)),
    ("without --clip", {**ROPE, "clip": 0.7}, changed(clipped=_left)),
    ("with the heads split by a reshape alone", ROPE, changed(split=_cut)),
    ("without --bq and --bk and --bv", {**PLAIN, "bq": True, "bk": True, "bv": True}, Layer),
    (
        "with Wq transposed",
        PLAIN,
        changed(
            weight=lambda self, name: self.rounded(
                self.given[name].T if name == "wq" else self.given[name]
            )
        ),
    ),
    ("without --sinks", SINKS, changed(sinks=lambda self: None)),
    (
        "with the sinks scaled as the scores are",
        SINKS,
        changed(sinks=lambda self: self.rounded(self.given["sinks"] / math.sqrt(WIDTH))),
    ),
    ("without --alibi", ALIBI, changed(bias=lambda self, scores: 0 * scores)),
    (
        "with slope·(i − j) in place of slope·(j − i)",
        ALIBI,
        changed(bias=lambda self, scores: -Layer.bias(self, scores)),
    ),
    (
        "with the slopes of the heads in reverse",
        ALIBI,
        changed(slopes=lambda self: Layer.slopes(self)[::-1]),
    ),
    (
        "with slopes 2^(−8h/H) for any number of heads",
        {**ALIBI, "heads": 6},
        changed(slopes=lambda self: 2.0 ** (-8 * np.arange(1, 7) / 6)),
    ),
    ("without --gate", GATE, changed(gated=lambda self, output, opening: output)),
    ("with the gate X·Wg itself", GATE, changed(opened=lambda self, opening: opening)),
    (
        "with the gate's SiLU, X·Wg × sigmoid(X·Wg)",
        GATE,
        changed(opened=lambda self, opening: opening / (1 + np.exp(-opening))),
    ),
    (
        "with Wo transposed",
        PLAIN,
        changed(
            weight=lambda self, name: self.rounded(
                self.given[name].T if name == "wo" else self.given[name]
            )
        ),
    ),
    (
        "without --bo",
        PLAIN,
        changed(projected=lambda self, output: self.rounded(output @ self.weight("wo"))),
    ),
    ("without --wo", PLAIN, changed(projected=_left)),
    (
        "with the heads joined by a reshape alone",
        PLAIN,
        changed(joined=lambda self, apart: apart.reshape(BATCHES, TOKENS, -1)),
    ),
    (
        "with --norm rms",
        LAYER,
        changed(
            centred=False,
            asked=lambda self, name: None if "norm_bias" in name else Layer.asked(self, name),
        ),
    ),
]
NAMES = [said.removeprefix("with ") for said, *_ in FAULTS]


def posed(
    options: Options, kind: Kind = "float64", seed: int = 0, **known: Any
) -> tuple[Options, Options]:
    """The arrays of a layer, and all that `attend` is to be given."""
    whole = {"heads": HEADS, "scale": "sqrt", **options}
    given = drawn(kind, seed, whole["heads"], whole["kv_heads"])
    own = np.float64 if kind == "bfloat16" else np.dtype(kind)
    held = {name: given[name].astype(own) for name in given if name == "x" or name in whole}
    for name in ("wq", "wk", "wv"):
        held[name] = given[name].astype(own)
    asked = {name: value for name, value in whole.items() if name not in given}
    x = held.pop("x")
    return whole, {"query": x, "key": x, "value": x, **asked, **held, **known}


@pytest.mark.parametrize("kind", NARROW)
@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        ROPE,
        NORM,
        CACHE,
        PLAIN,
        ALIBI,
        SINKS,
        GATE,
        LAYER,
        {**NORM, "clip": 0.7, "sinks": True, "gate": True, "bo": True, "bq": True},
    ],
)
def test_a_right_layer_is_the_same_in_every_type(
    options: Options, kind: Kind, follow: bool
) -> None:
    for seed in range(3):
        whole, asked = posed(options, kind, seed)
        right = Layer(drawn(kind, seed), whole, kind)()
        found = qkvcli.compare(qkvcli.attend(**asked), right, dtype=kind, follow=follow)
        assert {step.name for step in found.steps} == set(right)
        assert found.same, str(found)


def faulty(said: str, options: Options, kernel: type[Layer], kind: Kind = "float64") -> Any:
    whole, asked = posed(options, kind)
    kept = dict(whole)
    if kernel is Layer:  # the fault is that options are left out
        for name in ("bq", "bk", "bv"):
            del kept[name]
    return qkvcli.attend(**asked), kernel(
        drawn(kind, 0, whole["heads"], whole["kv_heads"]), kept, kind
    )()


@pytest.mark.parametrize("kind", NARROW)
@pytest.mark.parametrize(("said", "options", "kernel"), FAULTS, ids=NAMES)
def test_a_fault_is_named_by_the_last_step_alone(
    said: str, options: Options, kernel: type[Layer], kind: Kind
) -> None:
    steps, wrong = faulty(said, options, kernel, kind)
    last = steps.names[-1]
    theirs = wrong.get(last, list(wrong.values())[-1])
    found = qkvcli.compare(steps, {last: theirs}, dtype=kind)
    assert not found.same
    assert said in [fit.hypothesis.said for fit in found.fits], str(found)


@pytest.mark.parametrize(("said", "options", "kernel"), FAULTS, ids=NAMES)
def test_a_fault_is_named_by_all_steps(said: str, options: Options, kernel: type[Layer]) -> None:
    steps, wrong = faulty(said, options, kernel)
    found = qkvcli.compare(steps, {name: wrong[name] for name in steps.names if name in wrong})
    assert said in [fit.hypothesis.said for fit in found.fits], str(found)
    first = next(step for step in found.steps if not step.same)
    assert first.follows is None
    theirs = {name: wrong[name] for name in steps.names if name in wrong}
    followed = qkvcli.compare(steps, theirs, follow=True)
    assert said in [fit.hypothesis.said for fit in followed.fits], str(followed)


def test_one_fault_is_one_and_is_followed() -> None:
    """No rotation of the queries: the rest is what comes of it, and right where it is followed."""
    whole, asked = posed({**NORM, "bo": True, "gate": True})
    right = Layer.rotated
    kernel = changed(
        rotated=lambda self, rows, name: rows if name == "query" else right(self, rows, name)
    )
    wrong = kernel(drawn(), whole)()
    steps = qkvcli.attend(**asked)
    found = qkvcli.compare(steps, wrong)
    told = {step.name: (step.same, step.follows) for step in found.steps}
    assert told["query_normed"] == told["key_rotated"] == told["value"] == (True, None)
    assert told["query_rotated"] == (False, None)
    assert told["scores"] == (False, "query_rotated")
    assert [told[name] for name in ("weights", "output", "gated", "projected")] == [
        (False, "masked"),
        (False, "weights"),
        (False, "output"),
        (False, "gated"),
    ]
    assert "with the queries not turned" in [fit.hypothesis.said for fit in found.fits]
    followed = qkvcli.compare(steps, wrong, follow=True)
    assert [step.name for step in followed.steps if not step.same] == ["query_rotated"]
    assert "with the queries not turned" in [fit.hypothesis.said for fit in followed.fits]


@pytest.mark.parametrize("name", ["query", "query_normed", "query_rotated", "output", "gated"])
def test_each_step_is_followed_from_theirs_before_it(name: str) -> None:
    """Theirs is another from one step on: the next one is right from there, and the rest too."""
    whole, asked = posed(
        {**NORM, "gate": True, "bo": True, "clip": 0.7, "past_key": True, "past_value": True}
    )
    steps = qkvcli.attend(**asked)
    kernel = Layer(drawn(), whole)

    def shifted(array: Array) -> Array:
        return array * 1.5 + 0.1

    if name in ("output", "gated"):
        wrong = kernel()
        other = dict(wrong)
        other[name] = shifted(wrong[name])
        if name == "output":
            opening = kernel.given["x"] @ kernel.given["gate"]
            other["gated"] = kernel.gated(other["output"], opening)
        other["projected"] = kernel.projected(other["gated"])
    else:
        method = {"query": "weight", "query_normed": "normed", "query_rotated": "rotated"}[name]
        own = getattr(Layer, method)

        def other_way(self: Layer, *given: Any) -> Array:
            made: Array = own(self, *given)
            mine = {"weight": "wq", "normed": "q", "rotated": "query"}[method]
            named = [one for one in given if isinstance(one, str)]
            return shifted(made) if mine in named else made

        other = changed(**{method: other_way})(drawn(), whole)()
    found = qkvcli.compare(steps, other, follow=True)
    assert [step.name for step in found.steps if not step.same] == [name]


@pytest.mark.parametrize(
    "chosen",
    [
        ("--rows", "3:6"),
        ("--head", "2"),
        ("--head", "0,3", "--batch", "1"),
        ("--rows", "1,-1", "--head", "1", "--batch", "0"),
    ],
)
def test_what_is_chosen_is_compared_and_followed(
    chosen: tuple[str, ...], folder: Path, qkv: Program
) -> None:
    given = drawn()
    names = ("wq", "wk", "wv", "wo", "q_norm", "k_norm")
    np.savez("layer.npz", **{name: given[name] for name in ("x", *names)})
    words: list[Any] = ["run", "--embeddings", "layer.npz", "--heads", HEADS, "--kv-heads", SHARED]
    words += [w for name in names for w in (f"--{name.replace('_', '-')}", "layer.npz")]
    words += ["--scale", "sqrt", "--causal", *chosen, "--expect", "mine.npz"]
    whole, _ = posed(NORM)
    right = Layer(given, whole)()
    apart = right["output"].reshape(BATCHES, TOKENS, HEADS, WIDTH).transpose(0, 2, 1, 3)
    for output in (right["output"], *([apart] if "--head" in chosen else [])):
        arrays: dict[str, Any] = right | {"output": output}
        np.savez("mine.npz", **arrays)
        for follow in ((), ("--follow",)):
            told = qkv(*words, "--rope", 10000, *follow)
            assert told.code == 0, told
            assert ("projected is of all heads together" in told.err) == ("--head" in chosen)
    told = qkv(*words, "--rope", 500000)
    assert told.code == 1
    assert "with --rope 10000" in told.out
    told = qkv(*words, "--rope", 500000, "--follow")
    assert [line.split()[0] for line in told.out.splitlines() if "DIFFERS" in line] == [
        "query_rotated",
        "key_rotated",
    ]


def test_heads_apart_or_joined_are_the_same_on_the_way() -> None:
    whole, asked = posed(NORM)
    right = Layer(drawn(), whole)()
    split = right["query"].reshape(BATCHES, TOKENS, HEADS, WIDTH).transpose(0, 2, 1, 3)
    joined = right["query_rotated"].transpose(0, 2, 1, 3).reshape(BATCHES, TOKENS, -1)
    steps = qkvcli.attend(**asked)
    assert qkvcli.compare(steps, {"query": split, "query_rotated": joined}).same
    assert not qkvcli.compare(steps, {"query": split + 0.1}).same


def test_steps_go_by_the_names_that_people_give_them(folder: Path, qkv: Program) -> None:
    given = drawn()
    np.savez("layer.npz", **{name: given[name] for name in ("x", "wq", "wk", "wv")})
    whole, _ = posed({**ROPE, "wo": False})
    right = Layer(given, {**whole})()
    np.savez(
        "mine.npz", q_embed=right["query_rotated"], k_embed=right["key_rotated"], cos=given["wq"]
    )
    words = ["run", "--embeddings", "layer.npz", "--heads", HEADS, "--kv-heads", SHARED]
    words += [w for name in ("wq", "wk", "wv") for w in (f"--{name}", "layer.npz")]
    told = qkv(*words, "--rope", 10000, "--scale", "none", "--expect", "mine.npz")
    assert told.code == 0, told
    assert told.err == ""
    assert [line.split()[0] for line in told.out.splitlines()] == ["query_rotated", "key_rotated"]


def test_two_faults_of_a_layer_are_named_together() -> None:
    whole, asked = posed({**ROPE, "sinks": True})
    kernel = changed(rotated=_left, sinks=lambda self: None)
    found = qkvcli.compare(qkvcli.attend(**asked), kernel(drawn(), whole)()["projected"])
    assert "without --rope and without --sinks" in [fit.hypothesis.said for fit in found.fits]


@pytest.mark.parametrize("kind", ["float64", "float32", "float16"])
@pytest.mark.parametrize("options", [ROPE, NORM, ALIBI, SINKS, GATE])
def test_faults_of_a_layer_that_nobody_thought_of_are_not_named(
    options: Options, kind: Kind
) -> None:
    whole, asked = posed(options, kind)
    steps = qkvcli.attend(**asked)
    [name, right] = list(Layer(drawn(kind), whole, kind)().items())[-1]
    random = np.random.default_rng(0)
    for wrong in (
        right + 0.1 * random.normal(size=right.shape),
        1.1 * right,
        np.roll(right, 1, axis=-1),
        np.zeros_like(right),
    ):
        found = qkvcli.compare(steps, {name: wrong}, dtype=kind)
        assert not found.same
        assert not found.fits, str(found)
