"""The attention that is asked for, as one frozen value."""

from __future__ import annotations  # help() shows the types by their names

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Protocol,
    SupportsFloat,
    SupportsIndex,
    TypeAlias,
    cast,
)

if TYPE_CHECKING:  # reading a command line imports this module, and not NumPy
    import numpy as np

from qkvcli.errors import ShapeError, UsageError

Scale: TypeAlias = SupportsFloat | Literal["none", "sqrt"] | None
Number: TypeAlias = SupportsFloat | Literal["none"] | None
"""A number; "none" undoes a preset's."""
Window: TypeAlias = SupportsIndex | tuple[SupportsIndex | None, SupportsIndex | None] | None
Lengths: TypeAlias = SupportsIndex | Sequence[SupportsIndex] | None
Kind: TypeAlias = Literal["float16", "bfloat16", "float32", "float64"]
"""The types that numbers are rounded to, the narrowest first."""
KINDS: tuple[Kind, ...] = ("float16", "bfloat16", "float32", "float64")


def kind_named(name: str) -> Kind | None:
    """The type of a name; None where there is none."""
    return next((kind for kind in KINDS if kind == name), None)


class TorchDtype(Protocol):
    """A dtype of PyTorch's."""

    @property
    def is_floating_point(self) -> bool:
        """Whether it is of floats."""


DtypeLike: TypeAlias = "Kind | type[np.generic] | np.dtype[Any] | TorchDtype | None"
Preset: TypeAlias = Literal[
    "article",
    "bert",
    "gpt",
    "llama",
    "llama3",
    "mistral",
    "qwen2",
    "qwen3",
    "qwen3-next",
    "gemma",
    "gemma2",
    "gemma3",
    "gpt-oss",
    "phi",
    "gpt-j",
    "gpt-neox",
    "glm",
    "cohere",
    "falcon",
    "olmo2",
    "dbrx",
    "persimmon",
    "bloom",
    "mpt",
    "t5",
]
Pairs: TypeAlias = Literal["half", "interleaved"]
Norm: TypeAlias = Literal["rms", "layer"]

Stage: TypeAlias = Literal["scores", "weights", "output"]
"""How far to compute: to the last step before the softmax, through it, or to the end."""

MADE = ("query", "key", "value", "query_normed", "key_normed", "query_rotated", "key_rotated")
"""The steps that make the queries, keys and values, in their order."""
SCORES = ("scores", "scaled", "capped", "biased", "masked")
"""The steps up to the softmax, in their order."""
MIXED = ("output", "gated", "projected")
"""The steps from the weights on, in their order."""
ORDER = (*MADE, *SCORES, "weights", *MIXED)
"""All steps, in their order."""

LAST: dict[Stage, str] = {"scores": "masked", "weights": "weights", "output": "projected"}
"""The last step that a stage may have."""
OF_KEYS = ("key", "value", "key_normed", "key_rotated")
"""The steps that have a row for each key, and not for each query."""

PAIRS: tuple[Pairs, ...] = ("half", "interleaved")
"""Which columns a rotation turns together: i and i + N/2, or 2i and 2i + 1."""
NORMS: tuple[Norm, ...] = ("rms", "layer")
EPSILON = 1e-6
"""What a norm adds to the mean square, unless it is given."""


_MODEL: dict[str, Any] = {"scale": "sqrt", "causal": True}
"""What nearly all models that write text do."""

PRESETS: dict[str, dict[str, Any]] = {
    "article": {},
    "bert": {"scale": "sqrt"},
    "gpt": _MODEL,
    "llama": {**_MODEL, "rope": 10000.0},
    "llama3": {**_MODEL, "rope": 500000.0},
    "mistral": {**_MODEL, "rope": 10000.0, "window": (4095, None)},
    "qwen2": {**_MODEL, "rope": 1000000.0},
    "qwen3": {**_MODEL, "rope": 1000000.0},
    "qwen3-next": {**_MODEL, "rope": 10000000.0, "rope_dim": 64},
    "gemma": {**_MODEL, "rope": 10000.0},
    "gemma2": {**_MODEL, "rope": 10000.0, "softcap": 50.0},
    "gemma3": _MODEL,
    "gpt-oss": _MODEL,
    "phi": {**_MODEL, "rope": 10000.0, "rope_dim": 32},
    "gpt-j": {**_MODEL, "rope": 10000.0, "rope_pairs": "interleaved", "rope_dim": 64},
    "gpt-neox": {**_MODEL, "rope": 10000.0},
    "glm": {**_MODEL, "rope_pairs": "interleaved"},
    "cohere": {**_MODEL, "rope_pairs": "interleaved"},
    "falcon": {**_MODEL, "rope": 10000.0},
    "olmo2": {**_MODEL, "rope": 500000.0},
    "dbrx": {**_MODEL, "rope": 500000.0, "clip": 8.0},
    "persimmon": {
        **_MODEL,
        "rope": 25000.0,
        "rope_dim": 32,
        "norm": "layer",
        "norm_eps": 1e-5,
    },
    "bloom": {**_MODEL, "alibi": True},
    "mpt": {**_MODEL, "alibi": True},
    "t5": {},
}
"""What families of models do, as far as a name can tell: options of `AttentionConfig`.

Their sources are the models' own configurations, as released.
"""

