"""The options that say what attention does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from qkvcli.cli.options import ANY, chosen, count, file, flag, given, listed, option, whole
from qkvcli.core.description import PRECISIONS, PRESETS, Attention

_ATTENTION = "The attention"


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if "_" in text or value - value != 0:  # 1_000, inf and nan are for Python to read, not us
        raise ValueError(f"{text!r} is not a finite number such as 0.125")
    return value


def _scale(text: str) -> float | str:
    if text in ("none", "sqrt"):
        return text
    try:
        return _number(text)
    except ValueError:
        wanted = "none, sqrt or a number such as 0.125"
        raise ValueError(f"{text!r} is not {wanted}") from None


def _cap(text: str) -> float:
    value = _number(text)
    if value <= 0:
        raise ValueError(f"{text!r} is not above 0")
    return value


def _window(text: str) -> tuple[int | None, int | None]:
    sides = listed(lambda side: None if side == "none" else whole(0)(side))(text)
    if len(sides) > 2:
        raise ValueError(f"{text!r} is not LEFT or LEFT,RIGHT")
    return sides[0], sides[1] if len(sides) == 2 else None


@dataclass(frozen=True)
class AttentionOptions:
    """What is done on the way from Q, K and V to the output."""

    preset: Annotated[
        str | None,
        option(
            "--preset",
            panel=_ATTENTION,
            metavar="NAME",
            parser=chosen(PRESETS),
            help="article, bert or gpt: see below; options beside it win.",
        ),
    ] = None
    scale: Annotated[
        Any,
        option(
            "--scale",
            panel=_ATTENTION,
            metavar="NUMBER",
            parser=_scale,
            help="Multiply the scores: a number, sqrt for 1/√d, or none (as in the article).",
        ),
    ] = None
    softcap: Annotated[
        float | None,
        option(
            "--softcap",
            panel=_ATTENTION,
            metavar="C",
            parser=_cap,
            help="Bend the scores into ±C: C·tanh(scores / C).",
        ),
    ] = None
    mask: Annotated[
        Path | None,
        file(
            "--mask",
            panel=_ATTENTION,
            help="true/false: what may be seen; numbers: added to the scores.",
        ),
    ] = None
    causal: Annotated[
        bool | None,
        flag(
            "--causal",
            "--no-causal",
            panel=_ATTENTION,
            help="Hide later tokens: query i sees keys 0 to i + offset.",
        ),
    ] = None
    window: Annotated[
        Any,
        option(
            "--window",
            panel=_ATTENTION,
            metavar="LEFT[,RIGHT]",
            parser=_window,
            help="Query i sees keys i + offset - LEFT to i + offset + RIGHT; none is no bound.",
        ),
    ] = None
    offset: Annotated[
        int | None,
        count(
            "--offset",
            _ATTENTION,
            "Where query 0 stands among the keys (after a cache; else 0).",
            -ANY,
        ),
    ] = None
    valid_length: Annotated[
        Any,
        option(
            "--valid-length",
            panel=_ATTENTION,
            metavar="N[,N…]",
            parser=listed(whole(0)),
            help="Keys from N on are padding (a number for each batch).",
        ),
    ] = None
    heads: Annotated[
        int | None,
        count("--heads", _ATTENTION, "Split Q, K and V into N heads, and join the output."),
    ] = None
    kv_heads: Annotated[
        int | None,
        count("--kv-heads", _ATTENTION, "Heads of K and V, where queries share them."),
    ] = None
    dtype: Annotated[
        Any,
        option(
            "--dtype",
            panel=_ATTENTION,
            metavar="TYPE",
            parser=chosen(PRECISIONS),
            help="Round the inputs to float16, float32 or float64.",
        ),
    ] = None
    softmax_dtype: Annotated[
        Any,
        option(
            "--softmax-dtype",
            panel=_ATTENTION,
            metavar="TYPE",
            parser=chosen(PRECISIONS),
            help="Take the softmax in float16, float32 or float64.",
        ),
    ] = None

    def attention(self) -> Attention:
        """The description that the core takes."""
        asked = {name: value for name, value in given(self).items() if name not in _NOT_IN_IT}
        return Attention(**{**PRESETS[self.preset or "article"], **asked})


_NOT_IN_IT = ("preset", "mask")
