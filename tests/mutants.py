"""Which faults no test notices: ``python -m tests.mutants`` (``--help`` for its options).

Small faults are put into copies of the checkout, one at a time, and the tests run on each: a
mutant that they pass shows what they don't hold. Survivors are printed as they are found, with
[-what is there-]{+what was put there+}, and a table at the end.
"""

import argparse
import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tests.conftest import ROOT

PARTS = ("qkvcli/core", "qkvcli/formats", "qkvcli/cli", "qkvcli/api.py", "qkvcli/comparing.py")

FITTING = {
    "qkvcli/core/(blocks|compute|threads)": "long library models",
    "qkvcli/core/compare/": "compare compare_layers",
    "qkvcli/core/(explain|facts|naming)": "explain seeing library",
    "qkvcli/core/patches": "heatmap svg",
    "qkvcli/core/": "attention commands models meaning errors library tables seeing",
    "qkvcli/formats/(expected|compared)": "compare",
    "qkvcli/formats/torch/": "torch_files",
    "qkvcli/formats/safetensors": "safetensors inspect",
    "qkvcli/formats/text/": "text formats meaning errors",
    "qkvcli/formats/": "addresses formats meaning faults errors commands library seeing explain",
    "qkvcli/render/explanation": "explain",
    "qkvcli/render/verdicts": "compare",
    "qkvcli/render/heat": "heat heatmap terminal svg",
    "qkvcli/render/(svg|plate|drawing|png|summary)": "svg",
    "qkvcli/render/notebook": "notebook",
    "qkvcli/render/": "tables commands formats help seeing",
    "qkvcli/cli/": "commands readers meaning errors tables house faults help seeing explain",
    "qkvcli/comparing": "compare",
    "qkvcli/": "library models errors",
}
"""The test files that are likely to kill a mutant of a module, by the first pattern that fits."""

EQUIVALENT = {
    'qkvcli/cli/typer_app.py: [-name="qkvcli", -]commands={name: _command(command) '
    "for name, command in COMMANDS.items()},": "`main` is given the name too",
    "qkvcli/core/compute.py: if problem.size [-<=-]{+<+} sizes.held and log_sum_exp is None:": (
        "a bound on speed: both ways give the same numbers"
    ),
    "qkvcli/core/views.py: steps = partial(steps_of, [-sizes=sizes, -]advance=advance)": "likewise",
    "qkvcli/cli/terminal.py: legacy_windows=[-False-]{+True+},": "Rich writes into a text",
    'qkvcli/core/dense.py: value = needed(problem.value, [-"value"-]{+""+}).array': (
        "the outline of the output has asked for it before"
    ),
}
"""Mutants, as they are printed, that nothing can tell from the program, and why."""

_OPPOSITES = (
    *(("<", "<="), (">", ">="), ("==", "!="), ("is", "is not"), ("in", "not in"), ("and", "or")),
    *(("+", "-"), ("*", "/"), ("&", "|"), ("+=", "-="), ("*=", "/="), ("|=", "&=")),
    *(("min", "max"), ("any", "all"), ("minimum", "maximum")),
)
_SWAPS = {"//": "*", "//=": "*=", "%": "//", "**": "*"} | dict(_OPPOSITES)
_SWAPS |= {new: old for old, new in _OPPOSITES}

_SENTENCE = re.compile(r"\w\W* \w")
_IDLE = ("help", "metavar", "epilog", "strict", "total")
"""Keywords of texts for people, of `zip`, where it asserts what is known, and of TypedDict."""
_TYPING = re.compile(r"(cast|field|dataclass|TypeVar|\w*Error)$")
"""Calls that declare something, or make an error with its message."""


class Edit(NamedTuple):
    """New text in place of some bytes."""

    start: int
    end: int
    new: str


class Mutant(NamedTuple):
    """An edit of a module, the line where it is, and that line as a diff of words."""

    path: str
    line: int
    shown: str
    edit: Edit


