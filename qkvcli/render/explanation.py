"""What an explanation says, in lines, small tables and bars."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from rich.cells import cell_len

from qkvcli.core.explain import Explanation
from qkvcli.core.facts import largest
from qkvcli.core.masks import Hidden
from qkvcli.core.operands import Array, Labels
from qkvcli.render.grids import Room, cut
from qkvcli.render.paper import MARGIN, Bars, Line, Part, Sheet
from qkvcli.render.text import formatted, matrix_title, ordinal, percent, share

_SPOKEN = 3
"""How many keys have a line of their own."""
_WRITTEN_OUT = 8
"""Up to how many exponentials a sum is written out."""
_FEWEST, _CHECKED = 1, 4
"""How many decimals there are at least: of weights, and of the exponents that make them."""
_ROOMY = 50
"""How many columns of text a table must have for a sum beside it."""
PAPER = Room(80)
"""The room where nothing says how wide it is."""


def parts(found: Explanation, room: Room) -> Iterator[Part]:
    """All that there is to say, in its order."""
    room = room._replace(digits=max(room.digits, _FEWEST))
    yield Line(_first(found, room), heading=True)
    yield from _score(found, room)
    yield from _weight(found, room)
    yield from _output(found, room)
    yield from _finished(found, room)


def _first(found: Explanation, room: Room) -> str:
    where = f"{matrix_title(found.place)}: " if found.place else ""
    query, key, digits = _called(found.query.name, room), _called(found.key.name, room), room.digits
    pair = f"{where}{query} → {key}"
    keys, seen = len(found.weights), found.seen
    if not seen:
        return f"{where}{query} sees no key: its weights and its output are zeros"
    if np.isnan(found.weight):
        lost = bool(np.isnan(found.exponents).any())
        why = "there is a NaN among the scores" if lost else "an infinite score has no share"
        return f"{pair}: weight nan, since {why}"
    if found.rank is None:
        return f"{pair}: weight 0, since {key} is hidden"
    of = f"{keys}" if seen == keys else f"the {seen} that it sees"
    sink = "" if found.sink is None else " with the sink"
    if seen == 1:
        only = "the only key that it sees" + (sink and " besides the sink")
        return f"{pair}: weight {share(found.weight, digits)}, {only}"
    return (
        f"{pair}: weight {share(found.weight, digits)}, {_ranked(found, found.rank)} of {of}; "
        f"equal shares{sink} would be {share(found.equal_share, digits)}"
    )


def _ranked(found: Explanation, rank: int) -> str:
    if rank > 1:
        return "the smallest" if rank == found.seen else f"the {ordinal(rank)} largest"
    alike = largest(found.weights).size
    if alike in (0, found.seen):  # 0: a sink takes all
        return "as large as any"
    return "the largest" if alike == 1 else f"one of the {alike} largest"


def _score(found: Explanation, room: Room) -> Iterator[Part]:
    query, key = _called(found.query.name, room), _called(found.key.name, room)
    products = found.products
    number = _number(found.score, room.digits)
    if products is None or found.query_vector is None or found.key_vector is None:
        yield Line(f"1  score = {number}, as given", heading=True)
    else:
        yield from _making(f"1  score = q({query})·k({key})", found, room)
        rows = ((f"q({query})", found.query_vector), (f"k({key})", found.key_vector))
        labels = tuple(cut(label, room.cap(4, 24), room) for label, _ in rows)
        vectors = np.stack([vector for _, vector in rows])
        yield from _products((*labels, "q×k"), vectors, products, found, room)
    for link in found.links:
        before, after = (_number(value, room.digits) for value in (link.before, link.after))
        yield Line(f"{link.name} {link.formula.replace('{}', before)} = {after}")
    for hidden in found.hidden:
        yield Line(f"hidden by the {hidden.mask}{_reason(found, hidden, room)}")
    if found.rank is None and found.seen and not found.hidden and not np.isnan(found.weight):
        yield Line("hidden: its score is -inf")


def _reason(found: Explanation, hidden: Hidden, room: Room) -> str:
    """Why a mask hides the key, where its name does not say it."""
    query, key = _called(found.query.name, room), _called(found.key.name, room)
    apart = found.key.number - hidden.position
    if hidden.mask == "causal mask":
        why = f"{key} stands after {query}"
    elif hidden.mask == "window":
        left, right = ("any" if side is None else side for side in hidden.bounds)
        side = f"{abs(apart)} {'after' if apart > 0 else 'before'}"
        why = f"{key} is {side} {query}, and the window reaches {left} before and {right} after"
    elif hidden.mask == "valid length":
        return f": keys from {hidden.bounds[0]} on are padding"
    else:
        return ""
    moved = hidden.position != found.query.number
    return f": {why}" + (f"; {query} stands at position {hidden.position}" if moved else "")


def _called(name: str, room: Room) -> str:
    """A token's name in a line of text, where a long one takes not all of it."""
    return cut(name, room.cap(5, 24), room)


