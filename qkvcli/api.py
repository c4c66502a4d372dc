"""The library: typed functions on arrays, and their results as steps.

Each takes what NumPy takes for an array: lists, memory-mapped files, PyTorch tensors, pandas
frames. The options mean what `AttentionConfig` says, wherever they stand.
"""

from __future__ import annotations  # help() shows the types by their names

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from html import escape
from operator import index
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    SupportsFloat,
    SupportsIndex,
    TypeAlias,
    TypedDict,
    overload,
)

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from qkvcli.core import naming
from qkvcli.core.compute import SIZES, output_into, steps_of
from qkvcli.core.config import (
    AttentionConfig,
    DtypeLike,
    Lengths,
    Norm,
    Number,
    Pairs,
    Preset,
    Scale,
    Window,
)
from qkvcli.core.dtypes import working_dtype
from qkvcli.core.explain import Explanation as Explained
from qkvcli.core.explain import explain
from qkvcli.core.fitting import problem_of
from qkvcli.core.operands import Array, Labels, Operand, Operands, Shape
from qkvcli.core.problem import Problem
from qkvcli.core.steps import Step
from qkvcli.core.together import TOGETHER
from qkvcli.core.views import Selection, View, rows_named, views
from qkvcli.errors import DataError, DtypeError, ShapeError, UsageError
from qkvcli.formats.stored import LACKING, lacking

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from qkvcli.render.notebook import Shown
    from qkvcli.spreading import Crew, Executor

Rows: TypeAlias = str | int | slice | Sequence[int] | npt.NDArray[np.integer[Any]] | None
Theme: TypeAlias = Literal["light", "dark"]
Names: TypeAlias = str | Sequence[str] | None


class _Asked(NamedTuple):
    """What `attend` was given: the config, the operands, and which rows."""

    config: AttentionConfig
    operands: Operands
    rows: Array | None

    def chosen(self, problem: Problem) -> Problem:
        """The rows of a problem that are wanted."""
        return problem if self.rows is None else problem.with_rows(self.rows)


class _TableStep(Step):
    """A step that a notebook shows as its table, with heat; in all else a step as others are."""

    _problem: Problem | None = None

    @classmethod
    def of(cls, step: Step, problem: Problem | None) -> _TableStep:
        """A step of a problem, which knows what is hidden; None where that is not known."""
        found = cls(**step._known(), make=step.parts)
        found._problem = problem
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return _table_again, super().__reduce__()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return self._alone()._repr_mimebundle_()

    def _repr_html_(self) -> str:
        return self._alone()._repr_html_()

    def _alone(self) -> Steps:
        return Steps((self,), problem=self._problem)


def _table_again(make: Callable[..., Step], known: tuple[Any, ...]) -> _TableStep:
    """A step that was pickled, with its numbers and without its problem."""
    return _TableStep.of(make(*known), None)


