"""The options of the program, in three groups: where from, what is computed, what is shown."""

from typing import TYPE_CHECKING, Any

from qkvcli.cli import declare
from qkvcli.cli.declare import (
    ENDINGS,
    FileName,
    Group,
    Option,
    choice,
    choices,
    count,
    file,
    flag,
    given,
    listed,
    option,
    typed,
    whole,
    written,
)
from qkvcli.cli.examples import EXAMPLES
from qkvcli.core.config import (
    EPSILON,
    KINDS,
    NEEDS,
    NORMS,
    ORDER,
    PAIRS,
    PRESETS,
    AttentionConfig,
    Kind,
)

if TYPE_CHECKING:
    from pathlib import Path

    from qkvcli.formats.text.labels import Labelling

SHOWN_AS = ("table", "csv", "tsv", "txt", "json", "npy", "npz", "markdown", "heatmap")
TOP_SHOWN_AS = ("table", "csv", "tsv", "json", "markdown")
"""The formats that have a place for the names of keys beside their weights."""
LAYOUTS = {
    "hld": "(…, H, L, d): an axis of heads, then the tokens; the default",
    "lhd": "(…, L, H, d): the tokens, then an axis of heads, as FlashAttention has it",
    "l(hd)": "(…, L, H·d): the heads side by side, which --heads splits",
    "l3hd": "(…, L, 3, H, d): Q, K and V in one array, --qkv FILE",
    "3hld": "(…, 3, H, L, d), or the 3 first of all: likewise, as timm has it",
}
COLOURS = ("auto", "always", "never")
THEMES = ("light", "dark")

_FROM = "Where Q, K and V come from"
_MADE = "What Q, K and V are made of"
_ATTENTION = "The attention"
_LAYER = "The rest of a model's layer"
_SHOWN = "What is shown"
_COMPARED = "Whether yours is the same"
_HELP = "Help"

_TYPES = f"{', '.join(KINDS[:-1])} or {KINDS[-1]}"

_PRESETS = {
    "article": "the article's bare dot products",
    "bert": "BERT: all tokens see all tokens",
    "gpt": "GPT: tokens see none that follow",
    "llama": "Llama 1 and 2",
    "llama3": "Llama 3; 3.1 and later have tables: --cos and --sin",
    "mistral": "Mistral 7B v0.1; later ones --rope 1000000 --window none",
    "qwen2": "Qwen 2 and 2.5; Math and 1M have other bases",
    "qwen3": "Qwen 3; its 2507 releases have other bases",
    "qwen3-next": "Qwen 3 Next, its layers of full attention",
    "gemma": "Gemma 1",
    "gemma2": "Gemma 2; 27B --scale 0.0833333; every other layer --window 4095",
    "gemma3": "Gemma 3; local layers --rope 10000 --window 1023, global ones 1000000 or a table",
    "gpt-oss": "gpt-oss; every other layer --window 127",
    "phi": "Phi 1.5 and 2",
    "gpt-j": "GPT-J",
    "gpt-neox": "GPT-NeoX and Pythia, which turn a quarter of each head",
    "glm": "GLM 4, which turns half of each head",
    "cohere": "Command R; R+ has norms too",
    "falcon": "Falcon 7B, 40B and 180B",
    "olmo2": "OLMo 2",
    "dbrx": "DBRX",
    "persimmon": "Persimmon",
    "bloom": "BLOOM",
    "mpt": "MPT 7B and 30B",
    "t5": "T5's encoder; its decoder --causal",
}


def _preset(name: str) -> str:
    """What a preset stands for, what its layers have besides, and where it comes from."""
    words = (_words(option, value) for option, value in PRESETS[name].items())
    told = f"{' '.join(words) or '--scale none'}; {_PRESETS[name]}"
    needs = ", ".join(map(typed, NEEDS.get(name, ())))
    return f"{told}; needs {needs}" if needs else told


def _words(option: str, value: Any) -> str:
    """An option of a preset as a person types it."""
    if value is True:
        return typed(option)
    if isinstance(value, tuple):
        value = ",".join(str(side) for side in value if side is not None)
    return f"{typed(option)} {f'{value:.12g}' if isinstance(value, float) else value}"


VERSION = Option(("--version",), _HELP, "Show the version.")
BRIEF = Option(("-h",), _HELP, "Show help in brief: what to know to begin.")
FULL = Option(("--help",), _HELP, "Show all of the help: every option.")
INSTALL = Option(("--install-completion",), _HELP, "Teach your shell to complete words with Tab.")
SHOW = Option(("--show-completion",), _HELP, "Show what --install-completion would install.")


