"""From the options of a command line to the operands of the attention."""

from collections.abc import Iterable
from dataclasses import replace
from os.path import exists
from pathlib import Path
from typing import Any

from qkvcli.cli.commands import Line
from qkvcli.cli.declare import given, typed
from qkvcli.cli.environment import Environment
from qkvcli.core.fitting import check_follows
from qkvcli.core.operands import ACTS_ON, PARTS, Operand, Operands
from qkvcli.core.seeded import ARTICLE_SEED, ARTICLE_TOKENS, seeded
from qkvcli.errors import DataError, UsageError
from qkvcli.formats.files import choose, read_document, read_matrix
from qkvcli.formats.source import Source

_DRAWN = ("length", "dim", "key_length", "value_dim")
_BUNDLES = ("qkv", "embeddings", "seed")


def operands(line: Line, environment: Environment) -> Operands:
    """All that a command works on, read and labelled; the article's where nothing is named.

    Raises UsageError where the options contradict, DataError where a file can't be read.
    """
    return _Reading(line, environment).operands()


class _Reading:
    """One command line's operands, on their way from where the options say they are."""

    def __init__(self, line: Line, environment: Environment) -> None:
        self.line, self.environment = line, environment
        self.sources, self.config = line.sources, line.attention.config
        self.typed = given(line.sources)
        self.files = line.attention.files

    def operands(self) -> Operands:
        self._check_origins()
        command, labels = self.line.command, self.sources.labels
        if self._takes_step():
            found = self._beside_step()
        else:
            if not any(name in self.typed for name in (*PARTS, *_BUNDLES)):
                self._check_example()
                labels = ARTICLE_TOKENS if labels is None else labels
                found = self._inputs(seeded(ARTICLE_SEED), PARTS)
            else:
                found = self._inputs(self._given(command.inputs), command.inputs)
        more: dict[str, Any] = {name: self._matrix(path, name) for name, path in self.files.items()}
        said = (typed("labels"), typed("key_labels"))
        return replace(found, **more).labelled(labels, self.sources.key_labels, said)

    def _takes_step(self) -> bool:
        """Whether the step is read, from its file or a pipe, and not computed from Q and K."""
        if not self.line.command.takes:
            return False
        known = self.sources.query and self.sources.key
        bundled = any(name in self.typed for name in _BUNDLES)
        return self.line.operand is not None or not (bundled or known)

    def _check_origins(self) -> None:
        """Raise UsageError where the options that say where things come from contradict."""
        files = [name for name in PARTS if name in self.typed][:1]
        origins = [*files, *(name for name in _BUNDLES if name in self.typed)]
        if len(origins) > 1:
            first, second = map(typed, origins[:2])
            raise UsageError(f"{first} and {second} both say where Q, K and V come from; keep one")
        for name in _DRAWN:
            if name in self.typed and self.sources.seed is None:
                raise UsageError(
                    f"{typed(name)} is for drawing at random; add --seed {ARTICLE_SEED}"
                )

    def _check_example(self) -> None:
        """Raise UsageError for a projection, where nothing names what is to be projected."""
        for weight, bias, _ in PARTS.values():
            for name in (weight, bias):
                if name in self.typed:
                    raise UsageError(f"{typed(name)} without anything to project; add --embeddings")

    def _beside_step(self) -> Operands:
        """The step that is given, and what goes with it."""
        command, operand = self.line.command, self.line.operand
        wants_width = command.takes == "scores" and self.config.scale == "sqrt"
        if operand is None and self.environment.asks_a_person:
            missing = [name for name in command.inputs_beside if not self._has(name)]
            besides = "".join(f", and {typed(name)} FILE" for name in missing)
            raise UsageError(
                f"no {command.takes}: pipe them in or name their file{besides}; or give --query "
                "and --key, --qkv FILE or --seed N"
            )
        self._check_follows(wants_width)
        width = [name for name in ("query", "key") if wants_width and self._has(name)][:1]
        needs = (*command.inputs_beside, *width)
        found = self._inputs(self._given(needs), needs)
        step = self._matrix(operand or Path("-"), command.takes)
        if command.takes == "scores":
            return replace(found, scores=step)
        return replace(found, weights=step)

    def _check_follows(self, wants_width: bool) -> None:
        """Raise UsageError for an option that comes before the step that is given."""
        command, used = self.line.command, ("scores",) if wants_width else ()
        named = {typed(name): ACTS_ON[name] for name in self.typed if name in ACTS_ON}
        named.pop("--value", None)  # it does no harm, and commands of one script may share it
        check_follows(named, command.takes, command.until, used)
        asked = self.config.changed() | {name: ACTS_ON[name] for name in self.files}
        check_follows(asked, command.takes, command.until, used)

    def _has(self, name: str) -> bool:
        return name in self.typed or any(bundle in self.typed for bundle in _BUNDLES)

    def _given(self, needs: Iterable[str]) -> dict[str, Operand]:
        """Those of Q, K and V that are needed, from wherever the options say."""
        needs = tuple(needs)
        if not needs:
            return {}
        if self.sources.seed is not None:
            return self._drawn(needs)
        if self.sources.qkv is not None:
            source = self._source(self.sources.qkv)
            document = read_document(source)
            if "" in document:
                what = "holds one matrix; --qkv takes an .npz or JSON of three"
                raise DataError(f"{source.name}: {what}")
            chosen = {name: choose(document, name, source.name, several=True) for name in needs}
            return {name: self._told(operand) for name, operand in chosen.items()}
        if self.sources.embeddings is not None:
            self._check_named([PARTS[name][0] for name in needs])
            embeddings = self._matrix(self.sources.embeddings, "embeddings")
            return dict.fromkeys(needs, embeddings)
        self._check_named(needs)
        return {name: self._matrix(self.typed[name], name) for name in needs}

    def _drawn(self, needs: tuple[str, ...]) -> dict[str, Operand]:
        drawn = {name: value for name, value in self.typed.items() if name in _DRAWN}
        if self.config.head_counts is not None:  # the keys have fewer heads, each as wide
            heads, shared = self.config.head_counts
            drawn["key_dim"] = drawn.get("dim", 64) * shared // heads
        whole = seeded(self.typed["seed"], **drawn)
        return {name: whole[name] for name in needs}

    def _check_named(self, needs: Iterable[str]) -> None:
        missing = [typed(name) for name in needs if name not in self.typed]
        if missing:
            for name in ("embeddings", *needs):
                path = self.typed.get(name, "-")
                if str(path) != "-" and not exists(path):  # noqa: PTH110 -- raises nothing
                    self._matrix(path, name)  # says that it is not there
            rest = "" if self.sources.embeddings else ", or give --qkv FILE or --seed N"
            raise UsageError(f"{' and '.join(missing)} missing: name a file for each{rest}")

    def _inputs(self, found: dict[str, Operand], needs: Iterable[str]) -> Operands:
        """Q, K and V with the projections and caches that the options name for them."""
        parts = {part for name in needs for part in PARTS[name]} & set(self.typed)

        def find(name: str) -> Operand | None:
            if name in parts:
                return self._matrix(self.typed[name], name)
            return found.get(name)

        return Operands.of(find)

    def _matrix(self, path: Path, role: str) -> Operand:
        return self._told(read_matrix(self._source(path), role))

    def _told(self, operand: Operand) -> Operand:
        """The operand, once a person knows how it was read."""
        if operand.reading:
            self.environment.note(f"{operand.origin}: {operand.reading}")
        return operand

    def _source(self, path: Path) -> Source:
        if str(path) == "-":
            return Source("standard input", data=self.environment.take_input())
        return Source.file(path)
