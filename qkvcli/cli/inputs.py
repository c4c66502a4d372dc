"""From the options of a command line to the operands of the attention."""

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from os.path import exists
from typing import TYPE_CHECKING, Any, NamedTuple

from qkvcli.cli.commands import BUNDLES, Line
from qkvcli.cli.declare import FileName, declared, given, typed
from qkvcli.cli.environment import Environment
from qkvcli.cli.examples import EXAMPLES
from qkvcli.cli.layer_notes import layer_notes
from qkvcli.cli.notes import notes
from qkvcli.cli.options import AttentionOptions, Comparing, Sources
from qkvcli.core.config import NEEDS, ORDER, AttentionConfig, Stage
from qkvcli.core.fitting import check_follows, problem_of
from qkvcli.core.operands import ACTS_ON, BIAS_OF, PARTS, Operand, Operands, is_beyond
from qkvcli.core.problem import Problem
from qkvcli.core.seeded import ARTICLE_SEED, ARTICLE_TOKENS, seeded
from qkvcli.errors import UsageError

if TYPE_CHECKING:  # a bare line reads no file
    from qkvcli.cli.layouts import Layout
    from qkvcli.cli.opened import Opened
    from qkvcli.formats.source import Source

_DRAWN = ("length", "dim", "key_length", "value_dim")
_LEFT = tuple(
    part
    for parts in (*PARTS.values(), {"sinks": "sinks", "gate": "gate", "bo": "bo"})
    for field, part in parts.items()
    if field not in ("weight", "past")
)
"""What belongs to a layer, beside its weights, and is easily left out."""
_MADE_OF = {part for parts in PARTS.values() for part in parts.values()}


def expanded(line: Line) -> Line:
    """The line with the options that its example stands for, and for the steps that it shows.

    Options that were typed win. Raises UsageError where two of them say where Q, K and V
    come from.
    """
    _check_origins(line.sources)
    _check_comparing(line.comparing)
    if line.sources.example is not None:
        example = EXAMPLES[line.sources.example]
        line = _of_example(line, {**example.paths, **example.options})
    if line.sources.layout is not None:
        from qkvcli.cli.layouts import check_layout

        check_layout(line)
    show = line.display.show
    if line.display.top is not None:
        if show is not None:
            raise UsageError("--top shows the weights alone; leave out --show")
        show = ("weights",)
    if show is None or "all" in show:
        return line
    last = max(ORDER.index(name) for name in show)
    until: Stage = "scores"
    if last >= ORDER.index("weights"):
        until = "weights" if ORDER[last] == "weights" else "output"
    needs = tuple(name for name in PARTS if name != "value" or until == "output" or name in show)
    beside = ("value",) if until == "output" else ()
    command = line.command._replace(until=until, inputs=needs, inputs_beside=beside)
    return line._replace(command=command)


def _of_example(line: Line, options: dict[str, Any]) -> Line:
    """The line with an example's options; beside a step that is given, with those that follow."""
    asked = given(line.attention)
    follows = () if line.command.takes == "scores" else ("heads", "kv_heads")
    attention = {
        name: value
        for name, value in options.items()
        if name in declared(AttentionOptions)
        and name not in asked
        and (name in follows or not line.takes_step)
    }
    sources = line.sources
    if sources.labels is None and not line.takes_step:
        sources = sources.replaced(labels=options.get("labels"))
    return line._replace(attention=line.attention.replaced(**attention), sources=sources)


class Posed(NamedTuple):
    """The problem that a command line poses, and what it is made of.

    ``named`` is the same as a page has it: it names the tokens of the article where its numbers
    are drawn by their seed. Data have no names but those that were given.
    """

    problem: Problem
    named: Problem
    config: AttentionConfig
    operands: Operands