class Module:
    """A module's bytes (columns of a syntax tree count them), and what can be changed in it."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.starts = [0, *accumulate(map(len, self.data.splitlines(keepends=True)))]

    def span(self, node: Any) -> tuple[int, int]:
        """Where a node begins and ends."""
        start = self.starts[node.lineno - 1] + node.col_offset
        return start, self.starts[node.end_lineno - 1] + node.end_col_offset

    def edited(self, edit: Edit) -> bytes:
        """The module with an edit, and every other byte as it was."""
        return self.data[: edit.start] + edit.new.encode() + self.data[edit.end :]

    def mutants(self, path: str) -> Iterator[Mutant]:
        """Every mutant that is Python still, and not the same program."""
        tree = ast.parse(self.data)
        for edit in dict.fromkeys(edit for node in _walked(tree) for edit in self._edits(node)):
            with suppress(SyntaxError):
                if ast.dump(ast.parse(self.edited(edit))) != ast.dump(tree):
                    line = self.data.count(b"\n", 0, edit.start) + 1
                    yield Mutant(path, line, self._shown(edit), edit)

    def _shown(self, edit: Edit) -> str:
        start = self.data.rfind(b"\n", 0, edit.start) + 1
        end = self.data.find(b"\n", edit.end)
        bounds = pairwise((start, edit.start, edit.end, end))
        before, old, after = (re.sub(r"\s+", " ", self.data[a:b].decode()) for a, b in bounds)
        marked = (f"[-{old}-]" if old else "") + (f"{{+{edit.new}+}}" if edit.new else "")
        return f"{before}{marked}{after}".strip()

    def _edits(self, node: ast.AST) -> Iterator[Edit]:
        """The edits of a node itself, not of its parts."""
        match node:
            case ast.Compare(left=left, comparators=others):
                yield from self._signs(left, *others)
            case ast.BoolOp(values=operands):
                yield from self._signs(*operands)
            case ast.BinOp(left=left, right=right):
                yield from self._signs(left, right)
            case ast.AugAssign(target=target, value=value):
                yield from self._signs(target, value)
            case ast.UnaryOp(op=ast.Not()):
                start, _ = self.span(node)
                yield Edit(start, start + len("not "), "")
            case ast.Constant(value=value):
                yield from (Edit(*self.span(node), new) for new in _other_constants(value))
            case ast.Call(func=func, keywords=keywords):
                yield from self._calls(func, keywords)
        yield from self._branches_and_bounds(node)
        yield from self._statements(node)

    def _signs(self, *operands: ast.expr) -> Iterator[Edit]:
        """Another sign between two operands; besides it there are only parentheses."""
        for before, after in pairwise(operands):
            start, end = self.span(before)[1], self.span(after)[0]
            sign = self.data[start:end].strip(b"() \n")
            if sign.decode() in _SWAPS:
                at = self.data.index(sign, start)
                yield Edit(at, at + len(sign), _SWAPS[sign.decode()])

    def _calls(self, func: Any, keywords: list[ast.keyword]) -> Iterator[Edit]:
        """The opposite function; a keyword left out."""
        name = _called(func)
        if name in _SWAPS:
            _, end = self.span(func)
            yield Edit(end - len(name), end, _SWAPS[name])
        for keyword in keywords:
            if keyword.arg and keyword.arg not in _IDLE:
                start, end = self.span(keyword)
                comma = re.compile(rb",\s*").match(self.data, end)
                yield Edit(start, comma.end() if comma else end, "")

    def _branches_and_bounds(self, node: ast.AST) -> Iterator[Edit]:
        match node:
            case ast.If(test=test) | ast.IfExp(test=test):
                yield from (Edit(*self.span(test), word) for word in ("True", "False"))
            case ast.comprehension(ifs=tests):
                yield from (Edit(*self.span(test), "True") for test in tests)
            case ast.Slice(lower=lower, upper=upper):
                ends = [self.span(bound)[1] for bound in (lower, upper) if bound]
                yield from (Edit(end, end, by) for end in ends for by in (" + 1", " - 1"))

    def _statements(self, node: ast.AST) -> Iterator[Edit]:
        match node:
            case ast.Return(value=ast.expr() as value):
                yield Edit(*self.span(value), "None")
            case ast.Expr() | ast.Raise() | ast.AugAssign():
                yield Edit(*self.span(node), "pass")
            case ast.Assign(targets=[ast.Subscript() | ast.Attribute()]):
                yield Edit(*self.span(node), "pass")


def _other_constants(value: Any) -> list[str]:
    if isinstance(value, (bool, int, float)):
        return [repr(not value if isinstance(value, bool) else value + 1)]
    return ['""'] if isinstance(value, str) and value and not _SENTENCE.search(value) else []


def _walked(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that compute something, and are not there for people or type checkers."""
    match node:
        case ast.arg() | ast.Expr(value=ast.Constant()) | ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return
        case ast.AnnAssign(annotation=ast.Name(id="TypeAlias")) | ast.JoinedStr():
            return  # before Python 3.12 what stands in an f-string has no place in the file
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return
        case ast.FunctionDef(decorator_list=[ast.Name(id="overload"), *_]):
            return
        case ast.Call(func=func) if _TYPING.match(_called(func)):
            return
        case ast.keyword(arg=name) if name in _IDLE:
            return
    yield node
    for part in _parts(node):
        yield from _walked(part)


