"""The reference: a problem in float64, with what it is made of, so that others can be made.

A hypothesis about Q and K is another `Recipe`, which `Reference.made` makes a problem of;
somebody's step on the way to them (`Reference.going_on`) is one that has less left to do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from qkvcli.core import attention
from qkvcli.core.config import MADE, ORDER, AttentionConfig, Stage
from qkvcli.core.dtypes import FLOAT64, Float, converted, result_dtype, rounded
from qkvcli.core.fitting import problem_of, turning_of
from qkvcli.core.inputs import prepared
from qkvcli.core.operands import PARTS, Array, Input, Operand, Operands
from qkvcli.core.positions import Rotation
from qkvcli.core.problem import Problem
from qkvcli.core.steps import Outline, Step
from qkvcli.core.views import Selection, axes_of, cut
from qkvcli.errors import QkvError


@dataclass(frozen=True, eq=False)
class Recipe:
    """How Q, K and V are made: each of ``sides``, which ``rotation``, and what it is done to.

    The first token of a side stands at ``starts`` where it is turned; ``clipped`` are those that
    are clipped.
    """

    config: AttentionConfig
    sides: Mapping[str, Input]
    rotation: Rotation | None
    starts: Mapping[str, Array]
    clipped: frozenset[str] = frozenset(PARTS)

    def changed(self, change: Callable[[str, Input], Input], *names: str) -> "Recipe":
        """The same with some sides changed, by their names; all, where none are named."""
        sides = {
            name: change(name, side) if name in (names or self.sides) else side
            for name, side in self.sides.items()
        }
        return replace(self, sides=sides)

    def without(self, part: str, *names: str) -> "Recipe":
        """The same with a part of some sides left out."""
        none: dict[str, Any] = {part: None}
        return self.changed(lambda _, side: replace(side, **none), *names)

    def prepared(
        self, name: str, after: Callable[[Array], Array] = lambda array: array
    ) -> tuple[Operand, list[Step]]:
        """One side as it enters attention, and the steps that make it. Raises ShapeError."""
        side, config = self.sides[name], self.config
        if name not in self.clipped:
            config = replace(config, clip=None)
        turning = self.rotation if name in self.starts else None
        dtype = result_dtype(side.parts())
        return prepared(side, name, config, dtype, turning, self.starts.get(name), after)


@dataclass(frozen=True, eq=False)
class Reference:
    """What is compared with: config and operands in float64, and the part that was chosen.

    ``begun`` has somebody's steps in place of some that make Q, K and V. Its results are right
    to far below what any narrower type can tell.
    """

    config: AttentionConfig
    operands: Operands
    until: Stage = "output"
    selection: Selection = Selection()
    begun: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        config: AttentionConfig,
        operands: Operands,
        until: Stage = "output",
        selection: Selection = Selection(),  # noqa: B008 -- frozen
    ) -> "Reference":
        """The reference for a config and operands: the numbers that their own dtype holds.

        A softmax that was to be taken in a type that does not hold all of theirs stays so.
        """
        own = Float(config.kind) if config.kind else result_dtype(operands.numeric())
        softmax = config.softmax_kind
        narrow = None if softmax is None or Float(softmax).holds(own) else softmax

        def wide(operand: Operand) -> Operand:
            return replace(operand, array=converted(rounded(operand, own).array, FLOAT64))

        exact = replace(config, dtype=None, softmax_dtype=narrow)
        return cls(exact, operands.numbers(wide), until, selection)

    @cached_property
    def whole(self) -> Problem:
        """The problem before anything of it is chosen. Raises what `problem_of` does."""
        return self._remade(self._posed, self.recipe) if self.begun else self._posed

    @cached_property
    def problem(self) -> Problem:
        """The problem that is compared. Raises what `problem_of` does."""
        return self.chosen(self.whole)

    def chosen(self, whole: Problem) -> Problem:
        """The part of a whole problem that was chosen, with that part of its steps."""
        part = self.selection.of(whole)
        given, made = (
            tuple(cut(step, whole, self.selection) for step in steps)
            for steps in (part.given, part.made)
        )
        return replace(part, given=given, made=made)

    @cached_property
    def recipe(self) -> Recipe:
        """How its Q, K and V are made, once they are projected."""
        recipe = self.written
        config = replace(recipe.config, clip=None, heads=None, kv_heads=None)
        alone = recipe.changed(lambda _, side: Input(side.given, side.weight, side.bias))
        bare = replace(alone, config=config, rotation=None, starts={})

        def projected(name: str, side: Input) -> Input:
            if side.weight is None:
                return side
            given, _ = bare.prepared(name)
            return replace(side, given=given, weight=None, bias=None)

        recipe = recipe.changed(projected)
        for step, array in self.begun.items():
            recipe = self._begun(recipe, step, array)
        return recipe

    @cached_property
    def written(self) -> Recipe:
        """How Q, K and V are made of what was given."""
        rotation, starts = turning_of(self.config, self.operands)
        sides = {name: getattr(self.operands, name) for name in PARTS}
        return Recipe(
            self.config,
            {name: side for name, side in sides.items() if side is not None},
            rotation,
            starts,
        )

    def made(
        self, recipe: Recipe, after: Callable[[Array], Array] = lambda array: array
    ) -> Problem | None:
        """The part that was chosen of the problem that a recipe makes; None where it makes none."""
        try:
            return self.chosen(self._remade(self.whole, recipe, after))
        except QkvError:  # what is tried need not fit
            return None

    def changed(self, change: Callable[[Problem], Problem]) -> Problem:
        """The part that was chosen of the whole problem, with a change."""
        return self.chosen(change(self.whole))

    def going_on(self, theirs: Mapping[str, Array]) -> "Reference":
        """The reference that goes on from somebody's steps on the way to Q, K and V.

        They have the shape of the part that was chosen; the rest is as it was.
        """
        return replace(self, begun={name: self._filled(name, a) for name, a in theirs.items()})

    def joined(self, step: Outline) -> int | None:
        """How many heads are joined in a step; None where they are apart, or can't be taken so."""
        counts = self.config.head_counts
        if counts is None or step.has_heads or step.name == "projected":
            return None
        return counts[not step.of_queries]

    @cached_property
    def _posed(self) -> Problem:
        return problem_of(self.config, self.operands, self.until)

    def _filled(self, name: str, array: Array) -> Array:
        """Somebody's part of a step in the place of ours."""
        step = next(step for step in self._posed.made if step.name == name)
        if array.shape == step.shape:
            return array
        rows = self.selection.rows if step.of_queries else None
        axes = axes_of(step, self._posed, self.selection)
        numbers = np.arange(step.shape[-2]) if rows is None else rows
        whole = np.array(step.array)
        whole[np.ix_(*map(np.array, axes), numbers, np.arange(step.shape[-1]))] = array
        return whole

    def _begun(self, recipe: Recipe, step: str, array: Array) -> Recipe:
        """A recipe that goes on from somebody's step."""
        name, _, last = step.partition("_")
        apart = next(known for known in self._posed.made if known.name == step).has_heads
        heads = self.config.head_counts is not None
        given = attention.merge_heads(array) if apart and heads else array
        recipe = recipe.changed(
            lambda _, side: replace(side, given=replace(side.given, array=given)), name
        )
        if last:
            recipe = recipe.without("norm", name).without("norm_bias", name)
        starts = dict(recipe.starts)
        if last == "rotated":
            starts.pop(name, None)
        return replace(recipe, starts=starts, clipped=recipe.clipped - {name})

    def _remade(
        self, whole: Problem, recipe: Recipe, after: Callable[[Array], Array] = lambda array: array
    ) -> Problem:
        """A whole problem with its Q, K and V made by another recipe."""
        begun = {step.partition("_")[0]: step for step in self.begun}
        ready: dict[str, Any] = {}
        given, made = list[Step](), list[Step]()
        known = {step.name for step in self._posed.given}
        kept = {name for name in PARTS if getattr(whole, name) is None or name not in recipe.sides}
        for name in PARTS:
            if name in kept:
                continue
            ready[name], steps = recipe.prepared(name, after)
            if name in begun:  # those before it are ours, and what it is made of is no part of it
                last = MADE.index(begun[name])
                before = (s for s in self._posed.made if s.name.partition("_")[0] == name)
                steps = [*(s for s in before if MADE.index(s.name) <= last), *steps[1:]]
            for step in steps:
                (given if step.name in known else made).append(step)
        others = [s for s in whole.given if s.name in kept or s.name not in PARTS]
        made += [s for s in whole.made if s.name.partition("_")[0] in kept]
        made.sort(key=lambda step: ORDER.index(step.name))
        return replace(whole, **ready, given=(*given, *others), made=tuple(made))