def _making(heading: str, found: Explanation, room: Room) -> Iterator[Line]:
    """A heading, and how query and key were made: beside it, or below where that is long."""
    made = list(_made(found))
    beside = ", ".join([heading, *made])
    if found.positions is None and cell_len(beside) <= (room.width or math.inf):
        yield Line(beside, heading=True)
        return
    yield Line(heading, heading=True)
    yield from map(Line, made)
    if found.positions is not None:
        yield Line(_apart(found, *found.positions, room))


def _made(found: Explanation) -> Iterator[str]:
    """What made the query and the key, and where each stands, if they were turned by that."""
    places = (None, None) if found.positions is None else found.positions
    tokens = (found.query, found.key)
    for name, token, place in zip(("query", "key"), tokens, places, strict=True):
        if name not in found.made_by:
            continue
        cached = name == "key" and token.number < found.past
        turned = "" if place is None else ", turned already"
        how = f" is from the cache{turned}" if cached else f" = {found.made_by[name]}"
        yield name[0] + how + ("" if place is None else f", at position {place}")


def _apart(found: Explanation, query: int, key: int, room: Room) -> str:
    """How far apart a query and a key stand that were turned."""
    if query == key:
        return "both stand at one position: they are turned alike"
    key_name, query_name = (_called(token.name, room) for token in (found.key, found.query))
    side = f"{abs(key - query)} {'after' if key > query else 'before'}"
    what = "only the difference between their rotations matters"
    return f"k({key_name}) stands {side} q({query_name}): {what}"


def _products(
    labels: tuple[str, ...], vectors: Array, products: Array, found: Explanation, room: Room
) -> Iterator[Part]:
    """Two vectors above their products; of wide ones, the largest products and the rest as one."""
    table = np.vstack([vectors, products])
    texts = _texts(table, room.digits)
    total = f"sum {_number(found.score, room.digits)}"
    names = _columns(found.columns, table.shape[1], room)
    widths = _widths(names, texts)
    left = _room_of(room, (_corner(found.columns), *labels))
    beside = left > _ROOMY
    sizes = np.nan_to_num(np.abs(products), nan=np.inf)
    picked = _fitting(sizes, widths, left - (len(total) + 2 if beside else 0))
    rest = np.setdiff1d(np.arange(table.shape[1]), picked)
    columns = [(names[j], *(cells[j] for cells in texts)) for j in picked]
    if rest.size:
        others = _number(_sum(products[rest]), room.digits)
        columns.append((f"{rest.size} more", "", "", others))
    if beside:
        columns.append(("", "", "", total))
    header, *lines = zip((_corner(found.columns), *labels), *columns, strict=True)
    yield Sheet(header, tuple(lines))
    if not beside:
        yield Line(total)


def _room_of(room: Room, labels: Sequence[str]) -> float:
    """Columns of text beside a table's labels; in ASCII what stands for the rest takes more."""
    margin = MARGIN + max(map(cell_len, labels)) + len(room.ellipsis) - 1
    return math.inf if room.width is None else room.width - margin


def _widths(names: Sequence[str], texts: Sequence[Sequence[str]]) -> list[int]:
    """Columns of text that each column of a table takes."""
    return [max(map(cell_len, column)) for column in zip(names, *texts, strict=True)]


def _sum(numbers: Array) -> float:
    with np.errstate(all="ignore"):
        return float(numbers.sum(dtype=np.float64))


def _fitting(sizes: Array, widths: Sequence[int], left: float) -> list[int]:
    """The columns that fit: all of them in their order, or the largest, the largest first."""
    if sum(width + 2 for width in widths) <= left:
        return list(range(len(widths)))
    left -= len("  … 9999 more")
    picked: list[int] = []
    for j in np.argsort(-sizes, kind="stable").tolist():
        left -= widths[j] + 2
        if left < 0 and picked:
            break
        picked.append(j)
    return picked


def _corner(labels: Labels) -> str:
    return "column" if labels is None else ""


def _columns(labels: Labels, count: int, room: Room) -> Sequence[str]:
    if labels is None:
        return list(map(str, range(count)))
    return [cut(label, room.cap(5), room) for label in labels]


def _weight(found: Explanation, room: Room) -> Iterator[Part]:
    if not found.seen:
        return
    digits, exact = room.digits, max(room.digits, _CHECKED)
    kind = f", in {found.softmax_dtype}" if found.softmax_dtype else ""
    if not found.visible[found.key.number]:
        yield Line(f"2  weight = 0: a hidden key has e^-inf = 0{kind}", heading=True)
    else:
        above = _power(float(found.scores[found.key.number]), found, exact)
        fraction = f"{_four(float(found.powers[found.key.number]))} / {_four(found.total)}"
        yield Line(
            f"2  weight = {above} / ({_powers(found, exact)}) = {fraction} "
            f"= {share(found.weight, digits)}{kind}",
            heading=True,
        )
    if found.shift:
        fate = "overflow" if found.shift > 0 else "vanish"
        yield Line(
            f"the exponents are the scores less the largest, {_number(found.shift, digits)}: "
            f"e^score itself may {fate}, and the shares are the same"
        )
    yield _bars(found, room)


