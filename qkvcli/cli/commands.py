"""The commands, a row of a table each; their options; and a command line that was read."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from qkvcli.cli.declare import READ, FileName, Option, chosen, declared, given
from qkvcli.cli.options import AttentionOptions, Comparing, Display, Sources
from qkvcli.core.config import MIXED, SCORES, Stage

GROUPS = (Sources, AttentionOptions, Display, Comparing)

OPTIONS: dict[str, Option] = {
    field: option for group in GROUPS for field, option in declared(group).items()
}
"""Every option, by its field."""


class Place(NamedTuple):
    """A word of a command line that stands without an option before it.

    ``endings`` are those of the files that it may name; ``words`` gives what else it may be.
    Of the last, there may be ``several``.
    """

    metavar: str
    help: str
    required: bool = False
    endings: tuple[str, ...] = ()
    words: "Callable[[], dict[str, str]] | None" = None
    several: bool = False

    @property
    def signature(self) -> str:
        """The word as help writes it: in brackets where it may be left out."""
        said = f"{self.metavar}…" if self.several else self.metavar
        return said if self.required else f"[{said}]"


class Command(NamedTuple):
    """A command: what it computes, from what, and what its help says.

    It computes the steps ``until`` one, and shows those that it ``shows`` (none named: all).
    It needs the ``inputs``, unless it is given the step that it ``takes``; beside that it
    needs the ``inputs_beside``; of both, those that are ``optional`` only where they are named.
    ``piped`` is its format where no terminal is. ``words`` are those that it takes without an
    option, beside that step. It has all options but those that it ``lacks``; its ``formats``
    are all (none named) or few. ``done_by`` is the module of `qkvcli.cli` that carries it out.

    Its help says what it does, its ``formulas`` (each with a line on what it means), and
    its ``examples``; brief help has the ``first`` options alone, and three examples.
    ``page`` is the page of help to read on.
    """

    name: str
    help: str
    examples: tuple[str, ...]
    formulas: tuple[tuple[str, str], ...] = ()
    first: tuple[str, ...] = ()
    page: str = "attention"
    until: Stage = "output"
    inputs: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
    takes: str = ""
    inputs_beside: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    piped: str = "csv"
    words: tuple[Place, ...] = ()
    lacks: frozenset[str] = frozenset()
    formats: tuple[str, ...] = ()
    done_by: str = "delivery"

    @property
    def places(self) -> tuple[Place, ...]:
        """What stands on its command line without an option."""
        if not self.takes:
            return self.words
        what = (
            f"A file of {self.takes}, or - for standard input; left out, it is standard input "
            "unless Q and K are given."
        )
        return (Place(self.takes.upper(), what, endings=READ),)

    @property
    def takes_more(self) -> bool:
        """Whether there may be more words than places."""
        return any(place.several for place in self.places)

    @property
    def options(self) -> dict[str, Option]:
        """Its options, by their fields."""
        found = {field: option for field, option in OPTIONS.items() if field not in self.lacks}
        if self.formats:
            help = f"What standard output holds: {', '.join(self.formats)} (a table)."
            read = chosen(self.formats)
            shown = found["format"]._replace(help=help, read=read, words=self.formats)
            found["format"] = shown
        return found


BUNDLES = ("qkv", "embeddings", "seed", "example")
"""The options that name where all of Q, K and V come from."""

_OF_EXPLAIN = frozenset({"scores"})
"""What the commands that show steps lack: there, scores are an operand of `softmax`."""
_OF_STEPS = frozenset({"rows", "full", "heat", "show", "theme", "top", "cluster"})
"""What `explain` lacks."""
_OF_WEIGHTS = frozenset({"top"})
"""What the commands that show no weights lack."""
_OF_OUTPUT = frozenset({"cluster"})
"""What the commands lack that show more than the output: its work alone is worth the way."""
_NOT_OF_FILES = frozenset(OPTIONS) - {
    *("format", "output", "digits", "color", "width", "quiet", "header", "index")
}
"""What the command that shows files lacks."""
_PAGED = frozenset(OPTIONS) - {"color", "width"}
"""What the command that shows pages lacks."""

_SCORES = ("scores = Q·Kᵀ", "how well each query matches each key: their dot product")
_WEIGHTS = ("weights = softmax(scores)", "each row e^s / Σ e^s: shares that sum to 1")
_OUTPUT = ("output = weights·V", "for each query the mix of the values by these shares")


def topics() -> dict[str, str]:
    """What there is help on, each with a line about it: the pages, and the commands."""
    from qkvcli.cli.pages import pages  # imported here: help alone has pages

    titles = {page.name: page.title for page in pages()}
    return titles | {command.name: command.help for command in COMMANDS.values()}


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command(
            name="scores",
            help="Show the scores Q·Kᵀ, and what a scale, a softcap or a mask makes of them.",
            until="scores",
            inputs=("query", "key"),
            shows=SCORES,
            lacks=_OF_EXPLAIN | _OF_WEIGHTS | _OF_OUTPUT,
            formulas=(_SCORES,),
            first=("query", "key", "example", "preset", "labels", "format"),
            examples=(
                "qkvcli scores",
                "qkvcli scores --example cat",
                "qkvcli scores -q query.csv -k key.csv --scale sqrt --causal",
                "qkvcli scores --seed 42 | qkvcli softmax | qkvcli output - --seed 42",
            ),
        ),
        Command(
            name="softmax",
            help="Show the weights: the softmax of each row of scores.",
            until="weights",
            inputs=("query", "key"),
            shows=("weights",),
            takes="scores",
            lacks=_OF_EXPLAIN | _OF_OUTPUT,
            formulas=(_WEIGHTS,),
            first=("query", "key", "example", "preset", "top", "labels", "format"),
            page="masks",
            examples=(
                "qkvcli softmax --example cat",
                "qkvcli softmax -q query.csv -k key.csv --preset gpt",
                "qkvcli scores --seed 42 | qkvcli softmax",
                "qkvcli softmax scores.csv --top 3",
                "qkvcli softmax -q query.npy -k key.npy --heads 12 --preset bert --head 6",
            ),
        ),
        Command(
            name="output",
            help="Show the output weights·V: for each query, a mix of the values.",
            until="output",
            inputs=("query", "key", "value"),
            shows=MIXED,
            takes="weights",
            inputs_beside=("value",),
            lacks=_OF_EXPLAIN | _OF_WEIGHTS,
            formulas=(_OUTPUT,),
            first=("query", "key", "value", "example", "preset", "format", "output"),
            page="models",
            examples=(
                "qkvcli output --example cat",
                "qkvcli output weights.csv -v value.csv",
                "qkvcli softmax --seed 42 | qkvcli output - --seed 42",
                "qkvcli output -q query.npy -k key.npy -v value.npy --preset gpt -o output.npy",
            ),
        ),
        Command(
            name="run",
            help="Show every step: the scores, the weights and the output.",
            until="output",
            inputs=("query", "key", "value"),
            piped="table",
            lacks=_OF_EXPLAIN | _OF_OUTPUT,
            formulas=(_SCORES, _WEIGHTS, _OUTPUT),
            first=(
                "query",
                "key",
                "value",
                "qkv",
                "example",
                "preset",
                "labels",
                "format",
                "expect",
            ),
            examples=(
                "qkvcli run",
                "qkvcli run --example cat",
                "qkvcli run -q query.csv -k key.csv -v value.csv --preset gpt",
                "qkvcli run --embeddings x.csv --wq wq.csv --wk wk.csv --wv wv.csv",
                "qkvcli run -q query.npy -k key.npy -v value.npy --rows 0:3,500000,-2:",
                'qkvcli run --qkv qkv.npz --labels "The cat sat on the mat" --digits 2',
                "qkvcli run --qkv qkv.npz --preset gpt --expect mine.npz",
                "qkvcli run --seed 42 -f json | jq -c .weights.data[0]",
            ),
        ),
        Command(
            name="explain",
            help="Explain how one query came to its weights and its output, as on paper.",
            inputs=("query", "key", "value"),
            inputs_beside=("value",),
            optional=frozenset({"value"}),
            piped="table",
            words=(
                Place(
                    "QUERY",
                    "The query: a token's label, its number, or the#2 for the second the.",
                    True,
                ),
                Place("KEY", "The key, named likewise; left out, the one that weighs most."),
            ),
            lacks=_OF_STEPS,
            formats=("table", "json", "markdown"),
            done_by="explaining",
            formulas=(
                ("score = q·k", "the query's dot product with each key"),
                ("weight = e^score / Σ e^score", "the share of each key, of 1"),
                ("output = Σ weight × v", "the values, each times its weight, in sum"),
            ),
            first=("query", "key", "value", "example", "preset", "head", "digits"),
            examples=(
                "qkvcli explain cat sat --example cat",
                "qkvcli explain cat --example bert --head 6",
                "qkvcli explain cat -q query.csv -k key.csv -v value.csv",
                "qkvcli explain 4 1 -q query.csv -k key.csv -v value.csv --preset gpt",
            ),
        ),
        Command(
            name="inspect",
            help="Say what files hold: names, shapes, types, ranges; -o saves it as another file.",
            piped="table",
            words=(
                Place(
                    "FILE",
                    "A file, a folder, or a part of a file, such as x.npz:q or x.npy[0].",
                    required=True,
                    endings=READ,
                    several=True,
                ),
            ),
            lacks=_NOT_OF_FILES,
            formats=("table", "csv", "json"),
            done_by="inspecting",
            first=("format", "output"),
            page="files",
            examples=(
                "qkvcli inspect model.safetensors",
                "qkvcli inspect 'model.safetensors:*.layers.0.*' -f csv",
                "qkvcli inspect acts.npz:q -o q.csv",
                "qkvcli inspect query.npy key.csv",
                "qkvcli inspect model.pt -o model.safetensors --quiet",
            ),
        ),
        Command(
            name="help",
            help="Read about a topic or a command; without one, list the topics.",
            piped="table",
            words=(
                Place("TOPIC", "A topic, or a command.", words=topics),
                Place("WORD", "The second word of a topic that has two, such as exit codes."),
            ),
            lacks=_PAGED,
            done_by="topics",
            first=("color", "width"),
            examples=(
                "qkvcli help",
                "qkvcli help attention",
                "qkvcli help softmax",
                "qkvcli help exit codes",
            ),
        ),
    )
}


class Line(NamedTuple):
    """A command line that has been read."""

    command: Command
    sources: Sources = Sources()
    attention: AttentionOptions = AttentionOptions()
    display: Display = Display()
    comparing: Comparing = Comparing()
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, command: Command, values: dict[str, Any], words: Iterable[str] = ()) -> "Line":
        """The line of a command from its options' values, by field, and its words without."""

        def group(kind: Any) -> Any:
            return kind(**{field: values[field] for field in declared(kind) if field in values})

        sources, attention, display, comparing = map(group, GROUPS)
        return cls(command, sources, attention, display, comparing, tuple(words))

    @property
    def takes_step(self) -> bool:
        """Whether the step is read, from its file or a pipe, and not computed from Q and K."""
        if self.sources.scores is not None or not self.command.takes:
            return self.sources.scores is not None
        named = given(self.sources)
        known = "query" in named and "key" in named
        return self.operand is not None or not (known or any(name in named for name in BUNDLES))

    @property
    def operand(self) -> FileName | None:
        """The file of the step that the command takes, where it is named."""
        return FileName(self.words[0]) if self.command.takes and self.words else None