def posed(line: Line, environment: Environment, beside: "Iterable[Source]" = ()) -> Posed:
    """The problem that a command line poses.

    ``beside`` are sources that are read besides. What a person should know of the inputs is
    noted. Raises UsageError where the options contradict, DataError where a file can't be read,
    ShapeError where shapes don't fit.
    """
    reading = _Reading(line, environment)
    found = reading.operands()
    reading.check_labelling(beside)
    config = line.attention.config
    if reading.layout is not None:
        config = reading.layout.config(config, found)
    problem = problem_of(config, found, line.command.until)
    for note in (*notes(config, found, problem), *layer_notes(line, config, found, problem)):
        environment.note(note)
    if environment.ignores_input(expected=bool(line.command.takes)):
        place = line.command.takes.upper() or "the name of a file"
        environment.note(f"standard input is not read; give - as {place} to read it")
    if given(line.sources) != {"seed": ARTICLE_SEED} or line.takes_step:
        return Posed(problem, problem, config, found)
    found = found.labelled(ARTICLE_TOKENS, None)
    return Posed(problem, problem_of(config, found, line.command.until), config, found)


def _check_origins(sources: Sources) -> None:
    """Raise UsageError where the options that say where things come from contradict."""
    named = given(sources)
    files = [name for name in PARTS if name in named][:1]
    origins = [*files, *(name for name in BUNDLES if name in named)]
    if len(origins) > 1:
        first, second = map(typed, origins[:2])
        raise UsageError(f"{first} and {second} both say where Q, K and V come from; keep one")
    for name in _DRAWN:
        if name in named and sources.seed is None:
            raise UsageError(f"{typed(name)} is for drawing at random; add --seed {ARTICLE_SEED}")


def _check_comparing(comparing: Comparing) -> None:
    """Raise UsageError for rules of a comparison that nothing asks for."""
    rules = [typed(name) for name in given(comparing) if name != "expect"]
    if comparing.expect is None and rules:
        raise UsageError(f"{rules[0]} is for a comparison; add --expect FILE")


