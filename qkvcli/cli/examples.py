"""The examples that are at hand: each a set of options, for matrices from `sample_inputs`."""

from typing import TYPE_CHECKING, Any, NamedTuple

from qkvcli.cli.declare import FileName

if TYPE_CHECKING:
    from pathlib import Path


class Example(NamedTuple):
    """An example: what it is, and the options that it stands for, by their fields.

    The ``files`` are named within the folder of samples; ``layout`` is how their heads lie, where
    they have any.
    """

    about: str
    files: dict[str, str]
    options: dict[str, Any]
    layout: str | None = None

    @property
    def paths(self) -> dict[str, FileName]:
        """Where its files are, by the options that they stand for."""
        folder = samples()
        return {field: FileName(folder / name) for field, name in self.files.items()}


def _three(folder: str, ending: str) -> dict[str, str]:
    """Q, K and V in a folder, a file each."""
    return {name: f"{folder}/{name}.{ending}" for name in ("query", "key", "value")}


EXAMPLES = {
    "article": Example(
        "five tokens, drawn from seed 42: the article's own numbers", _three("article", "csv"), {}
    ),
    "cat": Example(
        "The cat sat on the mat, in round numbers that can be checked on paper",
        _three("cat_sat_mat", "csv"),
        {},
    ),
    "translation": Example(
        "seven French words look among six English ones", {"qkv": "translation/qkv.json"}, {}
    ),
    "bert": Example(
        "a layer of a real BERT: 12 heads over nine tokens",
        _three("bert", "npy"),
        {
            "heads": 12,
            "preset": "bert",
            "labels": tuple("[CLS] the cat sat on the mat . [SEP]".split()),
        },
        layout="l(hd)",
    ),
    "gpt": Example(
        "a layer of a real GPT-style model: nine heads that share three, causal",
        _three("gpt", "npy"),
        {"preset": "gpt", "labels": tuple("The cat sat on the mat .".split())},
        layout="hld",
    ),
    "layer": Example(
        "a model's whole layer, from its hidden states to its output: norms, a rotation, a gate",
        dict.fromkeys(
            ("embeddings", "wq", "wk", "wv", "wo", "q_norm", "k_norm", "gate"),
            "architectures/qwen3_next.npz",
        ),
        {
            "heads": 4,
            "kv_heads": 2,
            "scale": "sqrt",
            "causal": True,
            "rope": 10000.0,
            "rope_dim": 4,
        },
    ),
    "karim": Example(
        "embeddings and their projections, from Raimi Karim's Illustrated: Self-Attention",
        {
            "embeddings": "karim/x.csv",
            "wq": "karim/wq.csv",
            "wk": "karim/wk.csv",
            "wv": "karim/wv.csv",
        },
        {},
    ),
    "tensorflow": Example(
        "three queries and four keys, from TensorFlow's Transformer tutorial",
        _three("tensorflow", "csv"),
        {"preset": "bert"},
    ),
}


def samples() -> "Path":
    """The folder of samples: within the installed package, or beside it in a clone."""
    from pathlib import Path  # imported here: a bare line opens none

    package = Path(__file__).parent.parent
    installed = package / "sample_inputs"
    return installed if installed.is_dir() else package.parent / "sample_inputs"