def _parts(node: ast.AST) -> Iterable[ast.AST]:
    """The parts of a node, without annotations."""
    match node:
        case ast.FunctionDef(args=args, body=body):
            return [args, *body]
        case ast.AnnAssign(value=value):
            return [value] if value else []
    return ast.iter_child_nodes(node)


def _called(func: Any) -> str:
    return str(getattr(func, "id", getattr(func, "attr", "")))


def candidates(names: Iterable[str]) -> Iterator[Mutant]:
    """All mutants of some files and folders."""
    for path in sorted({p for name in names for p in (ROOT / name, *(ROOT / name).rglob("*.py"))}):
        if path.suffix == ".py":
            yield from Module(path).mutants(path.relative_to(ROOT).as_posix())


def drawn(mutants: list[Mutant], seed: int) -> list[Mutant]:
    """All in a random order, in which a line's second comes after the first of every line."""
    random = Random(seed)
    ranks: Counter[tuple[str, int]] = Counter()
    ranked = []
    for mutant in random.sample(mutants, len(mutants)):
        ranked.append((ranks[mutant[:2]], random.random(), mutant))
        ranks[mutant[:2]] += 1
    return [mutant for _, _, mutant in sorted(ranked)]


class Bench:
    """A copy of the checkout, beside what its tests write."""

    def __init__(self, place: Path) -> None:
        self.copy, self.scratch, self.said = place / "copy", place / "scratch", place / "said.txt"
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():  # git lists what is deleted, and not yet committed, too
                (self.copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.copy / name)
        self.environ = {**os.environ, "PYTHONPATH": str(self.copy), "PYTHONHASHSEED": "0"}
        ask = [sys.executable, "-c", "import qkvcli, tests; print(qkvcli, tests)"]
        told = subprocess.run(ask, cwd="/", env=self.environ, capture_output=True, text=True)
        assert told.stdout.count(str(self.copy)) == 2, f"not the copy is tested, but {told}"

    def passes(self, paths: Iterable[str], limit: float | None = None) -> bool:
        """Whether the tests pass. Raises TimeoutExpired where they take too many seconds."""
        for folder in (self.copy / "qkvcli").rglob("__pycache__"):
            shutil.rmtree(folder)  # Python knows a new source by its second and size alone
        # nor may what Hypothesis found with another mutant kill this one
        shutil.rmtree(self.copy / ".hypothesis" / "examples", ignore_errors=True)
        words = "pytest -x -q -p no:cacheprovider --hypothesis-seed=0 --basetemp".split()
        with self.said.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", *words, str(self.scratch), *paths],
                cwd=self.copy,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        try:
            return process.wait(limit) == 0
        finally:
            with suppress(ProcessLookupError):  # also what it has started and left behind
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def verdict(self, mutant: Mutant, limit: float) -> str:
        """What becomes of a mutant."""
        path = self.copy / mutant.path
        module = Module(path)
        path.write_bytes(module.edited(mutant.edit))
        try:
            passed = all(self.passes(paths, limit) for paths in self._in_order(mutant.path))
            return "survived" if passed else "killed"
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            path.write_bytes(module.data)

    def _in_order(self, path: str) -> tuple[list[str], list[str]]:
        """A module's doctests and the test files that fit; then the others, the longest last."""
        names = next(names for pattern, names in FITTING.items() if re.match(pattern, path))
        fitting = [f"tests/test_{name}.py" for name in names.split()]
        all_files = {f"tests/{file.name}" for file in (self.copy / "tests").glob("test_*.py")}
        others = sorted(all_files - {*fitting}, key=lambda name: ("long" in name, name))
        return [path, *fitting], ["qkvcli", *others]