class _Reading:
    """One command line's operands, on their way from where the options say they are."""

    def __init__(self, line: Line, environment: Environment) -> None:
        self.line, self.environment = line, environment
        self.sources, self.config = line.sources, line.attention.config
        self.typed = given(line.sources)
        self.files = line.attention.files
        example = self.sources.example
        self.paths = self.typed | (EXAMPLES[example].paths if example else {})
        named = self.typed | self.files
        self.paths |= {name: value for name, value in named.items() if name in _MADE_OF}
        self.takes = "scores" if self.sources.scores else line.command.takes
        self.layout: Layout | None = None
        if self.sources.layout is not None:
            from qkvcli.cli.layouts import LAYOUTS

            self.layout = LAYOUTS[self.sources.layout]

    @property
    def wants_width(self) -> bool:
        """Whether given scores are scaled by the width of Q and K, which either of them tells."""
        return self.takes == "scores" and self.config.scale == "sqrt"

    @cached_property
    def opened(self) -> "Opened":
        """The files that the line names."""
        from qkvcli.cli.opened import Opened

        return Opened(self.environment, self.sources.example, self.sources.labelling)

    def check_labelling(self, beside: "Iterable[Source]") -> None:
        """Raise UsageError where a person says what is labels, and no text is read."""
        if self.sources.header is not None or self.sources.index is not None:
            from qkvcli.cli.opened import check_labelling

            check_labelling(self.sources.labelling, (*self.opened.sources, *beside))

    def operands(self) -> Operands:
        """All that a command works on, read and labelled; the article's where nothing is named."""
        command, labels = self.line.command, self.sources.labels
        if self.line.takes_step:
            found = self._beside_step()
        else:
            if not any(name in self.typed for name in (*PARTS, *BUNDLES)):
                self._check_example()
                self._check_labels()
                labels = ARTICLE_TOKENS if labels is None else labels
                found = self._inputs(seeded(ARTICLE_SEED), PARTS)
            else:
                needs = [name for name in command.inputs if self._wants(name)]
                found = self._inputs(self._given(needs), needs)
        more: dict[str, Any] = {
            name: self._matrix(path, name)
            for name, path in self.files.items()
            if name not in _MADE_OF and not is_beyond(name, command.until)
        }
        self._note_left()
        said = (typed("labels"), typed("key_labels"))
        return replace(found, **more).labelled(labels, self.sources.key_labels, said)

    def _note_left(self) -> None:
        """Note parts of a layer that the files of its weights hold, and no option takes."""
        named, left = {*self.typed, *self.files, *self.paths}, dict[str, dict[str, str]]()
        known = {*named, *NEEDS.get(self.line.attention.preset or "", ())}
        known |= {part for part in ACTS_ON if is_beyond(part, self.line.command.until)}
        if "wo" not in named:  # its bias is none of a layer that is not projected
            known.add("bo")
        for weight in sorted(BIAS_OF.keys() & named):
            from qkvcli.formats.files import address_of
            from qkvcli.formats.members import fitting

            said = {**self.paths, **self.files}[weight]
            document, name = self.opened.beside(said, weight)
            names = {part: fitting(document, part) for part in _LEFT if part not in known}
            parts = {part: found[0] for part, found in names.items() if found}
            bias, own = BIAS_OF[weight], re.sub("weight$", "bias", name)
            if bias not in known and own in document and own != name:
                parts[bias] = own
            if parts:
                left.setdefault(address_of(said).path.name, {}).update(parts)
        for name, parts in left.items():
            options = ", ".join(map(typed, parts))
            it = "it" if len(parts) == 1 else "them"
            has = ", ".join(dict.fromkeys(parts.values()))
            self.environment.note(f"{name} also has {has}; {options} would take {it}")

    def _check_example(self) -> None:
        """Raise UsageError for a projection, where nothing names what is to be projected."""
        for parts in PARTS.values():
            for name in (parts["weight"], parts["bias"]):
                if name in self.typed:
                    raise UsageError(f"{typed(name)} without anything to project; add --embeddings")

    def _check_labels(self) -> None:
        """Raise UsageError for labels of a sentence of one's own beside the article's numbers."""
        words = self.typed.get("labels", ARTICLE_TOKENS)
        if len(words) != len(ARTICLE_TOKENS):
            raise UsageError(
                f"--labels names {len(words)}, and the article's example has "
                f"{len(ARTICLE_TOKENS)} queries; add --seed {ARTICLE_SEED} to draw as many"
            )

    def _beside_step(self) -> Operands:
        """The step that is given, and what goes with it."""
        command, operand = self.line.command, self.sources.scores or self.line.operand
        if operand is not None:
            from qkvcli.formats.files import address_of

            address_of(operand)  # says what is wrong with half a slice
        else:
            self._check_there("query", "key", *command.inputs_beside)
            self._check_both()
        if operand is None and self.environment.asks_a_person:
            missing = [name for name in command.inputs_beside if not self._has(name)]
            besides = "".join(f", and {typed(name)} FILE" for name in missing)
            raise UsageError(
                f"no {self.takes}: pipe them in or name their file{besides}; or give --query "
                "and --key, --qkv FILE or --seed N"
            )
        self._check_follows()
        width = [name for name in ("query", "key") if self.wants_width and self._has(name)][:1]
        beside = [name for name in command.inputs_beside if self._wants(name)]
        needs = (*beside, *width)
        found = self._inputs(self._given(needs), needs)
        step = self._matrix(operand or FileName("-"), self.takes)
        if self.takes == "scores":
            return replace(found, scores=step)
        return replace(found, weights=step)

    def _check_both(self) -> None:
        """Raise UsageError where Q is named without K, or K without Q, and no step is named.

        The step would be read from a pipe, and the file left unused.
        """
        sides = [name for name in ("query", "key") if name in self.typed]
        if len(sides) == 1 and not self.wants_width:
            other = typed("key" if sides == ["query"] else "query")
            pipe = f"or leave out {typed(sides[0])} to read {self.takes} from a pipe"
            raise UsageError(f"{other} missing: name a file for it, {pipe}")

    def _check_follows(self) -> None:
        """Raise UsageError for an option that comes before the step that is given."""
        command, used = self.line.command, ("scores",) if self.wants_width else ()
        named = {typed(name): ACTS_ON[name] for name in self.typed if name in ACTS_ON}
        named.pop("--value", None)  # it does no harm, and commands of one script may share it
        check_follows(named, self.takes, command.until, used)
        asked = self.config.changed() | {name: ACTS_ON[name] for name in self.files}
        preset, own = self.line.attention.preset, given(self.line.attention)
        told = {
            name if name in own else f"{name} of preset {preset}": acts_on
            for name, acts_on in asked.items()
        }
        check_follows(told, self.takes, command.until, used)

    def _has(self, name: str) -> bool:
        return name in self.typed or any(bundle in self.typed for bundle in BUNDLES)

    def _wants(self, name: str) -> bool:
        """Whether one of Q, K and V is to be found: one that may be left out, if it is named."""
        return name not in self.line.command.optional or self._has(name)

    def _given(self, needs: Iterable[str]) -> dict[str, Operand]:
        """Those of Q, K and V that are needed, from wherever the options say."""
        needs = tuple(needs)
        if not needs:
            return {}
        if self.sources.seed is not None:
            return self._drawn(needs)
        if "qkv" in self.paths and self.layout is not None and self.layout.three:
            return self.layout.parts(self.opened.fused(self.paths["qkv"]), needs)
        if "qkv" in self.paths:
            return self.opened.bundle(self.paths["qkv"], needs, self.line.command.optional)
        if "embeddings" in self.paths:
            self._check_named([PARTS[name]["weight"] for name in needs])
            embeddings = self._matrix(self.paths["embeddings"], "embeddings")
            return dict.fromkeys(needs, embeddings)
        self._check_named(needs)
        return {name: self._matrix(self.paths[name], name) for name in needs}

    def _drawn(self, needs: tuple[str, ...]) -> dict[str, Operand]:
        drawn = {name: value for name, value in self.typed.items() if name in _DRAWN}
        for size, labels in (("length", "labels"), ("key_length", "key_labels")):
            if labels in self.typed:
                drawn.setdefault(size, len(self.typed[labels]))
        if self.config.head_counts is not None:  # the keys have fewer heads, each as wide
            heads, shared = self.config.head_counts
            drawn["key_dim"] = drawn.get("dim", 64) * shared // heads
        whole = seeded(self.typed["seed"], **drawn)
        return {name: whole[name] for name in needs}

    def _check_named(self, needs: Iterable[str]) -> None:
        missing = [typed(name) for name in needs if name not in self.paths]
        if missing:
            self._check_there("embeddings", *needs)
            rest = "" if self.sources.embeddings else ", or give --qkv FILE or --seed N"
            raise UsageError(f"{' and '.join(missing)} missing: name a file for each{rest}")

    def _check_there(self, *names: str) -> None:
        """Raise DataError for a file that was named and does not exist: a likelier slip."""
        for name in names:
            said = self.typed.get(name, FileName("-"))
            if str(said) == "-":
                continue
            from qkvcli.formats.files import address_of

            path = address_of(said).path
            if str(path) != "-" and not exists(path):  # noqa: PTH110 -- raises nothing
                self._matrix(said, name)  # says that it is not there

    def _inputs(self, found: dict[str, Operand], needs: Iterable[str]) -> Operands:
        """Q, K and V with the projections and caches that the options name for them."""
        parts = {part for name in needs for part in PARTS[name].values()} & set(self.paths)

        def find(name: str) -> Operand | None:
            operand = self._matrix(self.paths[name], name) if name in parts else found.get(name)
            if self.layout is None or operand is None:
                return operand
            from qkvcli.cli.opened import told

            return told(self.layout.read(operand, name, self.config), self.environment)

        return Operands.of(find)

    def _matrix(self, name: FileName, role: str) -> Operand:
        return self.opened.matrix(name, role)
