"""The attention asked for, as one frozen value."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from qkvcli.errors import ShapeError, UsageError

Scale: TypeAlias = float | Literal["none", "sqrt"] | None
Precision: TypeAlias = Literal["float16", "float32", "float64"]
PRECISIONS: tuple[Precision, ...] = ("float16", "float32", "float64")

PRESETS: dict[str, dict[str, Any]] = {
    "article": {},
    "bert": {"scale": "sqrt"},
    "gpt": {"scale": "sqrt", "causal": True},
}
"""What the article, and the models that it speaks of, do: options of `Attention`."""


@dataclass(frozen=True)
class Attention:
    """What is done to the dot products on the way to the output; nothing, by default.

    scale          None or "none" for the article's bare dot products, "sqrt" for 1/√d of
                   one head (Vaswani et al., section 3.2.1), or a number
    softcap        C: the scores become C·tanh(scores / C) (Gemma 2 report, section 2)
    causal         query i sees keys 0 … i + offset
    window         (left, right): query i sees keys i + offset − left … i + offset + right;
                   None on a side for no bound there; a number alone is the left
                   (Longformer, section 3.1; ONNX Attention, left_window_size)
    offset         where query 0 stands among the keys; None for the length of a cache, or
                   valid_length − L_q, or 0
    valid_length   N, or one for each batch: keys from N on are padding
    heads          split the last axis of Q, K and V into so many heads, and join the output
    kv_heads       heads of K and V, where queries share them (grouped-query attention:
                   Ainslie et al., section 2.2); as ``heads`` where None
    dtype          round the inputs to it: "float16", "float32" or "float64"
    softmax_dtype  take the softmax in it

    >>> Attention(scale="sqrt").scale_of(64), Attention(window=3).window
    (0.125, (3, None))

    Raises UsageError for a value that is none of these.
    """

    scale: Scale = None
    softcap: float | None = None
    causal: bool = False
    window: Any = None
    offset: int | None = None
    valid_length: Any = None
    heads: int | None = None
    kv_heads: int | None = None
    dtype: Precision | None = None
    softmax_dtype: Precision | None = None

    def __post_init__(self) -> None:
        """Bring what a person may write to one form. Raises UsageError."""
        scale = None if _is(self.scale, "none") else self.scale
        self._set(
            "scale", scale if scale is None or _is(scale, "sqrt") else _number("scale", scale)
        )
        if self.softcap is not None:
            self._set("softcap", _number("softcap", self.softcap))
            if self.softcap <= 0:
                raise UsageError(f"softcap {self.softcap} is not above 0")
        self._set("causal", _truth("causal", self.causal))
        self._set("window", _window(self.window))
        self._set("offset", None if self.offset is None else _whole("offset", self.offset))
        self._set("valid_length", _lengths(self.valid_length))
        for name in ("heads", "kv_heads"):
            if getattr(self, name) is not None:
                self._set(name, _whole(name, getattr(self, name), 1))
        if self.kv_heads is not None and self.heads is None:
            raise UsageError("kv heads are for a split into heads; give the number of heads too")
        if self.heads is not None and self.heads % (self.kv_heads or 1):
            raise UsageError(f"{self.heads} heads cannot share {self.kv_heads} of K and V evenly")
        for name in ("dtype", "softmax_dtype"):
            self._set(name, _precision(name, getattr(self, name)))

    def check_beside(self, step: str, width_known: bool = False) -> None:
        """Raise UsageError for an option that comes before a step ("scores", "weights") given.

        Heads are split before the scores; they matter after them only for the width that
        scale "sqrt" needs.
        """
        kept = {"heads", "kv_heads", "dtype"} if step == "weights" else set(vars(self))
        if step == "scores" and not width_known:
            kept -= {"heads", "kv_heads"}
        for field in fields(self):
            if getattr(self, field.name) != field.default and field.name not in kept:
                name = field.name.replace("_", " ")
                raise UsageError(f"{name} comes before the {step}, and those are given")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def places(self) -> bool:
        """Whether it matters where queries stand among the keys."""
        return self.causal or self.window is not None

    def scale_of(self, width: int | None) -> float:
        """The factor for queries that are ``width`` wide.

        Raises UsageError where 1/√d is asked for and nothing says what d is, ShapeError
        where d is 0.
        """
        if self.scale != "sqrt":
            return float(self.scale or 0)
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

        >>> Attention(scale="sqrt").scale_formula(64), Attention(scale=0.5).scale_formula(64)
        ('1/√64', '0.5')
        """
        return f"1/√{width}" if self.scale == "sqrt" else f"{self.scale_of(width):g}"


def _is(value: object, word: str) -> bool:
    return isinstance(value, str) and value == word


def _number(name: str, given: Any) -> float:
    """A finite number of any make (NumPy's too) as a float."""
    try:
        value = math.nan if isinstance(given, (bool, str)) else float(given)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        what = "none, sqrt or a finite number" if name == "scale" else "a finite number"
        raise UsageError(f"{name} {given!r} is not {what}")
    return value


def _whole(name: str, given: Any, least: int | None = None) -> int:
    """A whole number of any make as an int."""
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
    sides = tuple(given) if isinstance(given, Iterable) else (given, None)
    if len(sides) != 2:
        raise UsageError(f"window {given!r} is not a left and a right")
    left, right = (None if side is None else _whole("window", side, 0) for side in sides)
    return left, right


def _lengths(given: Any) -> tuple[int, ...] | None:
    if given is None:
        return None
    try:
        lengths = tuple(given)
    except TypeError:  # one number, of any make
        lengths = (given,)
    return tuple(_whole("valid_length", length, 0) for length in lengths)


def _precision(name: str, given: Any) -> Any:
    """A precision's name, also where NumPy's type was given."""
    known = getattr(given, "name", None) or getattr(given, "__name__", None) or given
    if known is not None and known not in PRECISIONS:
        raise UsageError(
            f"{name.replace('_', ' ')} {given!r} is not one of {', '.join(PRECISIONS)}"
        )
    return known