def verdicts(
    mutants: list[Mutant], benches: list[Bench], limit: float, until: float
) -> Iterator[tuple[Mutant, str]]:
    """What becomes of each mutant that there is time for."""

    def job(mutant: Mutant) -> str:
        bench = benches.pop()  # there are as many as threads
        try:
            return bench.verdict(mutant, limit) if time.monotonic() < until else ""
        finally:
            benches.append(bench)

    pool = ThreadPoolExecutor(len(benches))
    try:
        found = zip(mutants, pool.map(job, mutants), strict=True)
        yield from ((mutant, verdict) for mutant, verdict in found if verdict)
    finally:
        pool.shutdown(cancel_futures=True)


def _table(counts: Counter[tuple[str, str]]) -> Iterator[str]:
    """A row of each part; what was killed, also by the time that it took, in percent."""
    yield f"{'part':10}{'mutants':>9}{'killed':>9}{'survived':>9}{'%':>7}"
    for part in (*sorted({part for part, _ in counts}), "all"):
        here = {of: n for of, n in counts.items() if part in (of[0], "all")}
        total = sum(here.values())
        survived = sum(n for (_, verdict), n in here.items() if verdict == "survived")
        killed = total - survived
        yield f"{part:10}{total:9}{killed:9}{survived:9}{100 * killed / max(total, 1):7.1f}"


def main() -> None:
    """Draw mutants, test them, and say which survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("--count", type=int, default=100, help="mutants to draw")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--only", nargs="+", default=PARTS, help="files or folders to change")
    parser.add_argument("--jobs", type=int, default=1, help="copies that are tested at once")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin none after")
    parser.add_argument("--no-equivalents", action="store_true", help="draw none known as such")
    asked = parser.parse_args()
    say = partial(print, flush=True)
    until = time.monotonic() + asked.seconds
    # a shell's & has it ignored, also by the processes that tests interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)
    known = EQUIVALENT if asked.no_equivalents else {}
    mutants = [m for m in candidates(asked.only) if f"{m.path}: {m.shown}" not in known]
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        benches = [Bench(Path(folder, str(i))) for i in range(asked.jobs)]
        started = time.monotonic()
        if not benches[0].passes(["qkvcli", "tests"]):
            sys.exit(f"{benches[0].said.read_text()}\nthe tests fail without any mutant")
        limit = 1.5 * (time.monotonic() - started) + 10
        chosen = drawn(mutants, asked.seed)[: asked.count]
        say(f"{len(chosen)} of {len(mutants)} mutants, up to {limit:.0f} s for each run")
        with suppress(KeyboardInterrupt):
            for mutant, verdict in verdicts(chosen, benches, limit, until):
                counts[mutant.path.split("/")[1].removesuffix(".py"), verdict] += 1
                if verdict != "killed":
                    say(f"{verdict}  {mutant.path}:{mutant.line}: {mutant.shown}")
    say("\n".join(_table(counts)))


if __name__ == "__main__":
    main()