class Sources(Group):
    """Where the matrices come from, and what their tokens are called."""

    query: FileName | None = file(
        _FROM,
        "-q",
        "--query",
        help="The queries Q: a row for each token, (…, L_q, d); - is standard input.",
    )
    key: FileName | None = file(
        _FROM, "-k", "--key", help="The keys K: a row for each token, (…, L_k, d)."
    )
    value: FileName | None = file(
        _FROM, "-v", "--value", help="The values V: a row for each key, (…, L_k, d_v)."
    )
    qkv: FileName | None = file(
        _FROM, "--qkv", help="All three: one file, or a folder, with q, k and v in it."
    )
    layout: str | None = choice(
        _FROM,
        "--layout",
        metavar="LAYOUT",
        words=LAYOUTS,
        abouts=LAYOUTS.values(),
        help="The order of the axes of Q, K, V and the results: "
        f"{', '.join(list(LAYOUTS)[:-1])} or {list(LAYOUTS)[-1]}.",
        hint="; in a shell, l(hd) stands in quotes: 'l(hd)'",
    )
    scores: FileName | None = file(
        _FROM, "--scores", help="The scores themselves, in place of Q and K, (…, L_q, L_k)."
    )
    example: str | None = choice(
        _FROM,
        "--example",
        metavar="NAME",
        words=EXAMPLES,
        abouts=(example.about for example in EXAMPLES.values()),
        help=f"Matrices that are at hand: {', '.join(EXAMPLES)}.",
    )
    seed: int | None = count(
        _FROM, "--seed", "Draw Q, K and V at random; the article's is 42.", 0, 2**32 - 1
    )
    length: int | None = count(_FROM, "--length", "Queries to draw, L_q (5).")
    dim: int | None = count(_FROM, "--dim", "Width of Q and K, d (64).")
    key_length: int | None = count(
        _FROM, "--key-length", "Keys and values to draw, L_k (as --length)."
    )
    value_dim: int | None = count(_FROM, "--value-dim", "Width of the values, d_v (as --dim).")
    labels: tuple[str, ...] | None = option(
        _FROM,
        "--labels",
        metavar="TEXT",
        read=declare.words,
        help='Names of the tokens: "The cat sat on mat".',
    )
    key_labels: tuple[str, ...] | None = option(
        _FROM,
        "--key-labels",
        metavar="TEXT",
        read=declare.words,
        help="Names of the keys, where they differ from the queries.",
    )
    header: bool | None = flag(
        _FROM,
        "--header",
        "--no-header",
        help="In CSV, TSV and white space, the first line is labels, also of numbers; or is none.",
    )
    index: bool | None = flag(
        _FROM,
        "--index",
        "--no-index",
        help="Likewise the first column: labels, or numbers.",
    )
    embeddings: FileName | None = file(
        _MADE, "--embeddings", help="The embeddings X of Q = X·Wq + bq, (…, L, m)."
    )
    wq: FileName | None = file(_MADE, "--wq", help="Projection to queries, (m, d).")
    wk: FileName | None = file(_MADE, "--wk", help="Projection to keys, (m, d).")
    wv: FileName | None = file(_MADE, "--wv", help="Projection to values, (m, d_v).")
    bq: FileName | None = file(_MADE, "--bq", help="Bias of the queries, (d,).")
    bk: FileName | None = file(_MADE, "--bk", help="Bias of the keys, (d,).")
    bv: FileName | None = file(_MADE, "--bv", help="Bias of the values, (d_v,).")
    past_key: FileName | None = file(_MADE, "--past-key", help="A cache of keys, to go before K.")
    past_value: FileName | None = file(
        _MADE, "--past-value", help="A cache of values, to go before V."
    )

    @property
    def labelling(self) -> "Labelling":
        """What a person says of labels in files of text."""
        from qkvcli.formats.text.labels import Labelling

        return Labelling(self.header, self.index)