class Steps:
    """The steps of an attention: a sequence in their order, and a mapping by name.

    Those with more than a million scores are each computed when they are looked at: leave
    the arrays that they come from as they are until then.

    >>> steps = attend([[1, 0]], [[0, 1], [0, 2]], [[4, 0], [0, 8]])
    >>> list(steps.keys()), "scaled" in steps, dict(steps)["weights"]
    (['scores', 'weights', 'output'], False, Step(weights = softmax(scores), (1, 2) float64))
    """

    def __init__(
        self,
        steps: Sequence[Step],
        config: AttentionConfig | None = None,
        problem: Problem | None = None,
        asked: _Asked | None = None,
    ) -> None:
        self._steps = tuple(steps)
        self.config = config or AttentionConfig()
        self._problem = problem
        self._asked = asked

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Steps that were pickled know again which keys are hidden."""
        vars(self).update(state)
        for step in self._steps:
            if isinstance(step, _TableStep):
                step._problem = self._problem

    @property
    def names(self) -> tuple[str, ...]:
        """What the steps are called, in order."""
        return tuple(step.name for step in self._steps)

    def keys(self) -> tuple[str, ...]:
        """The names again, as a mapping has them."""
        return self.names

    def values(self) -> tuple[Step, ...]:
        """The steps, as a mapping has them."""
        return self._steps

    def items(self) -> tuple[tuple[str, Step], ...]:
        """The names and the steps."""
        return tuple((step.name, step) for step in self._steps)

    @overload
    def __getitem__(self, which: int | str) -> Step: ...
    @overload
    def __getitem__(self, which: slice) -> Steps: ...
    def __getitem__(self, which: int | str | slice) -> Step | Steps:
        if isinstance(which, slice):
            return Steps(self._steps[which], self.config, self._problem, self._asked)
        if not isinstance(which, str):
            return self._steps[which]
        for step in self._steps:
            if step.name == which:
                return step
        raise KeyError(f"no step {which!r}; there are {', '.join(self.names)}")

    def __contains__(self, which: object) -> bool:
        if isinstance(which, str):
            return which in self.names
        return any(step is which for step in self._steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps)

    def __len__(self) -> int:
        return len(self._steps)

    def __repr__(self) -> str:
        return f"Steps({', '.join(f'{step.name} {step.shape}' for step in self)})"

    @property
    def scores(self) -> Array:
        """The dot products Q·Kᵀ, (…, L_q, L_k)."""
        return self["scores"].array

    @property
    def weights(self) -> Array:
        """The softmax over the keys, (…, L_q, L_k)."""
        return self["weights"].array

    @property
    def output(self) -> Array:
        """The mixed values, (…, L_q, d_v)."""
        return self["output"].array

    @property
    def projected(self) -> Array:
        """The output·Wo + bo, (…, L_q, m), where ``wo`` was given; KeyError where it was not."""
        return self["projected"].array

    def index(self, step: Step) -> int:
        """Where a step stands. Raises ValueError where it is none of these."""
        for i, known in enumerate(self._steps):
            if known is step:
                return i
        raise ValueError(f"{step!r} is none of these steps")

    def count(self, step: Step) -> int:
        """How often a step stands there."""
        return sum(known is step for known in self._steps)

    def get(self, name: str, default: Step | None = None) -> Step | None:
        """The step of a name, or the default where there is none."""
        return next((step for step in self if step.name == name), default)

    def explain(
        self,
        query: str | SupportsIndex,
        key: str | SupportsIndex | None = None,
        *,
        head: SupportsIndex | None = None,
        batch: SupportsIndex | Sequence[int] | None = None,
    ) -> Explanation:
        """How a query came to its weights and its output; ``key`` None is the one that weighs most.

        Both are labels (text, ``"the#2"`` for the second *the*), or numbers, of the rows that
        there are. Where there are several heads or batches, ``head`` and ``batch`` (a number
        for each axis before the heads) say which. The inputs are read again: leave them as
        they are until then. Raises UsageError for what does not exist, ShapeError where there
        are no keys. Source: Vaswani et al., section 3.2.1.

        >>> steps = attend([[1, 2]], [[3, 1], [0, 1]], [[1], [5]], key_labels="cat sat")
        >>> found = steps.explain(0, "cat")
        >>> found.score, round(found.weight, 4), found.shares.round(2).tolist()
        (5.0, 0.9526, [0.8, 0.2])
        >>> print(found)  # doctest: +ELLIPSIS
        0 → cat: weight 0.9526, the largest of 2; equal shares would be 0.5000
        1  score = q(0)·k(cat)
        ...
        """
        problem = self._problem
        if problem is None:
            raise UsageError("only the steps that attend gives can be explained")
        asked = _token(query, problem.query_names, "query")
        answers = None if key is None else _token(key, problem.key_names, "key")
        place = _place(problem.leading, head, batch)
        return Explanation(**vars(explain(problem, asked, answers, place)))

    def save(self, path: str | os.PathLike[str], *, theme: Theme | None = None) -> None:
        """Write a file, whole or not at all, in the format of its ending, with every digit.

        .npz, .json and .md hold every step, .npy, .csv, .tsv and .txt the last one. .svg is a
        picture of every step, on a page of ``theme`` "light" (the default) or "dark"; .html is
        a page that explains them (`page`). Large steps are computed while they are written.
        Raises WriteError where the system refuses, UsageError for an ending or a theme that
        does not exist.
        """
        from qkvcli.formats.registry import FORMATS, name_by_ending
        from qkvcli.formats.saving import saved
        from qkvcli.render.markdown import write_markdown

        if not self._steps:
            raise UsageError(f"{path}: there are no steps to save")
        target = Path(path)
        name = name_by_ending(target, str(path))
        if name == "html":
            self.page(theme).save(path)
            return
        if theme is not None and name != "svg":
            raise UsageError(f"{path}: a theme is for pictures and pages: .svg, .html")
        picture = self._picture(theme) if name == "svg" else ""
        with saved(target) as stream:
            if name in FORMATS:
                FORMATS[name].write(self._steps, stream)
            elif name == "svg":
                stream.write(picture.encode())
            else:
                write_markdown(map(View.whole, self), stream)

    def page(self, theme: Theme | None = None) -> Page:
        """A page of HTML that computes the steps again, and explains each number in a browser.

        It holds Q, K and V, and no step; a ``theme`` of "light" or "dark" is the page's, else
        the reader's own. The inputs are read again: leave them as they are until then. Raises
        UsageError for what is too large for a page, for a theme that does not exist, and for
        steps that `attend` did not give; ShapeError where there is no cell to show.

        >>> page = attend([[1, 2]], [[3, 1], [0, 1]], [[1], [5]]).page()
        >>> str(page).startswith("<!DOCTYPE html>"), "https://" in str(page)
        (True, False)
        """
        from qkvcli.render.lesson.page import lesson

        if self._problem is None:
            raise UsageError("only the steps that attend gives make a page")
        if theme not in (None, "light", "dark"):
            raise UsageError(f"theme {theme!r} is none of light, dark")
        return Page(lesson(self._problem, self.names, theme=theme))

    @property
    def _held(self) -> bool:
        """Whether all the numbers are here: the inputs may be others by now."""
        return self._problem is None or all("array" in vars(step) for step in self)

    def _picture(self, theme: str | None) -> str:
        """All of it in SVG, the large steps reduced while they are computed."""
        from qkvcli.core.patches import affordable, patches, patches_of
        from qkvcli.render.svg import fit, picture

        most = fit(step.shape for step in self)
        problem, names = self._problem, self.names
        if problem is None or self._held:
            found = patches_of(self._steps, problem, most)
        else:
            most = affordable(problem, "output", names, Selection(), most)
            found = patches(problem, "output", names, Selection(), most)
        return picture(found, theme or "light")

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """What a notebook shows: tables with heat, and the same as text."""
        from qkvcli.render.notebook import page, text

        shown = self._shown()
        return {"text/plain": text(shown), "text/html": page(shown)}

    def _repr_html_(self) -> str:
        from qkvcli.render.notebook import page

        return page(self._shown())

    def _shown(self) -> Shown:
        """What is shown in a notebook: the edges of some matrices, and nothing else computed."""
        from qkvcli.render.notebook import Shown, chosen

        problem = self._problem
        if problem is None or self._held:
            return Shown.held(self._steps, problem)
        return Shown.of(
            view
            for names, selection in chosen(problem, self.names)
            for view in views(problem, "output", names, selection, TOGETHER)
        )


class Page:
    """What `Steps.page` gives: a page, as text of HTML. In a notebook it shows itself."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return f"Page({len(self._text):,} characters)"

    def __str__(self) -> str:
        return self._text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all. Raises WriteError where the system refuses."""
        from qkvcli.formats.saving import saved

        with saved(Path(path)) as stream:
            stream.write(self._text.encode())

    def _repr_html_(self) -> str:
        held = escape(self._text)
        style = "width:100%;height:46rem;border:0"
        frame = f'sandbox="allow-scripts" title="Attention" style="{style}"'
        return f'<iframe {frame} srcdoc="{held}"></iframe>'


class Explanation(Explained):
    """What `Steps.explain` gives: the numbers, and as text what a person reads.

    In a notebook it shows itself.
    """

    def __repr__(self) -> str:
        return f"Explanation({str(self).splitlines()[0]})"

    def __str__(self) -> str:
        from qkvcli.render.explanation import PAPER, parts
        from qkvcli.render.paper import plain_text

        return plain_text(parts(self, PAPER), PAPER)

    def _repr_html_(self) -> str:
        from qkvcli.render.explanation import PAPER, parts
        from qkvcli.render.notebook import explained

        return explained(parts(self, PAPER))

    def _repr_markdown_(self) -> str:
        from qkvcli.render.explanation import PAPER, parts
        from qkvcli.render.paper import markdown

        return markdown(parts(self, PAPER))


def _token(given: str | SupportsIndex, names: naming.Names, kind: str) -> int:
    """The number of a token that is named by its label, or counted from 0."""
    if isinstance(given, str):
        return names.find(given, kind)
    return _counted(given, len(names), kind, "queries" if kind == "query" else "keys")


def _counted(given: Any, count: int, kind: str, many: str) -> int:
    try:
        number = index(given)
    except TypeError:
        raise UsageError(f"{kind} {given!r} is not a whole number") from None
    if not 0 <= number < count:
        there = f"they are 0 to {count - 1}" if count else f"there are no {many}"
        raise UsageError(f"there is no {kind} {number}; {there}")
    return number


def _place(
    leading: Shape, head: SupportsIndex | None, batch: SupportsIndex | Sequence[int] | None
) -> tuple[int, ...]:
    """The matrix that a head and a batch name. Raises UsageError where it is not clear."""
    *batches, heads = leading or (1,)
    numbers = [] if batch is None else list(batch) if isinstance(batch, Sequence) else [batch]
    if head is not None and not leading:
        raise UsageError("there is no head axis; leave head out")
    if numbers and len(numbers) != len(batches):
        raise UsageError(f"batch {batch!r}: the axes before the heads are {tuple(batches)}")
    if head is None and heads > 1:
        raise UsageError(f"there are {heads} heads; say which with head=0 to {heads - 1}")
    if not numbers and any(count > 1 for count in batches):
        raise UsageError(f"there are batches {tuple(batches)}; say which with batch=")
    which = (*(numbers or [0] * len(batches)), 0 if head is None else head)
    kinds = (*["batch"] * len(batches), "head")
    found = zip(which, (*batches, heads), kinds, strict=True)
    return tuple(
        _counted(n, count, kind, "heads" if kind == "head" else "batches")
        for n, count, kind in found
    )[: len(leading)]


Sequence.register(Steps)  # not a subclass: type checkers would refuse `"weights" in steps`


def attend(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    preset: Preset | None = None,
    scale: Scale = None,
    softcap: Number = None,
    mask: ArrayLike | None = None,
    causal: bool | None = None,
    window: Window = None,
    offset: SupportsIndex | None = None,
    valid_length: Lengths = None,
    heads: SupportsIndex | None = None,
    kv_heads: SupportsIndex | None = None,
    past_key: ArrayLike | None = None,
    past_value: ArrayLike | None = None,
    wq: ArrayLike | None = None,
    wk: ArrayLike | None = None,
    wv: ArrayLike | None = None,
    bq: ArrayLike | None = None,
    bk: ArrayLike | None = None,
    bv: ArrayLike | None = None,
    clip: Number = None,
    q_norm: ArrayLike | None = None,
    k_norm: ArrayLike | None = None,
    norm: Norm | None = None,
    norm_eps: SupportsFloat | None = None,
    q_norm_bias: ArrayLike | None = None,
    k_norm_bias: ArrayLike | None = None,
    rope: Number = None,
    rope_pairs: Pairs | None = None,
    rope_dim: SupportsIndex | None = None,
    cos: ArrayLike | None = None,
    sin: ArrayLike | None = None,
    alibi: bool | None = None,
    sinks: ArrayLike | None = None,
    gate: ArrayLike | None = None,
    wo: ArrayLike | None = None,
    bo: ArrayLike | None = None,
    dtype: DtypeLike = None,
    softmax_dtype: DtypeLike = None,
    rows: Rows = None,
    labels: Names = None,
    key_labels: Names = None,
) -> Steps:
    """Attention, with every step on the way to the output.

    query (…, L_q, d), key (…, L_k, d), value (…, L_k, d_v) → output (…, L_q, d_v), in the
    inputs' dtype. With wq (m, d) and bq (d,), ``query`` is X (…, L_q, m) of X·Wq + bq;
    likewise key and value. past_key and past_value go before them along the tokens. ``mask``
    is true where a key may be seen, or numbers to add to the scores. q_norm and k_norm have the
    weights of a norm, (d,) of each head, (H, d), or (H·d,) before the split; cos and sin
    (L, N/2) or (B, L, N/2) turn Q and K in place of ``rope``; sinks (H,) are scores that no key
    has; gate (m, H·d_v) or (m, H) is Wg of output × sigmoid(X·Wg); wo (H·d_v, m) and bo (m,)
    project the output. ``rows`` (numbers, or text: "0:3,sat") are the queries wanted, ``labels``
    the tokens' names. `AttentionConfig` explains the rest. Raises ShapeError, DataError,
    UsageError (all of them ValueErrors).
    Source: Vaswani et al., "Attention Is All You Need", section 3.2.1.

    >>> steps = attend([[1, 0]], [[0, 1], [0, 2]], [[4, 0], [0, 8]], scale="sqrt")
    >>> steps.names
    ('scores', 'scaled', 'weights', 'output')
    >>> steps.weights, steps.output
    (array([[0.5, 0.5]]), array([[2., 4.]]))
    >>> steps["scaled"].formula, steps["scaled"].array
    ('scores × 1/√2', array([[0., 0.]]))
    """
    config, operands = _asked(locals())
    operands = operands.labelled(_labels(labels), _labels(key_labels))
    problem = problem_of(config, operands)
    picked = None if rows is None else _rows(rows, problem.shape[-2], problem.labels)
    asked = _Asked(config, operands, picked)
    problem = asked.chosen(problem)
    shown = [_TableStep.of(step, problem) for step in steps_of(problem)]
    steps = Steps(shown, config, problem, asked)
    if problem.size <= SIZES.held:  # at once, so that the inputs may be written to again
        for step in steps:
            _ = step.array
    return steps


class _Options(TypedDict, total=False):
    """The options of `attention`, for its two ways of being typed."""

    preset: Preset | None
    scale: Scale
    softcap: Number
    mask: ArrayLike | None
    causal: bool | None
    window: Window
    offset: SupportsIndex | None
    valid_length: Lengths
    heads: SupportsIndex | None
    kv_heads: SupportsIndex | None
    past_key: ArrayLike | None
    past_value: ArrayLike | None
    wq: ArrayLike | None
    wk: ArrayLike | None
    wv: ArrayLike | None
    bq: ArrayLike | None
    bk: ArrayLike | None
    bv: ArrayLike | None
    clip: Number
    q_norm: ArrayLike | None
    k_norm: ArrayLike | None
    norm: Norm | None
    norm_eps: SupportsFloat | None
    q_norm_bias: ArrayLike | None
    k_norm_bias: ArrayLike | None
    rope: Number
    rope_pairs: Pairs | None
    rope_dim: SupportsIndex | None
    cos: ArrayLike | None
    sin: ArrayLike | None
    alibi: bool | None
    sinks: ArrayLike | None
    gate: ArrayLike | None
    wo: ArrayLike | None
    bo: ArrayLike | None
    dtype: DtypeLike
    softmax_dtype: DtypeLike
    out: Array | None
    executor: Executor | None


@overload
def attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    lse: Literal[False] = False,
    **options: Unpack[_Options],
) -> Array: ...
@overload
def attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    lse: Literal[True],
    **options: Unpack[_Options],
) -> tuple[Array, Array]: ...
def attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    preset: Preset | None = None,
    scale: Scale = None,
    softcap: Number = None,
    mask: ArrayLike | None = None,
    causal: bool | None = None,
    window: Window = None,
    offset: SupportsIndex | None = None,
    valid_length: Lengths = None,
    heads: SupportsIndex | None = None,
    kv_heads: SupportsIndex | None = None,
    past_key: ArrayLike | None = None,
    past_value: ArrayLike | None = None,
    wq: ArrayLike | None = None,
    wk: ArrayLike | None = None,
    wv: ArrayLike | None = None,
    bq: ArrayLike | None = None,
    bk: ArrayLike | None = None,
    bv: ArrayLike | None = None,
    clip: Number = None,
    q_norm: ArrayLike | None = None,
    k_norm: ArrayLike | None = None,
    norm: Norm | None = None,
    norm_eps: SupportsFloat | None = None,
    q_norm_bias: ArrayLike | None = None,
    k_norm_bias: ArrayLike | None = None,
    rope: Number = None,
    rope_pairs: Pairs | None = None,
    rope_dim: SupportsIndex | None = None,
    cos: ArrayLike | None = None,
    sin: ArrayLike | None = None,
    alibi: bool | None = None,
    sinks: ArrayLike | None = None,
    gate: ArrayLike | None = None,
    wo: ArrayLike | None = None,
    bo: ArrayLike | None = None,
    dtype: DtypeLike = None,
    softmax_dtype: DtypeLike = None,
    out: Array | None = None,
    lse: bool = False,
    executor: Executor | None = None,
) -> Array | tuple[Array, Array]:
    """The output alone, without the matrix of weights: for any length, on all cores.

    With a gate or ``wo`` it is what they make of it. Shapes, options and errors as in `attend`.
    ``out`` (a memory-mapped file too, or ml_dtypes' bfloat16) is an array of the result's shape
    to write it into. With
    ``lse``, also the logarithm of each row's sum of e^score, sinks among them, (…, H, L_q); −∞
    for a query that sees no key.
    ``executor`` is whatever has ``submit`` as `concurrent.futures.Executor` does (Dask's, loky's,
    mpi4py's): its workers compute the pieces, some queries of one head each, in place of threads
    here. The numbers are the same, to the bit where the processors agree.
    Source: Dao et al., "FlashAttention" (2022), algorithm 1.

    >>> attention([[1, 0]], [[0, 1], [0, 2]], [[4, 0], [0, 8]])
    array([[2., 4.]])
    >>> attention([[0, 0]], [[1, 2]] * 8, [[5]] * 8, lse=True)[1].round(4)  # log(8·e⁰)
    array([2.0794])
    """
    if not isinstance(lse, (bool, np.bool_)):
        raise UsageError(f"lse {lse!r} is neither True nor False")
    config, operands = _asked(locals())
    problem = problem_of(config, operands)
    outline = problem.outlines()[-1]
    if out is None:
        out = np.empty(outline.shape, outline.dtype)
    elif not isinstance(out, np.ndarray):
        raise DtypeError(f"out is a {type(out).__name__}, and no NumPy array")
    elif out.shape != outline.shape:
        raise ShapeError(f"out {out.shape}: the output is {outline.shape}")
    elif isinstance(out, np.ma.MaskedArray) or not _takes_floats(out):
        raise DtypeError(f"out holds {out.dtype}, and the output is {outline.kind}; give floats")
    elif not out.flags.writeable:
        raise UsageError("out cannot be written to; it is read-only")
    logarithms = None
    if lse:
        shape = (*problem.leading, problem.shape[-2])
        logarithms = np.empty(shape, working_dtype(problem.dtype).carrier)
    inputs = (*operands.numeric(), *(part for part in (operands.mask, operands.sinks) if part))
    shared = any(np.may_share_memory(out, part.array) for part in inputs)
    target = np.empty_like(out) if shared else out  # what is still to be read stays as it is
    output_into(problem, target, logarithms, crew=None if executor is None else _crew(executor))
    if shared:
        out[...] = target
    return out if logarithms is None else (out, logarithms)


def _crew(executor: Executor) -> Crew:
    """The workers of an executor."""
    from qkvcli.spreading import Crew  # with what only processes need

    if not callable(getattr(executor, "submit", None)):
        raise UsageError(f"executor is a {type(executor).__name__}, which has no submit")
    return Crew(executor)


def _takes_floats(out: Array) -> bool:
    """Whether floats can be written to an array: of NumPy's types, or of ml_dtypes'."""
    return out.dtype.kind == "f" or out.dtype.name in LACKING


def scores(
    query: ArrayLike,
    key: ArrayLike,
    *,
    preset: Preset | None = None,
    scale: Scale = None,
    softcap: Number = None,
    mask: ArrayLike | None = None,
    causal: bool | None = None,
    window: Window = None,
    offset: SupportsIndex | None = None,
    valid_length: Lengths = None,
    heads: SupportsIndex | None = None,
    kv_heads: SupportsIndex | None = None,
    past_key: ArrayLike | None = None,
    wq: ArrayLike | None = None,
    wk: ArrayLike | None = None,
    bq: ArrayLike | None = None,
    bk: ArrayLike | None = None,
    clip: Number = None,
    q_norm: ArrayLike | None = None,
    k_norm: ArrayLike | None = None,
    norm: Norm | None = None,
    norm_eps: SupportsFloat | None = None,
    q_norm_bias: ArrayLike | None = None,
    k_norm_bias: ArrayLike | None = None,
    rope: Number = None,
    rope_pairs: Pairs | None = None,
    rope_dim: SupportsIndex | None = None,
    cos: ArrayLike | None = None,
    sin: ArrayLike | None = None,
    alibi: bool | None = None,
    dtype: DtypeLike = None,
) -> Array:
    """Q·Kᵀ, and scaled, capped and masked where asked for.

    query (…, L_q, d), key (…, L_k, d) → (…, L_q, L_k); the axes before the last two
    broadcast, and at −3 the heads of the query may be a multiple of the key's. The dtype is
    the inputs' own; float64 for integers and booleans; float16 is worked on in float32, in
    which bfloat16 and float8 (of PyTorch, of ml_dtypes) are carried, exactly.
    Options and errors as in `attend`. Source: Vaswani et al., section 3.2.1.

    >>> scores([[1, 0], [0, 2]], [[1, 1], [3, 4]])
    array([[1., 3.],
           [2., 8.]])
    >>> scores([[1, 0], [0, 2]], [[1, 1], [3, 4]], scale=0.5, causal=True)
    array([[ 0.5, -inf],
           [ 1. ,  4. ]])
    """
    problem = problem_of(*_asked(locals()), "scores")
    return steps_of(problem, "scores")[-1].array


def softmax(
    scores: ArrayLike,
    *,
    scale: SupportsFloat | Literal["none"] | None = None,
    softcap: Number = None,
    mask: ArrayLike | None = None,
    causal: bool = False,
    window: Window = None,
    offset: SupportsIndex | None = None,
    valid_length: Lengths = None,
    alibi: bool = False,
    sinks: ArrayLike | None = None,
    dtype: DtypeLike = None,
    softmax_dtype: DtypeLike = None,
) -> Array:
    """The weights: each row of scores as shares of 1.

    scores (…, L_q, L_k) → the same shape. What the options ask for is done to the scores
    first. The row's maximum is taken off, so that no exponential is above 1; a row that is
    −∞ throughout, or empty, gives zeros. Dtypes and errors as in `scores`.
    Source: Vaswani et al., section 3.2.1.

    >>> softmax([[0, 0, -np.inf], [-np.inf, -np.inf, -np.inf]])
    array([[0.5, 0.5, 0. ],
           [0. , 0. , 0. ]])
    """
    problem = problem_of(*_asked(locals()), "weights")
    return steps_of(problem, "weights")[-1].array


def output(
    weights: ArrayLike,
    value: ArrayLike,
    *,
    heads: SupportsIndex | None = None,
    kv_heads: SupportsIndex | None = None,
    past_value: ArrayLike | None = None,
    wv: ArrayLike | None = None,
    bv: ArrayLike | None = None,
    clip: Number = None,
    wo: ArrayLike | None = None,
    bo: ArrayLike | None = None,
    dtype: DtypeLike = None,
) -> Array:
    """weights·V: for each query, the values mixed by its row of weights.

    weights (…, L_q, L_k), value (…, L_k, d_v) → (…, L_q, d_v). A key of weight 0 adds
    nothing, also where its value is inf or NaN. With ``wo`` it is projected. Options, dtypes and
    errors as in `attend`.
    Source: Vaswani et al., section 3.2.1.

    >>> output([[0.5, 0.5, 0], [0, 0, 1]], [[10, 0], [20, 2], [7, 7]])
    array([[15.,  1.],
           [ 7.,  7.]])
    """
    problem = problem_of(*_asked(locals()))
    return steps_of(problem)[-1].array


def operand_of(name: str, given: Any) -> Operand:
    """What a person gives, as an operand. Raises DataError, which names it."""
    if type(given).__name__ == "MaskedArray":
        raise DataError(f"{name}: a masked array; fill it, and give what is hidden as mask=")
    try:
        if hasattr(given, "detach"):  # a PyTorch tensor, with a gradient or on another device
            given = given.detach().cpu()
            given = given.float() if lacking(given.dtype) else given
        array = np.asarray(given)
        stored = lacking(array.dtype)
        if stored is not None and stored.decode is not None:
            array = stored.decode(array.view(stored.dtype))
    except Exception as fault:  # whatever another library raises
        raise DataError(f"{name} cannot be read as an array: {fault}") from None
    return Operand(array, name)


def _asked(given: dict[str, Any]) -> tuple[AttentionConfig, Operands]:
    """A function's own arguments, by their names, as a config and operands."""

    def find(name: str) -> Operand | None:
        return None if given.get(name) is None else operand_of(name, given[name])

    options = {option.name: given.get(option.name) for option in fields(AttentionConfig)}
    operands = [name for name, value in given.items() if value is not None]
    config = AttentionConfig.of(given.get("preset"), operands, **options)
    return config, Operands.of(find)


def _labels(labels: Names) -> Labels:
    """Labels in a text are separated at white space."""
    if labels is None:
        return None
    if isinstance(labels, str):
        return tuple(labels.split())
    try:
        return tuple(map(str, labels))
    except TypeError:
        raise UsageError(f"labels {labels!r} are neither a text nor a list of texts") from None


def _rows(rows: Any, count: int, labels: Labels) -> Array:
    """The numbers of the rows wanted. Raises UsageError for one that does not exist."""
    if isinstance(rows, str):
        return rows_named(rows, count, labels, "rows")
    index = rows if isinstance(rows, slice) else np.asarray(rows)
    if not isinstance(index, slice) and index.size == 0:
        index = index.astype(np.intp)  # an empty list is of floats to NumPy
    try:
        found = np.atleast_1d(np.arange(count)[index])
    except (IndexError, TypeError, ValueError) as fault:
        what = "numbers, a slice, or text such as '0:3,cat'"
        raise UsageError(f"rows: {fault}; there are {count} rows, named by {what}") from None
    if found.ndim > 1:
        raise UsageError(f"rows: {rows!r} is not a number, a slice, a list of numbers or text")
    return found
