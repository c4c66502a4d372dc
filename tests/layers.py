"""The modules of `sample_inputs/architectures`, and the options that reproduce each."""

from pathlib import Path

from tests.conftest import SAMPLES

FOLDER = SAMPLES / "architectures"
GROUPED = "--kv-heads 2"
CAUSAL = "--scale sqrt --causal"
MODULES = {
    "llama": f"{GROUPED} --preset llama --valid-length 9,6 --offset 0",
    "llama3_rope": f"{GROUPED} {CAUSAL} --cos @ --sin @",
    "gptj": f"{CAUSAL} --rope 10000 --rope-pairs interleaved --rope-dim 8",
    "glm": f"{GROUPED} {CAUSAL} --rope 10000 --rope-pairs interleaved --rope-dim 8 "
    "--bq @ --bk @ --bv @",
    "phi": f"{GROUPED} {CAUSAL} --rope 10000 --rope-dim 8 --bq @ --bk @ --bv @ --bo @",
    "qwen3": f"{GROUPED} {CAUSAL} --rope 10000 --q-norm @ --k-norm @ --valid-length 9,5 --offset 0",
    "olmo2": f"{GROUPED} {CAUSAL} --rope 10000 --q-norm @ --k-norm @ --norm-eps 1e-5 "
    "--valid-length 9,7 --offset 0",
    "gemma2": f"{GROUPED} --scale 0.2041241452319315 --softcap 2 --causal --window 3 --rope 10000",
    "gpt_oss_window": f"{GROUPED} {CAUSAL} --window 3 --cos @ --sin @ --sinks @ "
    "--bq @ --bk @ --bv @ --bo @",
    "bloom": f"{CAUSAL} --alibi --bq @ --bk @ --bv @ --bo @",
    "t5_encoder": "--mask @ --valid-length 9,6",
    "qwen3_next": f"{GROUPED} {CAUSAL} --rope 10000 --rope-dim 4 --q-norm @ --k-norm @ --gate @",
    "mistral_cache": f"{GROUPED} --scale sqrt --rope 10000 --past-key @ --past-value @",
    "persimmon": f"{CAUSAL} --rope 25000 --rope-dim 8 --norm layer --norm-eps 1e-5 "
    "--q-norm @ --k-norm @ --q-norm-bias @ --k-norm-bias @ --bq @ --bk @ --bv @ --bo @",
    "dbrx": f"{GROUPED} {CAUSAL} --clip 1.2 --rope 10000",
}
"""The options of each module; @ is its file, of which each option takes what it is named for."""


def words_of(name: str) -> list[str]:
    """The options of a module, from its hidden states to its output."""
    path = str(FOLDER / f"{name}.npz")
    own = [path if word == "@" else word for word in MODULES[name].split()]
    files = [
        word for part in ("embeddings", "wq", "wk", "wv", "wo") for word in (f"--{part}", path)
    ]
    return [*files, "--heads", "4", *own]


def file_of(name: str) -> Path:
    """The file of a module."""
    return FOLDER / f"{name}.npz"