def _powers(found: Explanation, digits: int) -> str:
    """The sum that a weight is a share of, written out where it is short."""
    seen = np.flatnonzero(found.visible)
    spoken, more = seen, 0
    if seen.size > _WRITTEN_OUT:
        picked = found.strongest(_SPOKEN)
        spoken = picked[found.visible[picked]]
        more = seen.size - spoken.size
    written = [_power(float(found.scores[j]), found, digits) for j in spoken]
    if more:
        written.append(f"… {more:,} more")
    if found.sink is not None:
        written.append(f"{_power(found.sink, found, digits)} (sink)")
    return " + ".join(written)


def _power(score: float, found: Explanation, digits: int) -> str:
    """A power of e, less the shift, with decimals unless all of the scores are whole."""
    exponent, among = score - found.shift, found.exponents - found.shift
    if exponent == 0:
        return "e^0"
    return f"e^{_number(exponent, digits, whole=bool((among == np.trunc(among)).all()))}"


def _bars(found: Explanation, room: Room) -> Bars:
    digits = room.digits
    lines: list[tuple[str, str, float, str]] = []
    picked = found.strongest(_SPOKEN)
    cap = room.cap(4, 24)
    for j in picked.tolist():
        weight = float(found.weights[j])
        part = _of_output(found, np.array([j]))
        lines.append((cut(found.keys[j], cap, room), share(weight, digits), weight, part))
    rest = found.rest(picked)
    if rest.size:
        weight = float(found.weights[rest].sum(dtype=np.float64))
        lines.append(
            (f"{rest.size:,} more", share(weight, digits), weight, _of_output(found, rest))
        )
    if found.sink_weight is not None:
        lines.append(("sink", share(found.sink_weight, digits), found.sink_weight, ""))
    return Bars(tuple(lines), "" if found.shares is None else "of output")


def _of_output(found: Explanation, keys: Array) -> str:
    """What part of the output some keys make."""
    if found.shares is None or not np.isfinite(found.shares[keys]).all():
        return ""
    return f"{percent(float(found.shares[keys].sum()))} of output"


def _output(found: Explanation, room: Room) -> Iterator[Part]:
    if found.values is None or found.output is None or found.shares is None or not found.seen:
        return
    digits = room.digits
    picked = [j for j in found.strongest(_SPOKEN).tolist() if found.weights[j] != 0]
    called = _called(found.query.name, room)
    terms = [
        f"{share(float(found.weights[j]), digits)}·v({_called(found.keys[j], room)})"
        for j in picked
    ]
    more = len(np.flatnonzero(found.weights)) - len(picked)
    written = " + ".join([*terms[:2], *(["…"] if more or len(terms) > 2 else [])]) or "0"
    made = ""
    if "value" in found.made_by:
        made = f", v = {found.made_by['value']}" + (" after the cache" if found.past else "")
    yield Line(f"3  output({called}) = {written}{made}", heading=True)
    mixed = [found.added_by(np.array([j]))[None] for j in picked]
    rest = found.added_by(np.setdiff1d(np.flatnonzero(found.weights), picked))
    rows = [*mixed, *([rest[None]] if more else []), found.output[None]]
    labels = [*terms, *([f"{more:,} more"] if more else []), f"output({called})"]
    yield _mixed(labels, np.vstack(rows), found.value_columns, room)
    yield from _unlike(found, room)


def _mixed(labels: Sequence[str], table: Array, columns: Labels, room: Room) -> Sheet:
    """What each key adds, and their sum; of wide values the columns where that is largest."""
    texts = _texts(table, room.digits)
    names = _columns(columns, table.shape[1], room)
    widths = _widths(names, texts)
    left = _room_of(room, (_corner(columns), *labels))
    picked = _fitting(np.nan_to_num(np.abs(table[-1]), nan=np.inf), widths, left)
    more = table.shape[1] - len(picked)
    last = (f"… {more} more",) if more else ()
    lines = [
        (label, *(cells[j] for j in picked), *("" for _ in last))
        for label, cells in zip(labels, texts, strict=True)
    ]
    return Sheet((_corner(columns), *(names[j] for j in picked), *last), tuple(lines))


