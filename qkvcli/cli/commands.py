"""The commands, a row of a table each; their options; and a command line that was read."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from qkvcli.cli.declare import Option, declared
from qkvcli.cli.options import AttentionOptions, Display, Sources
from qkvcli.core.config import SCORES

GROUPS = (Sources, AttentionOptions, Display)


class Command(NamedTuple):
    """A command: what it computes, from what, and what its help says.

    It computes the steps ``until`` one, and shows those that it ``shows`` (none named: all).
    It needs the ``inputs``, unless it is given the step that it ``takes``; beside that it
    needs the ``inputs_beside``. ``piped`` is its format where no terminal is.
    """

    name: str
    help: str
    examples: tuple[str, ...]
    until: Literal["scores", "weights", "output"]
    inputs: tuple[str, ...]
    shows: tuple[str, ...] = ()
    takes: str = ""
    inputs_beside: tuple[str, ...] = ()
    piped: str = "csv"

    @property
    def operand_help(self) -> str:
        """What the help says of the operand: the step that it takes."""
        return (
            f"A file of {self.takes}, or - for standard input; left out, it is standard input "
            "unless Q and K are given."
        )


COMMANDS = {
    command.name: command
    for command in (
        Command(
            name="scores",
            help="Show the scores Q·Kᵀ, and scaled, capped and masked where asked for.",
            until="scores",
            inputs=("query", "key"),
            shows=SCORES,
            examples=(
                "qkvcli scores",
                "qkvcli scores -q query.csv -k key.csv --scale sqrt",
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
            examples=(
                "qkvcli softmax scores.csv",
                "qkvcli scores --seed 42 | qkvcli softmax",
                "qkvcli softmax -q query.npy -k key.npy --heads 12 --preset bert --head 6",
            ),
        ),
        Command(
            name="output",
            help="Show the output weights·V: for each query, a mix of the values.",
            until="output",
            inputs=("query", "key", "value"),
            shows=("output",),
            takes="weights",
            inputs_beside=("value",),
            examples=(
                "qkvcli output weights.csv -v value.csv",
                "qkvcli output - -v value.csv < weights.csv",
                "qkvcli output -q query.npy -k key.npy -v value.npy --preset gpt -o output.npy",
            ),
        ),
        Command(
            name="run",
            help="Show every step: the scores, the weights and the output.",
            until="output",
            inputs=("query", "key", "value"),
            piped="table",
            examples=(
                "qkvcli run",
                "qkvcli run -q query.csv -k key.csv -v value.csv --preset gpt --window 4",
                "qkvcli run --embeddings x.csv --wq wq.csv --wk wk.csv --wv wv.csv",
                "qkvcli run -q query.npy -k key.npy -v value.npy --rows 0:3,500000,-2:",
                'qkvcli run --qkv qkv.npz --labels "The cat sat on the mat" --digits 2',
                "qkvcli run --seed 42 -f json | jq -c .weights.data[0]",
            ),
        ),
    )
}

OPTIONS: dict[str, Option] = {
    field: option for group in GROUPS for field, option in declared(group).items()
}
"""Every option, by its field; all commands have all of them."""


class Line(NamedTuple):
    """A command line that has been read."""

    command: Command
    sources: Sources = Sources()
    attention: AttentionOptions = AttentionOptions()
    display: Display = Display()
    operand: Path | None = None

    @classmethod
    def of(cls, command: Command, values: dict[str, Any]) -> "Line":
        """The line of a command from the values of its options, by field, and its operand."""

        def group(kind: Any) -> Any:
            return kind(**{field: values[field] for field in declared(kind) if field in values})

        sources, attention, display = map(group, GROUPS)
        return cls(command, sources, attention, display, values.get("operand"))
