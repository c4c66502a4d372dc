"""The four commands by name, each with examples of its use."""

from collections.abc import Callable
from dataclasses import dataclass

from qkvcli.cli.output import output
from qkvcli.cli.run import run
from qkvcli.cli.scores import scores
from qkvcli.cli.softmax import softmax


@dataclass(frozen=True)
class Command:
    """A command, and what its help shows that it is for."""

    run: Callable[..., None]
    examples: tuple[str, ...]


COMMANDS = {
    "scores": Command(
        scores,
        (
            "qkvcli scores",
            "qkvcli scores -q query.csv -k key.csv --scale sqrt",
            "qkvcli scores --seed 42 | qkvcli softmax | qkvcli output - --seed 42",
        ),
    ),
    "softmax": Command(
        softmax,
        (
            "qkvcli softmax scores.csv",
            "qkvcli scores --seed 42 | qkvcli softmax",
            "qkvcli softmax -q query.npy -k key.npy --heads 12 --preset bert --head 6",
        ),
    ),
    "output": Command(
        output,
        (
            "qkvcli output weights.csv -v value.csv",
            "qkvcli output - -v value.csv < weights.csv",
            "qkvcli output -q query.npy -k key.npy -v value.npy --preset gpt -o output.npy",
        ),
    ),
    "run": Command(
        run,
        (
            "qkvcli run",
            "qkvcli run -q query.csv -k key.csv -v value.csv --preset gpt --window 4",
            "qkvcli run --embeddings x.csv --wq wq.csv --wk wk.csv --wv wv.csv",
            "qkvcli run -q query.npy -k key.npy -v value.npy --rows 0:3,500000,-2:",
            'qkvcli run --qkv qkv.npz --labels "The cat sat on the mat" --digits 2',
            "qkvcli run --seed 42 -f json | jq -c .weights.data[0]",
        ),
    ),
}