class AttentionOptions(Group):
    """What is done on the way from Q, K and V to the output."""

    preset: str | None = choice(
        _ATTENTION,
        "--preset",
        metavar="NAME",
        words=PRESETS,
        abouts=map(_preset, PRESETS),
        help="Compute as a family of models does, such as gpt or llama; options beside it win.",
    )
    scale: Any = option(
        _ATTENTION,
        "--scale",
        metavar="NUMBER",
        read=declare.scale,
        help="Multiply the scores: a number, sqrt for 1/√d, or none (as in the article).",
    )
    softcap: Any = option(
        _ATTENTION,
        "--softcap",
        metavar="C",
        read=declare.above_zero_or_none,
        help="Bend the scores into ±C: C·tanh(scores / C).",
    )
    mask: FileName | None = file(
        _ATTENTION, "--mask", help="true/false: what may be seen; numbers: added to the scores."
    )
    causal: bool | None = flag(
        _ATTENTION,
        "--causal",
        "--no-causal",
        help="Hide later tokens: query i sees keys 0 to i + offset.",
    )
    window: tuple[int | None, int | None] | None = option(
        _ATTENTION,
        "--window",
        metavar="LEFT[,RIGHT]",
        read=declare.window,
        help="Query i sees keys i + offset - LEFT to i + offset + RIGHT; none is no bound.",
    )
    offset: int | None = count(
        _ATTENTION,
        "--offset",
        "The position of query 0 among the keys (after a cache or --valid-length; else 0).",
        -declare.ANY,
    )
    valid_length: tuple[int, ...] | None = option(
        _ATTENTION,
        "--valid-length",
        metavar="N[,N…]",
        read=listed(whole(0)),
        help="Keys from N on are padding (a number for each batch).",
    )
    heads: int | None = count(
        _ATTENTION, "--heads", "Split Q, K and V into N heads, and merge the output."
    )
    kv_heads: int | None = count(
        _ATTENTION, "--kv-heads", "Heads of K and V, where queries share them."
    )
    dtype: Any = choice(
        _ATTENTION,
        "--dtype",
        metavar="TYPE",
        words=KINDS,
        help=f"Round the inputs to {_TYPES}.",
    )
    softmax_dtype: Any = choice(
        _ATTENTION,
        "--softmax-dtype",
        metavar="TYPE",
        words=KINDS,
        help=f"Take the softmax in {_TYPES}.",
    )

    clip: Any = option(
        _LAYER,
        "--clip",
        metavar="C",
        read=declare.above_zero_or_none,
        help="Bring q, k and v into ±C, once they are projected.",
    )
    q_norm: FileName | None = file(
        _LAYER, "--q-norm", help="Weights of a norm of the queries: (d,), (H, d) or (H·d,)."
    )
    k_norm: FileName | None = file(
        _LAYER, "--k-norm", help="Weights of a norm of the keys, likewise."
    )
    norm: Any = choice(
        _LAYER,
        "--norm",
        metavar="KIND",
        words=NORMS,
        help="Which norm: rms, w·x/√(mean(x²) + E) (the default), or layer.",
    )
    norm_eps: float | None = option(
        _LAYER,
        "--norm-eps",
        metavar="E",
        read=declare.above_zero,
        help=f"E of the norm ({EPSILON:g}).",
    )
    q_norm_bias: FileName | None = file(
        _LAYER, "--q-norm-bias", help="What a layer norm of the queries adds."
    )
    k_norm_bias: FileName | None = file(
        _LAYER, "--k-norm-bias", help="What a layer norm of the keys adds."
    )
    rope: Any = option(
        _LAYER,
        "--rope",
        metavar="BASE",
        read=declare.above_zero_or_none,
        help="Turn queries and keys by their position p: pair i by p·BASE^(-2i/N).",
    )
    rope_pairs: Any = choice(
        _LAYER,
        "--rope-pairs",
        metavar="PAIRS",
        words=PAIRS,
        help="Turn columns i and i + N/2 together (half, the default), or 2i and 2i + 1 "
        "(interleaved).",
    )
    rope_dim: int | None = count(
        _LAYER, "--rope-dim", "Turn the first N columns of each head (all).", 2
    )
    cos: FileName | None = file(
        _LAYER, "--cos", help="Cosines in place of a base, (L, N/2) or (B, L, N/2)."
    )
    sin: FileName | None = file(_LAYER, "--sin", help="The sines, likewise.")
    alibi: bool | None = flag(
        _LAYER,
        "--alibi",
        "--no-alibi",
        help="Add slope·(j - i) to the scores, a slope for each head.",
    )
    sinks: FileName | None = file(
        _LAYER, "--sinks", help="One more score for each head, (H,), that no key has."
    )
    gate: FileName | None = file(
        _LAYER, "--gate", help="Wg of output × sigmoid(X·Wg), (m, H·d_v) or (m, H)."
    )
    wo: FileName | None = file(_LAYER, "--wo", help="Projection of the output, (H·d_v, m).")
    bo: FileName | None = file(_LAYER, "--bo", help="Bias of that projection, (m,).")

    @property
    def config(self) -> AttentionConfig:
        """The config that the core takes."""
        asked = {name: value for name, value in given(self).items() if name not in self.files}
        return AttentionConfig.of(operands=self.files, **asked)

    @property
    def files(self) -> dict[str, FileName]:
        """The operands among the options, such as the mask, by name."""
        return {name: path for name, path in given(self).items() if isinstance(path, FileName)}


