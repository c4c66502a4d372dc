"""Notes on a model's layer: what its options leave out, and what they may do once too often.

Each is one line on standard error, as those of `notes` are.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from qkvcli.cli.commands import Line
from qkvcli.cli.declare import given, typed
from qkvcli.core.config import LAST, NEEDS, ORDER, PRESETS, AttentionConfig
from qkvcli.core.operands import ACTS_ON, BIAS_OF, Operands, is_beyond
from qkvcli.core.problem import Problem

_WIDEST, _SPLIT = 576, 4
"""Heads of models are no wider, and arrays of so many axes have their heads in one of them."""
_WEIGHT_OF = {bias: weight for weight, bias in BIAS_OF.items()}
"""The projection that each bias belongs to."""
_OF_ONE = frozenset({"gemma3", "qwen3-next"})
"""The presets of models that keep w of 1 + w."""
_NEAR_0 = 0.5
"""Weights of a norm are around 1: where their mean is less, they are around 0."""

_FLASH = ("lhd", "l3hd")
"""The layouts of FlashAttention, whose causal mask has the last query and key meet."""
_LINEAR = re.compile(r"(\.weight|in_proj_weight)(\.[a-z]+)?(\[[^\]]*\])?$")
"""What the weights of `nn.Linear`, and of `nn.MultiheadAttention`, are called, not turned."""
_CONV1D = re.compile(r"\bc_(attn|proj|fc)\b")
"""Those of GPT-2, which are kept the other way."""
_FUSED = 3
"""How many times as wide Wq, Wk and Wv side by side are."""


class _Asked(NamedTuple):
    """A command line, and what came of it."""

    line: Line
    config: AttentionConfig
    operands: Operands
    problem: Problem

    @property
    def preset(self) -> str:
        return self.line.attention.preset or ""

    @property
    def named(self) -> dict[str, object]:
        """The options that were typed, or stand for an example."""
        return {**given(self.line.sources), **given(self.line.attention)}

    @property
    def turns(self) -> bool:
        """Whether queries and keys are turned by position."""
        return self.config.base is not None or self.operands.cos is not None


def layer_notes(
    line: Line, config: AttentionConfig, operands: Operands, problem: Problem
) -> Iterator[str]:
    """All the notes on a layer that fits together."""
    asked = _Asked(line, config, operands, problem)
    yield from _not_reached(asked)
    yield from _needed(asked)
    yield from _unscaled(asked)
    yield from _turned_twice(asked)
    yield from _two_positions(asked)
    yield from _around_0(asked)
    yield from _fused(asked)
    yield from _square(asked)
    yield from _moved(asked)
    yield from _at_key_0(asked)
    yield from _one_wide_head(asked)


def _not_reached(asked: _Asked) -> Iterator[str]:
    """Files that act on steps beyond the last that is computed."""
    line = asked.line
    files = {} if line.sources.example else line.attention.files
    beyond = [typed(name) for name in files if is_beyond(name, line.command.until)]
    if beyond:
        yield f"{', '.join(beyond)}: not read; nothing beyond the {line.command.until} is computed"


def _needed(asked: _Asked) -> Iterator[str]:
    """What the layers of a preset's models have, and the command line has not."""
    line = asked.line
    steps = ORDER[: ORDER.index(LAST[line.command.until]) + 1]
    if line.takes_step:
        steps = steps[steps.index(line.command.takes or "scores") + 1 :]
    acts_on = {**AttentionConfig.acts_on(), **ACTS_ON}
    missing = [
        typed(name)
        for name in NEEDS.get(asked.preset, ())
        if name not in asked.named
        and (name != "rope" or not asked.turns)  # by a table
        and (name != "rope_dim" or asked.config.base is not None)
        and _WEIGHT_OF.get(name, name) in {name, *asked.named}
        and set(steps) & set(acts_on[name])
    ]
    if missing:
        yield f"layers of {asked.preset} also have {', '.join(missing)}; qkvcli help layer"


def _unscaled(asked: _Asked) -> Iterator[str]:
    """A model's layer whose scores are not scaled, and nothing says that this is meant."""
    operands = asked.operands
    normed = any(
        side is not None and side.norm is not None for side in (operands.query, operands.key)
    )
    layered = asked.turns or asked.config.alibi or normed or operands.sinks is not None
    said = "scale" in asked.named or asked.preset
    if layered and asked.config.scale is None and not said and not asked.line.takes_step:
        yield (
            "the scores are not scaled; models scale by 1/√d, --scale sqrt (--scale none says "
            "that it is meant)"
        )