_NORMS, _BIASES = ("q_norm", "k_norm"), ("bq", "bk", "bv")
NEEDS: dict[str, tuple[str, ...]] = {
    "qwen2": _BIASES,
    "qwen3": _NORMS,
    "qwen3-next": (*_NORMS, "gate"),
    "gemma3": (*_NORMS, "rope"),
    "gpt-oss": ("cos", "sin", "sinks", *_BIASES, "bo"),
    "phi": (*_BIASES, "bo"),
    "gpt-neox": ("rope_dim", *_BIASES, "bo"),
    "glm": ("rope", "rope_dim", *_BIASES),
    "cohere": ("rope",),
    "olmo2": _NORMS,
    "persimmon": (*_NORMS, "q_norm_bias", "k_norm_bias", *_BIASES, "bo"),
    "bloom": (*_BIASES, "bo"),
    "t5": ("mask",),
}
"""What their layers have besides, which a name cannot tell: options, and operands."""


def _option(default: Any, *acts_on: str) -> Any:
    """An option, and the steps that it has a part in."""
    return field(default=default, metadata={"acts_on": acts_on})


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """What is done to the dot products on the way to the output; nothing, by default.

    The fields take what a person may write; `cap`, `sides` and `head_counts` read them.

    scale          None or "none" for bare dot products, "sqrt" for 1/√d of one head
                   (Vaswani et al., section 3.2.1), or a number
    softcap        C: the scores become C·tanh(scores / C) (Gemma 2 report, section 2)
    causal         query i sees keys 0 … i + offset
    window         (left, right): query i sees keys i + offset − left … i + offset + right;
                   None on a side for no bound there; a number alone is the left
                   (Longformer, section 3.1; ONNX Attention, left_window_size)
    offset         the position of query 0 among the keys; None for the length of a cache,
                   or valid_length − L_q, or 0
    valid_length   N, or one for each batch: keys from N on are padding
    heads          split the last axis of Q, K and V into this many heads, and merge the output
    kv_heads       heads of K and V, where queries share them (grouped-query attention:
                   Ainslie et al., section 2.2); as ``heads`` where None
    dtype          round the inputs and every step to it: "float16", "bfloat16", "float32" or
                   "float64", also as a dtype of NumPy, ml_dtypes or PyTorch; bfloat16 is carried
                   in arrays of float32, and both 16-bit types are worked on in float32
    softmax_dtype  take the softmax in it: of scores that are rounded to it, and the weights are
                   rounded to it again (ONNX Attention, softmax_precision); between these it is
                   float32 or wider
    clip           C: queries, keys and values into ±C, once they are projected (DBRX, MPT, OLMo)
    norm           of queries and keys that have norm weights: "rms" (where None; Zhang and
                   Sennrich, "Root Mean Square Layer Normalization") or "layer" (Ba et al.)
    norm_eps       what it adds to the mean square, or to the variance; 1e-6 where None
    rope           the base of a rotation by position: pair i of a token at place p turns by
                   p·base^(−2i/N) (Su et al., RoFormer, section 3.2.2)
    rope_pairs     what is turned together: "half" (where None), columns i and i + N/2, or
                   "interleaved", 2i and 2i + 1
    rope_dim       N, how many columns of each head are turned; all where None
    alibi          slope·(j − i) is added to the score of query i and key j; a slope for each
                   head, 2^(−8h/H) (Press et al., ALiBi, section 3)

    >>> AttentionConfig(scale="sqrt").scale_of(64), AttentionConfig(window=3).sides
    (0.125, (3, None))

    Raises UsageError for a value that is none of these.
    """

    scale: Scale = _option(None, "scaled")
    softcap: Number = _option(None, "capped")
    causal: bool = _option(False, "masked")
    window: Window = _option(None, "masked")
    offset: SupportsIndex | None = _option(None, "masked")
    valid_length: Lengths = _option(None, "masked")
    heads: SupportsIndex | None = _option(None, "scores", "output")
    kv_heads: SupportsIndex | None = _option(None, "scores", "output")
    dtype: DtypeLike = _option(None, *ORDER)
    softmax_dtype: DtypeLike = _option(None, "weights")
    clip: Number = _option(None, "query", "key", "value", "output")
    norm: Norm | None = _option(None, "query_normed", "key_normed")
    norm_eps: SupportsFloat | None = _option(None, "query_normed", "key_normed")
    rope: Number = _option(None, "query_rotated", "key_rotated")
    rope_pairs: Pairs | None = _option(None, "query_rotated", "key_rotated")
    rope_dim: SupportsIndex | None = _option(None, "query_rotated", "key_rotated")
    alibi: bool = _option(False, "biased")

    def __post_init__(self) -> None:
        """Bring what a person may write to one form. Raises UsageError."""
        self._set("scale", _scale(self.scale))
        for name in ("softcap", "clip", "rope", "norm_eps"):
            self._set(name, _above_zero(name, getattr(self, name)))
        for name in ("causal", "alibi"):
            self._set(name, _truth(name, getattr(self, name)))
        for name, words in (("norm", NORMS), ("rope_pairs", PAIRS)):
            self._set(name, _word(name, getattr(self, name), words))
        self._set("window", _window(self.window))
        self._set("offset", None if self.offset is None else _whole("offset", self.offset))
        self._set("valid_length", _lengths(self.valid_length))
        self._check_counts()
        for name in ("dtype", "softmax_dtype"):
            self._set(name, _dtype(name, getattr(self, name)))

    def _check_counts(self) -> None:
        for name, least in (("heads", 1), ("kv_heads", 1), ("rope_dim", 2)):
            if getattr(self, name) is not None:
                self._set(name, _whole(name, getattr(self, name), least))
        if self.turned is not None and self.turned % 2:
            raise UsageError(f"rope dim {self.turned} is odd; columns are turned in pairs")
        if self.kv_heads is not None and self.heads is None:
            raise UsageError("kv heads are for a split into heads; give the number of heads too")
        if self.head_counts is not None and self.head_counts[0] % self.head_counts[1]:
            raise UsageError(f"{self.heads} heads cannot share {self.kv_heads} of K and V evenly")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def of(
        cls, preset: str | None = None, operands: Collection[str] = (), **options: Any
    ) -> AttentionConfig:
        """Options over those of a preset; an option that is None leaves the preset's.

        ``operands`` are the names of those that are given: a table stands in place of a base, and
        what a preset says of a norm or a rotation is for those that have one.

        >>> AttentionConfig.of("gpt", scale="none", softcap=None).causal
        True

        Raises UsageError for a preset or a value that does not exist.
        """
        if preset is not None and not (isinstance(preset, str) and preset in PRESETS):
            raise UsageError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
        asked = {name: value for name, value in options.items() if value is not None}
        known = PRESETS[preset or "article"]
        if "cos" in operands and asked.get("rope", "none") != "none":
            raise UsageError("rope and cos: a table stands in place of a base; keep one")
        turned = "cos" in operands or {**known, **asked}.get("rope", "none") != "none"
        idle = {"norm", "norm_eps"} if not {"q_norm", "k_norm"} & set(operands) else set[str]()
        idle |= {"rope", "rope_dim"} if "cos" in operands else set[str]()
        idle |= set[str]() if turned else {"rope_pairs", "rope_dim"}
        known = {name: value for name, value in known.items() if name not in idle}
        return cls(**{**known, **asked})

    @classmethod
    def acts_on(cls) -> dict[str, tuple[str, ...]]:
        """The steps that each option acts on."""
        return {option.name: option.metadata["acts_on"] for option in fields(cls)}

    def changed(self) -> dict[str, tuple[str, ...]]:
        """The options that ask for something, each with the steps that it acts on."""
        known = self.acts_on()
        return {
            option.name: known[option.name]
            for option in fields(self)
            if getattr(self, option.name) != option.default
        }

    @property
    def cap(self) -> float | None:
        """The softcap as a number."""
        return cast("float | None", self.softcap)

    @property
    def limit(self) -> float | None:
        """The clip as a number."""
        return cast("float | None", self.clip)

    @property
    def epsilon(self) -> float:
        """What a norm adds, as a number."""
        return EPSILON if self.norm_eps is None else cast(float, self.norm_eps)

    @property
    def base(self) -> float | None:
        """The base of the rotation as a number."""
        return cast("float | None", self.rope)

    @property
    def turned(self) -> int | None:
        """How many columns of each head are turned, where that is asked for."""
        return cast("int | None", self.rope_dim)

    @property
    def kind(self) -> Kind | None:
        """The name of the type that all is rounded to."""
        return cast("Kind | None", self.dtype)

    @property
    def softmax_kind(self) -> Kind | None:
        """The name of the type that the softmax is taken in."""
        return cast("Kind | None", self.softmax_dtype)

    @property
    def sides(self) -> tuple[int | None, int | None]:
        """How far a query sees to the left and to the right of its position."""
        return cast("tuple[int | None, int | None]", self.window or (None, None))

    @property
    def by_position(self) -> bool:
        """Whether it matters where among the keys a query stands."""
        return self.causal or self.sides != (None, None)

    @property
    def head_counts(self) -> tuple[int, int] | None:
        """How many heads the queries, and the keys and values, are split into."""
        heads, shared = (cast("int | None", n) for n in (self.heads, self.kv_heads))
        return None if heads is None else (heads, shared or heads)

    def scale_of(self, width: int | None) -> float:
        """The factor for queries that are ``width`` wide.

        Raises UsageError where 1/√d is asked for and nothing says what d is, ShapeError
        where d is 0.
        """
        if self.scale != "sqrt":
            return 1.0 if self.scale is None else cast(float, self.scale)
        if width is None:
            raise UsageError(
                "scale sqrt needs the queries' width d, and scores alone don't tell it; "
                "give the query too, or the number itself (for d = 64 it is 0.125)"
            )
        if width == 0:
            raise ShapeError("scale sqrt is 1/√d, and the queries have no columns: d is 0")
        return 1 / math.sqrt(width)

    def scale_formula(self, width: int | None) -> str:
        """The factor as a title writes it.

        >>> [AttentionConfig(scale=s).scale_formula(64) for s in ("sqrt", 0.5)]
        ['1/√64', '0.5']
        """
        return f"1/√{width}" if self.scale == "sqrt" else f"{self.scale_of(width):g}"