def _finished(found: Explanation, room: Room) -> Iterator[Part]:
    """The gate and the projection, each in the columns where what it makes is largest."""
    finish, query = found.finish, _called(found.query.name, room)
    if found.output is None or not found.seen:
        return
    before, name, number = found.output, f"output({query})", 4
    if finish.gate is not None and finish.gated is not None:
        rows, labels = [before, finish.gated], [name, f"gated({query})"]
        if finish.gate.size == before.size:
            rows.insert(1, finish.gate)
            labels.insert(1, "gate")
            how = "gate, gate = sigmoid(X·Wg)"
        else:
            how = f"{share(float(finish.gate[0]), room.digits)}, the head's sigmoid(X·Wg)"
        yield Line(f"{number}  gated({query}) = {name} × {how}", heading=True)
        yield _mixed(labels, np.vstack(rows), found.value_columns, room)
        before, name, number = finish.gated, labels[-1], number + 1
    if finish.projected is None:
        return
    projected, bias = finish.projected, finish.bias
    rows, labels, how = [projected], [f"projected({query})"], f"{name}·Wo"
    if finish.of_many:
        how += ", with this head's rows of Wo"
    elif bias is not None:
        with np.errstate(all="ignore"):
            product = projected.astype(np.float64) - bias  # so that both add up as shown
        rows = [product, bias, projected]
        labels = [how, "bo", *labels]
        how += " + bo"
    yield Line(f"{number}  projected({query}) = {how}", heading=True)
    yield _mixed(labels, np.vstack(rows), None, room)
    if finish.of_many:
        all_of_it = "the sum over all heads" + ("" if bias is None else ", and bo,")
        yield Line(f"what this head adds: {all_of_it} is the layer's output")


def _unlike(found: Explanation, room: Room) -> Iterator[Line]:
    """A key that weighs less than another, and adds more."""
    weights, shares = found.weights, found.shares
    if shares is None or not np.isfinite(shares).all():
        return
    heavy, long = int(np.nanargmax(weights)), int(shares.argmax())
    digits = max(min(room.digits, 2), 1)
    (one, mine, some), (other, its, more) = (
        (_called(found.keys[j], room), f"{weights[j]:.{digits}f}", percent(float(shares[j])))
        for j in (heavy, long)
    )
    if float(mine) > float(its) and some != more:  # as far as a person can see
        yield Line(
            f"{one} has the largest weight ({mine}) and {some} of the output, {other} {its} and "
            f"{more}: a key adds its weight times its value, and the values are not equally long"
        )


def _texts(table: Array, digits: int) -> list[list[str]]:
    """All the numbers of a table in one way: whole, or with decimals."""
    whole = bool((table == np.trunc(table)).all())
    return formatted(table, 0 if whole else digits)


def _number(value: float, digits: int, whole: bool | None = None) -> str:
    """A number as it is written on paper: a whole one without decimals.

    >>> _number(4.0, 4), _number(0.5, 4), _number(4.0, 2, whole=False), _number(2e-9, 4)
    ('4', '0.5000', '4.00', '2e-09')
    """
    if not math.isfinite(value):
        return f"{value:g}"
    size = abs(value)
    if size >= 1e8 or 0 < size < 0.5 * 10.0**-digits:
        return f"{value:.{digits}g}"
    if whole is None:
        whole = value == int(value)
    text = f"{value:.{0 if whole else digits}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


def _four(value: float) -> str:
    """A number with four digits that count."""
    if value == 0 or not math.isfinite(value) or not 1e-3 <= value < 1e6:
        return f"{value:.4g}"
    return f"{value:.{max(3 - math.floor(math.log10(value)), 0)}f}"


def overview(found: Sequence[Explanation], room: Room) -> list[Part]:
    """Many heads and batches, a line each."""
    first, batches = found[0], len({one.place[:-1] for one in found})
    asked = {one.key.number for one in found}
    key = _called(first.key.name, room)
    what = f" → {key}" if len(asked) == 1 else ", and the key that weighs most,"
    many = f"{len(found) // batches} heads; --head N explains one"
    if batches > 1:
        many = f"{len(found)} matrices; --batch N --head N explains "
        many += "one" if len(first.place) == 2 else "some of them"
    lines = tuple(
        (
            matrix_title(one.place)
            + (f" → {_called(one.key.name, room)}" if len(asked) > 1 else ""),
            share(one.weight, room.digits),
            one.weight,
            _place_of(one),
        )
        for one in found
    )
    title = f"{_called(first.query.name, room)}{what} in {many}"
    return [Line(title, heading=True), Bars(lines, "")]


def _place_of(found: Explanation) -> str:
    """Where a key stands among those that are seen."""
    if not found.seen:
        return "sees no key"
    if np.isnan(found.weight):
        return ""
    if found.rank is None:
        return f"hidden by the {found.hidden[0].mask}" if found.hidden else "hidden"
    return f"{'largest' if found.rank == 1 else ordinal(found.rank)} of {found.seen}"
