"""Words that a person may try as commands, and what is meant by them."""

from difflib import get_close_matches

from qkvcli.cli.commands import COMMANDS
from qkvcli.cli.examples import EXAMPLES
from qkvcli.cli.pages import pages

_STEP = "{0} is shown by qkvcli run --show {0}"
_ON_THE_WAY = "the scores on their way to the softmax are shown by qkvcli scores {}"

_MEANT = {
    "weights": "the weights are shown by qkvcli softmax",
    "attention": "attention is computed by qkvcli run, and explained by qkvcli help attention",
    "heatmap": "a heatmap is a format: qkvcli softmax -f heatmap",
    "heat": "colour by value is an option: qkvcli softmax --heat",
    "top": "the keys that weigh most are shown by qkvcli softmax --top 3",
    "show": "steps are chosen by an option: qkvcli run --show weights,output",
    **{name: _STEP.format(name) for name in ("query", "key", "value")},
    "scaled": _ON_THE_WAY.format("--scale sqrt"),
    "capped": _ON_THE_WAY.format("--softcap 30"),
    "masked": _ON_THE_WAY.format("--causal"),
    **dict.fromkeys(
        ("example", "examples"),
        f"examples are {', '.join(EXAMPLES)}, as in qkvcli run --example cat",
    ),
    "version": "the version is shown by qkvcli --version",
}


def no_command(word: str) -> str:
    """What is said of a word that is no command: what is meant, or the nearest, or all.

    >>> no_command("weights")
    "there is no command 'weights'; the weights are shown by qkvcli softmax"
    """
    pages_of = {page.name: f"there is a page on it: qkvcli help {page.name}" for page in pages()}
    told = pages_of | _MEANT
    [near, *_] = get_close_matches(word.lower(), (*COMMANDS, *told), n=1) or [""]
    if near in COMMANDS:
        rest = f"did you mean {near}?"
    else:
        rest = told.get(near, f"the commands are {', '.join(COMMANDS)}")
    return f"there is no command {word!r}; {rest}"