def _scale(given: Any) -> float | Literal["sqrt"] | None:
    if given is None or (isinstance(given, str) and given == "none"):
        return None
    if isinstance(given, str) and given == "sqrt":
        return "sqrt"
    return _number("scale", given)


def _number(name: str, given: Any) -> float:
    """A finite number of any type (NumPy's too) as a float."""
    try:
        value = math.nan if isinstance(given, (bool, str)) else float(given)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        what = "none, sqrt or a finite number" if name == "scale" else "a finite number"
        raise UsageError(f"{name} {given!r} is not {what}")
    return value


def _above_zero(name: str, given: Any) -> float | None:
    """A number above 0; None where there is none, and where "none" undoes a preset's."""
    if given is None or (isinstance(given, str) and given == "none"):
        return None
    value = _number(name, given)
    if value <= 0:
        raise UsageError(f"{name.replace('_', ' ')} {value} is not above 0")
    return value


def _word(name: str, given: Any, words: Sequence[str]) -> str | None:
    if given is not None and given not in words:
        raise UsageError(f"{name.replace('_', ' ')} {given!r} is not one of {', '.join(words)}")
    return cast("str | None", given)


def _whole(name: str, given: Any, least: int | None = None) -> int:
    """A whole number of any type as an int."""
    words = name.replace("_", " ")
    try:
        value = given.__index__()
    except (AttributeError, TypeError):
        raise UsageError(f"{words} {given!r} is not a whole number") from None
    if least is not None and value < least:
        raise UsageError(f"{words} {value} is less than {least}")
    return int(value)


