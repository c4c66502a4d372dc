"""A lesson: a page of HTML that holds Q, K and V, computes attention, and explains each number."""

import json
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from string import Template
from typing import Any

from qkvcli.core.problem import Problem
from qkvcli.core.views import Selection
from qkvcli.render.drawing import escaped
from qkvcli.render.lesson.data import data_of
from qkvcli.render.lesson.static import chosen_heads, counted, first_of, static

_FOLDER = Path(__file__).parent
_TITLE = 80
_DARK = """\
  --page: #0d1117; --text: #e6edf3; --quiet: #9aa4af; --line: #3a424c; --raised: #161b22;
  --accent: #79b8ff; --on-accent: #0d1117; --mark: #5a4a00; --bar: #4393c3; --wrong: #a40e26;
  --fault: #ff9aa5;
  color-scheme: dark;
"""


def lesson(
    problem: Problem,
    names: Sequence[str],
    selection: Selection = Selection(),  # noqa: B008 -- it is frozen
    theme: str | None = None,
    digits: int | None = None,
) -> str:
    """The page, as one text of HTML that needs nothing besides itself.

    ``names`` are the steps that it goes through, ``theme`` is "light", "dark", or None for the
    reader's own. Raises UsageError for what is too large for a page (`data_of`), ShapeError
    where there is nothing to show.
    """
    held = data_of(problem, names, selection, digits)
    script = _read("lesson.js")
    told = _said(problem, selection)
    return Template(_read("lesson.html")).substitute(
        theme="" if theme is None else f' data-theme="{theme}"',
        scheme=theme or "light dark",
        hash=f"sha256-{b64encode(sha256(f'{chr(10)}{script}'.encode()).digest()).decode()}",
        title=escaped(told),
        style=_read("lesson.css").replace("/* dark */", _dark(theme)),
        first=escaped(first_of(held)),
        formula=escaped(_formula(problem, held)),
        static="".join(static(problem, held, selection)),
        data=embedded(held),
        script=script,
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _dark(theme: str | None) -> str:
    """The colours of a dark page, where it is one or may be one."""
    if theme == "light":
        return ":root { color-scheme: light; }"
    if theme == "dark":
        return f"@media screen {{ :root {{\n{_DARK}}} }}"
    return (
        ":root { color-scheme: light dark; }\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{\n{_DARK}}} }}"
    )


def embedded(held: Any) -> str:
    r"""JSON that can stand within a page: no text in it ends the script that it stands in.

    >>> print(embedded(["</script>", "\u2028"]))
    ["\u003c/script\u003e","\u2028"]
    """
    text = json.dumps(held, allow_nan=False, separators=(",", ":"))  # ASCII alone
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _said(problem: Problem, selection: Selection) -> str:
    """The title: the tokens that ask, as far as they fit, and which heads where some are chosen."""
    chosen = selection.of(problem)
    heads = chosen_heads(problem, selection)
    return f"Attention of {_asking(chosen, problem)}{f', {heads}' if heads else ''}"


def _asking(chosen: Problem, problem: Problem) -> str:
    """The tokens that ask: a sentence if all of them do, else one by one; numbers are counted."""
    queries, keys = chosen.shape[-2:]
    if chosen.labels is None or all(map(str.isdecimal, chosen.labels)):
        return f"{counted(queries, 'query', 'queries')} and {counted(keys, 'key', 'keys')}"
    between = " " if queries == problem.shape[-2] else ", "
    told = between.join(chosen.labels)
    return told if len(told) <= _TITLE else told[: _TITLE - 1] + "…"


def _formula(problem: Problem, held: dict[str, Any]) -> str:
    """All that is computed, in one line, as the page itself writes it."""
    if problem.weights is not None:
        told = "weights"
    else:
        told = problem.product if problem.scores is None else problem.first_score
        for step in problem.score_steps:
            told = step.formula(told)
        if held["until"] == "scores":
            return f"scores = {told}"
        told = f"softmax({told}{' and sinks' if held['sinks'] else ''})"
    if not held["value"]:
        return f"weights = {told}"
    steps = (f"{step['name']} = {step['formula']}" for step in held["after"])
    return " → ".join([f"output = {told}·V", *steps])