def _turned_twice(asked: _Asked) -> Iterator[str]:
    """Queries of several heads, as a kernel gets them, and a preset that turns them."""
    query = asked.operands.query
    by_preset = "rope" in PRESETS.get(asked.preset, {}) and "rope" not in asked.named
    if query is None or query.weight is not None or not by_preset or not asked.turns:
        return
    if query.given.array.ndim > 2 and asked.config.head_counts is None:
        yield (
            f"preset {asked.preset} turns {query.given.described} by position; if its heads were "
            "turned already, add --rope none"
        )


def _two_positions(asked: _Asked) -> Iterator[str]:
    if asked.turns and asked.config.alibi:
        yield "both a rotation and ALiBi; models have one of them (--rope none, --no-alibi)"


def _around_0(asked: _Asked) -> Iterator[str]:
    """Weights of a norm that seem to be less by 1 than what is meant."""
    sides = (asked.operands.query, asked.operands.key)
    if asked.preset not in _OF_ONE:
        return
    for norm in (side.norm for side in sides if side is not None and side.norm is not None):
        if norm.array.size and float(np.mean(norm.array, dtype=np.float64)) < _NEAR_0:
            yield (
                f"the weights of {norm.described} are around 0; {asked.preset} keeps w and means "
                "1 + w: add the 1"
            )
            return


def _fused(asked: _Asked) -> Iterator[str]:
    """One matrix for Wq and Wk."""
    query, key = asked.operands.query, asked.operands.key
    if query is None or key is None or query.weight is None or key.weight is None:
        return
    wq, wk = query.weight, key.weight
    wide = wq.shape[-1:] == tuple(_FUSED * rows for rows in wq.shape[:1])
    if wide and wq.shape == wk.shape and np.array_equal(wq.array, wk.array):
        yield (
            f"{wq.described} and wk are the same numbers; of a matrix that holds Wq, Wk and Wv "
            "side by side, give each its columns"
        )


def _square(asked: _Asked) -> Iterator[str]:
    """Square weights from a model's own file, as they stand there."""
    operands = asked.operands
    weights = [side.weight for side in operands.inputs if side.weight is not None]
    weights += [weight for weight in (operands.gate, operands.wo) if weight is not None]
    square = [w for w in weights if w.array.ndim == 2 and len(set(w.shape)) == 1]
    found = [w for w in square if _LINEAR.search(w.origin) and not _CONV1D.search(w.origin)]
    if found:
        yield (
            f"{', '.join(typed(weight.name) for weight in found)} {found[0].shape}: read as (in, "
            "out); nn.Linear keeps (out, in), which .T after the name turns"
        )


def _moved(asked: _Asked) -> Iterator[str]:
    """Keys that are turned elsewhere than they stand for masks and ALiBi."""
    problem = asked.problem
    placed = asked.config.by_position or asked.config.alibi
    if problem.key is None or "key" not in problem.turned or not placed:
        return
    first = {int(offset) for offset in problem.turned["key"].offset.flat}
    if first and first != {problem.past}:
        here = " or ".join(map(str, sorted(first)[:2]))
        yield (
            f"the keys go with as many queries, and are turned from position {here} on; masks and "
            f"ALiBi have them from {problem.past} on"
        )


def _at_key_0(asked: _Asked) -> Iterator[str]:
    """Fewer queries than keys, the first of which stands at key 0 unless something says more."""
    config, problem = asked.config, asked.problem
    queries, keys = problem.shape[-2:]
    placed = config.offset is not None or config.valid_length is not None or problem.past
    flash = asked.line.sources.layout in _FLASH and config.by_position
    by_position = asked.turns or config.alibi or (config.by_position and queries == 1) or flash
    if by_position and not placed and 0 < queries < keys and problem.query is not None:
        yield (
            f"of {queries} {'query' if queries == 1 else 'queries'} and {keys} keys, query 0 is "
            f"taken to stand at key 0; --offset {keys - queries} has the last ones meet"
        )


def _one_wide_head(asked: _Asked) -> Iterator[str]:
    """Queries too wide for a head of any model, where a model's layer is asked for."""
    query = asked.operands.query
    layered = asked.turns or asked.config.alibi
    if query is None or not layered or asked.config.head_counts is not None:
        return
    width = (query.weight or query.given).shape[-1:]
    if width and width[0] > _WIDEST and query.given.array.ndim < _SPLIT:
        yield f"queries of {width[0]} columns are read as one head; --heads N splits them"