class Display(Group):
    """What is shown, how, and where it is saved."""

    format: str | None = choice(
        _SHOWN,
        "-f",
        "--format",
        metavar="FORMAT",
        words=SHOWN_AS,
        help=f"What standard output holds: {', '.join(SHOWN_AS[:-1])} or {SHOWN_AS[-1]} "
        "(a table on a terminal; in a pipe csv, but run keeps its tables).",
    )
    show: tuple[str, ...] | None = choices(
        _SHOWN,
        "--show",
        metavar="NAMES",
        words=ORDER,
        every="all",
        help=f"Show, pipe and save these steps, separated by commas: {', '.join(ORDER)}; or all.",
    )
    top: int | None = count(
        _SHOWN, "--top", "For each query, the N keys that weigh most, in place of the matrix."
    )
    output: "tuple[Path, ...]" = written(
        _SHOWN,
        "-o",
        "--output",
        help="Also save, in the format of the file's ending; may stand several times.",
        endings=(*ENDINGS, ".md", ".svg", ".html"),
    )
    cluster: str | None = option(
        _SHOWN,
        "--cluster",
        metavar="ADDRESS",
        read=declare.address,
        help="Compute what is saved or piped on the workers of a Dask scheduler (HOST:PORT), or of "
        "one that is started for the run (local:2).",
    )
    digits: int | None = count(
        _SHOWN, "--digits", "Decimals: 4 in tables, else all that there are.", 0, 17
    )
    head: tuple[str, ...] | None = option(
        _SHOWN,
        "--head",
        metavar="HEADS",
        read=declare.indexes,
        help="Show these heads alone, each with its own output: 6, 0:3, 1,4 or all.",
    )
    batch: tuple[str, ...] | None = option(
        _SHOWN,
        "--batch",
        metavar="BATCHES",
        read=declare.indexes,
        help="Show these batches alone: 0, 0:3, 1,4 or all.",
    )
    rows: str | None = option(
        _SHOWN,
        "--rows",
        metavar="ROWS",
        read=str,
        help="Show these queries alone: indexes, slices, labels (0:3,500,-2:).",
    )
    heat: bool | None = flag(
        _SHOWN,
        "--heat",
        "--no-heat",
        help="Colour the cells of scores and weights by their value (on a colour terminal).",
    )
    color: str | None = choice(
        _SHOWN,
        "--color",
        metavar="WHEN",
        words=COLOURS,
        help="Use colour: auto (on a terminal that has it), always or never.",
    )
    theme: str | None = choice(
        _SHOWN,
        "--theme",
        metavar="THEME",
        words=THEMES,
        help="Draw pictures (-o FILE.svg, .html) for a light or a dark page.",
    )
    full: bool = flag(_SHOWN, "--full", help="Show every row and column.")
    width: int | None = count(_SHOWN, "--width", "Columns of text for a table (the terminal's).")
    quiet: bool = flag(_SHOWN, "--quiet", help="Nothing on standard output.")


class Comparing(Group):
    """Somebody else's numbers to compare with, and what counts as the same."""

    expect: FileName | None = file(
        _COMPARED,
        "--expect",
        help="Compare with FILE (or one step of it, FILE:weights); exit code 1 where it differs.",
    )
    expect_dtype: Kind | None = choice(
        _COMPARED,
        "--expect-dtype",
        metavar="TYPE",
        words=KINDS,
        help=f"The type that it was computed in, whose tolerance counts: {', '.join(KINDS)}.",
    )
    rtol: float | None = option(
        _COMPARED,
        "--rtol",
        metavar="R",
        read=declare.not_negative,
        help="The same is within A + R·|expected| (R as for its type).",
    )
    atol: float | None = option(
        _COMPARED,
        "--atol",
        metavar="A",
        read=declare.not_negative,
        help="A of that (as for its type).",
    )
    ulp: int | None = count(
        _COMPARED, "--ulp", "The same is within N units in the last place of its type.", 0
    )
    equal_nan: bool = flag(_COMPARED, "--equal-nan", help="NaN is the same as NaN.")
    follow: bool = flag(
        _COMPARED,
        "--follow",
        help="Compute each step from the one before it in FILE, so that a fault counts once.",
    )