def _truth(name: str, given: Any) -> bool:
    if type(given).__name__ not in ("bool", "bool_"):  # Python's own and NumPy's
        raise UsageError(f"{name} {given!r} is neither True nor False")
    return bool(given)


def _window(given: Any) -> tuple[int | None, int | None] | None:
    if given is None:
        return None
    try:
        sides = tuple(given)
    except TypeError:  # one number, of any type
        sides = (given, None)
    if len(sides) != 2:
        raise UsageError(f"window {given!r} is not a left and a right")
    left, right = (None if side is None else _whole("window", side, 0) for side in sides)
    return left, right


def _lengths(given: Any) -> tuple[int, ...] | None:
    if given is None:
        return None
    try:
        lengths = tuple(given)
    except TypeError:  # one number, of any type
        lengths = (given,)
    return tuple(_whole("valid_length", length, 0) for length in lengths)


def _dtype(name: str, given: Any) -> Kind | None:
    """A dtype's name, also where it is given as one of NumPy, ml_dtypes or PyTorch."""
    if given is None:
        return None
    known = getattr(given, "name", None) or getattr(given, "__name__", None) or str(given)
    kind = kind_named(str(known).removeprefix("torch."))
    if kind is not None:
        return kind
    raise UsageError(f"{name.replace('_', ' ')} {given!r} is not one of {', '.join(KINDS)}")
