"use strict";
// Attention, computed and explained in the page. Labels come from files: they reach the page as
// text alone (textContent), never as HTML.
function lesson() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [QUERIES, KEYS] = data.shape;
  const MINUS = -Infinity;

  // ---- What the page holds ---------------------------------------------------------------------

  function bytes(text) {
    const raw = atob(text);
    const found = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
    return found.buffer;
  }

  // An array from base64: its numbers in one typed array, row after row, and its shape.
  function unpacked(held) {
    if (held === null) return null;
    const buffer = bytes(held.data);
    const { shape, dtype } = held;
    if (dtype === "bits") {
      const packed = new Uint8Array(buffer);
      const count = shape.reduce((a, b) => a * b, 1);
      const numbers = Uint8Array.from({ length: count }, (_, i) => (packed[i >> 3] >> (i & 7)) & 1);
      return { shape, numbers, boolean: true };
    }
    const numbers = dtype === "float64" ? new Float64Array(buffer) : new Float32Array(buffer);
    return { shape, numbers, boolean: false };
  }

  const made = {
    query: unpacked(data.query),
    key: unpacked(data.key),
    value: unpacked(data.value),
  };
  const given = data.given === null ? null : { name: data.given.name, ...unpacked(data.given) };
  const mask = unpacked(data.options.mask);
  const givenScores = given !== null && given.name !== "weights" ? given : null;
  const givenWeights = given !== null && given.name === "weights" ? given : null;
  const hasWeights = data.until !== "scores";
  const hasOutput = made.value !== null;
  const sinks = unpacked(data.sinks);
  const slopes = data.options.alibi === null ? null : unpacked(data.options.alibi);

  // The steps after the output, with what they are computed from.
  const after = data.after.map(({ name, formula, gate, weight, bias }) => ({
    name,
    formula,
    gate: unpacked(gate ?? null),
    weight: unpacked(weight ?? null),
    bias: unpacked(bias ?? null),
  }));

  // Where the matrix of a place begins in an array whose leading axes broadcast; each index of
  // the last of them may serve a group of heads.
  function begin(array, place, group = 1) {
    const shape = array.shape,
      leading = shape.length - 2;
    let at = 0;
    for (let axis = 0; axis < leading; axis++) {
      let i = place[place.length - leading + axis];
      if (axis === leading - 1) i = Math.floor(i / group);
      at = at * shape[axis] + (shape[axis] === 1 ? 0 : i);
    }
    return at * shape[leading] * shape[leading + 1];
  }

  // The same for whole numbers, such as the offset of each batch, whose last axes are (1, 1).
  const numberAt = (held, place) => held.numbers[begin(held, place)];

  // ---- The options, which the reader may change ------------------------------------------------

  const asked = data.options;
  const options = { scale: asked.scale, causal: asked.causal };
  let edited = false;
  const isChanged = () =>
    edited || options.causal !== asked.causal || options.scale !== asked.scale;

  // The names of the masks, as a formula has them.
  function masks() {
    const found = [];
    if (options.causal) found.push("causal mask");
    if (asked.window.some((side) => side !== null)) found.push("window");
    if (found.length) {
      const offsets = [...new Set(asked.offset.numbers)].sort((a, b) => a - b);
      if (offsets.length > 1) found[0] += ` (offset ${offsets[0]} to ${offsets.at(-1)})`;
      else if (offsets[0]) found[0] += ` (offset ${offsets[0]})`;
    }
    if (asked.lengths !== null) found.push("valid length");
    if (mask !== null) found.push("mask");
    return found;
  }

  // The steps up to the softmax: each with its name, its formula and what it does to one number.
  function scoreSteps() {
    const found = [];
    if (options.scale !== null) {
      const { factor, written } = options.scale;
      const wide = factor !== 0 && !(Math.abs(factor) > 1e-30 && Math.abs(factor) < 1e30);
      found.push({
        name: "scaled",
        wide,
        formula: (before) => `${before} × ${written}`,
        row: (before) => before.map((s) => (wide ? s * factor : rounded(s * factor))),
      });
    }
    if (asked.softcap !== null) {
      const cap = asked.softcap,
        said = general(cap, 6);
      found.push({
        name: "capped",
        formula: (before) => `${said}·tanh(${before} / ${said})`,
        row: (before) => before.map((s) => rounded(cap * Math.tanh(s / cap))),
      });
    }
    if (slopes !== null) {
      found.push({
        name: "biased",
        formula: (before) => before + asked.alibi.formula,
        at: (place, query, key) => {
          const position = positionOf(place, query);
          const away = `${key} ${position < 0 ? "+" : "−"} ${Math.abs(position)}`;
          return (before) => `${before} + ${general(numberAt(slopes, place), 6)}·(${away})`;
        },
        row: biased,
      });
    }
    if (masks().length) {
      found.push({
        name: "masked",
        formula: (before) => [before, ...masks()].join(" + "),
        row: masked,
      });
    }
    return found;
  }

  const firstScore = givenScores === null ? "scores" : givenScores.name;
  const lastScore = () => scoreSteps().at(-1)?.name ?? firstScore;

  // The steps to look at: those that were asked for, and those that the reader switched on.
  function steps() {
    const there =
      givenWeights === null ? [firstScore, ...scoreSteps().map((step) => step.name)] : [];
    if (hasWeights) there.push("weights");
    if (hasOutput) there.push(...mixedSteps);
    const before = new Set(["scaled", "masked"]);
    const wanted = there.filter(
      (name) =>
        data.steps.includes(name) || (before.has(name) && isChanged()) || name === given?.name,
    );
    return wanted.length ? wanted : there;
  }

  function formulaOf(name) {
    if (name === "scores") return data.product;
    if (name === "weights") return `softmax(${lastScore()}${andSinks})` + inDtype(" in ");
    if (name === "output") return "weights·V";
    const finish = after.find((step) => step.name === name);
    if (finish !== undefined) return finish.formula;
    let before = firstScore;
    for (const step of scoreSteps()) {
      if (step.name === name) return step.formula(before);
      before = step.name;
    }
    return "";
  }

  const andSinks = sinks === null ? "" : " and sinks";
  const inDtype = (before) => (data.softmaxDtype === null ? "" : before + data.softmaxDtype);

  // All of it in one line.
  function wholeFormula() {
    let inner = givenScores === null ? data.product : givenScores.name;
    for (const step of scoreSteps()) inner = step.formula(inner);
    if (givenWeights !== null) inner = "weights";
    else if (hasWeights) inner = `softmax(${inner}${andSinks})`;
    const finish = after.map((step) => ` → ${step.name} = ${step.formula}`).join("");
    if (hasOutput) return `output = ${inner}·V${finish}`;
    return hasWeights ? `weights = ${inner}` : `scores = ${inner}`;
  }

  // ---- Attention -------------------------------------------------------------------------------

  // The nearest number of a type that has so many bits behind its first, and powers of 2 from the
  // least to the most; of two that are as near, the even one.
  const nearest = (bits, least, most) => (number) => {
    const size = Math.abs(number);
    if (!Number.isFinite(number) || size === 0) return number;
    const power = (new Uint32Array(new Float64Array([size]).buffer)[1] >> 20) - 1023;
    const unit = 2 ** (Math.max(power, least) - bits);
    const whole = Math.floor(size / unit),
      over = size / unit - whole;
    const up = over > 0.5 || (over === 0.5 && whole % 2 === 1);
    const near = (whole + up) * unit;
    return Math.sign(number) * (near < 2 ** (most + 1) ? near : Infinity);
  };

  // What qkvcli works in, what the softmax is taken in, and what the results are rounded to.
  const ROUND = {
    float16: nearest(10, -14, 15),
    bfloat16: nearest(7, -126, 127),
    float32: Math.fround,
    float64: (number) => number,
  };
  const rounded = ROUND[data.eps.work < 1e-10 ? "float64" : "float32"];
  const narrowed = data.softmaxDtype === null ? null : ROUND[data.softmaxDtype];
  const asResult = ROUND[data.dtype];

  // The first and the last key that a query sees by its position.
  function span(place, query) {
    const position = positionOf(place, query);
    const [left, right] = asked.window;
    let last = KEYS - 1;
    if (options.causal) last = Math.min(last, position);
    if (right !== null) last = Math.min(last, position + right);
    if (asked.lengths !== null) last = Math.min(last, numberAt(asked.lengths, place) - 1);
    return [left === null ? 0 : Math.max(position - left, 0), last];
  }

  const positionOf = (place, query) => asked.rows[query] + numberAt(asked.offset, place);

  // What the mask has for a query and a key: a number to add, −∞ for a key that it hides.
  function biasAt(place, query, key) {
    if (mask === null) return 0;
    const [rows, columns] = mask.shape.slice(-2);
    if (columns === 1 && KEYS !== 1) key = 0;
    if (key >= columns) return MINUS;
    const at = begin(mask, place) + (rows === 1 ? 0 : query) * columns + key;
    return mask.boolean ? (mask.numbers[at] ? 0 : MINUS) : mask.numbers[at];
  }

  // One query's steps, by their names, and which keys it sees.
  function row(place, query) {
    const found = { visible: new Uint8Array(KEYS).fill(1) };
    if (givenWeights !== null) {
      const at = begin(givenWeights, place) + query * KEYS;
      found.weights = Float64Array.from(givenWeights.numbers.subarray(at, at + KEYS));
      return found;
    }
    let scores = firstScores(place, query);
    found[firstScore] = scores;
    for (const step of scoreSteps()) {
      const before = scores;
      scores = step.row(before, place, query, found.visible);
      if (givenScores !== null) {
        // a −∞ that was given hides its key, whatever is done to it
        for (let j = 0; j < KEYS; j++) if (before[j] === MINUS) scores[j] = MINUS;
      }
      found[step.name] = scores;
    }
    if (givenScores !== null) {
      for (let j = 0; j < KEYS; j++) if (found[firstScore][j] === MINUS) found.visible[j] = 0;
    }
    if (hasWeights) {
      const sink = sinkOf(place);
      found.weights =
        narrowed === null
          ? softmax(scores, sink)
          : softmax(scores.map(narrowed), sink).map(narrowed);
    }
    return found;
  }

  // One more score in each row of a head, which no key has; null where there is none.
  function sinkOf(place) {
    if (sinks === null) return null;
    const sink = numberAt(sinks, place);
    return narrowed === null ? sink : narrowed(sink);
  }

  // ALiBi: less, the further key and query are apart; in two parts, as qkvcli adds it.
  function biased(before, place, query) {
    const slope = numberAt(slopes, place);
    const own = rounded(-slope * positionOf(place, query));
    const wide = scoreSteps().some((step) => step.wide);
    const kept = wide ? (number) => number : rounded;
    return before.map((score, j) => kept(kept(score + own) + rounded(slope * j)));
  }

  // A query's dot product with every key, or its scores as they were given.
  function firstScores(place, query) {
    const scores = new Float64Array(KEYS);
    if (givenScores !== null) {
      const at = begin(givenScores, place) + query * KEYS;
      scores.set(givenScores.numbers.subarray(at, at + KEYS));
      return scores;
    }
    const width = made.query.shape.at(-1);
    const q = made.query.numbers,
      k = made.key.numbers;
    const first = begin(made.query, place) + query * width;
    let at = begin(made.key, place, data.groups.key);
    for (let j = 0; j < KEYS; j++, at += width) {
      let sum = 0;
      for (let c = 0; c < width; c++) sum += q[first + c] * k[at + c];
      scores[j] = rounded(sum);
    }
    return scores;
  }

  function masked(before, place, query, visible) {
    const [first, last] = span(place, query);
    const wide = scoreSteps().some((step) => step.wide); // the scores are held beyond their type
    return before.map((score, j) => {
      const bias = biasAt(place, query, j);
      if (j < first || j > last || bias === MINUS) {
        visible[j] = 0;
        return MINUS;
      }
      return mask === null || wide ? score + bias : rounded(score + bias);
    });
  }

  function softmax(scores, sink) {
    let peak = sink ?? MINUS;
    for (const score of scores) peak = Math.max(peak, score); // NaN stays
    if (peak === MINUS) return new Float64Array(scores.length);
    const powers = scores.map((score) => Math.exp(score - peak));
    const total = powers.reduce((a, b) => a + b, sink === null ? 0 : Math.exp(sink - peak));
    return powers.map((power) => rounded(power / total));
  }

  const valueWidth = hasOutput ? made.value.shape.at(-1) : 0;
  const valueBegin = (place) => begin(made.value, place, data.groups.value);

  // What some keys add to the output; a key of weight 0 adds nothing.
  function mixed(place, weights, keys) {
    const sums = new Float64Array(valueWidth);
    const v = made.value.numbers,
      first = valueBegin(place);
    for (const j of keys) {
      const weight = weights[j];
      if (weight === 0) continue;
      for (let c = 0, at = first + j * valueWidth; c < valueWidth; c++)
        sums[c] += weight * v[at + c];
    }
    return sums;
  }

  // The output and the steps after it; all of them have a row of numbers for each query.
  const mixedSteps = ["output", ...after.map((step) => step.name)];
  const isMixed = (name) => mixedSteps.includes(name);
  const widthOf = (name) =>
    name === "projected" ? after.at(-1).weight.shape.at(-1) : isMixed(name) ? valueWidth : KEYS;
  const stepBefore = (name) => mixedSteps[mixedSteps.indexOf(name) - 1];

  // How far the gate of a query is open, for each column of the output.
  function gateOf(place, query) {
    const { gate } = after.find((step) => step.name === "gated");
    const width = gate.shape.at(-1),
      at = begin(gate, place) + query * width;
    return Array.from({ length: valueWidth }, (_, c) => gate.numbers[at + (width === 1 ? 0 : c)]);
  }

  // What a column of the projection is the sum of: a number for each of the step before.
  function productsOf(place, numbers, column) {
    const { weight } = after.at(-1);
    const wide = weight.shape.at(-1),
      first = begin(weight, place);
    const own = Array.from(numbers, (_, c) => weight.numbers[first + c * wide + column]);
    return { own, each: own.map((w, c) => w * numbers[c]) };
  }

  const biasOf = (column) => after.at(-1).bias?.numbers[column] ?? 0;

  // A row of the projection: numbers times Wo, and bo.
  function projectedRow(place, numbers) {
    const { weight } = after.at(-1);
    const wide = weight.shape.at(-1),
      first = begin(weight, place);
    const sums = Float64Array.from({ length: wide }, (_, c) => biasOf(c));
    numbers.forEach((x, i) => {
      const own = weight.numbers.subarray(first + i * wide, first + (i + 1) * wide);
      for (let c = 0; c < wide; c++) sums[c] += x * own[c];
    });
    return sums;
  }

  // A query's numbers of the output, or of a step after it.
  function mixedRow(place, query, weights, name) {
    if (name === "output") return mixed(place, weights, ALL_KEYS);
    const numbers = mixedRow(place, query, weights, stepBefore(name));
    if (name === "gated") {
      const gate = gateOf(place, query);
      return numbers.map((x, c) => x * gate[c]);
    }
    return projectedRow(place, numbers);
  }

  const ALL_KEYS = Array.from({ length: KEYS }, (_, j) => j);

  // A whole matrix of one step, row after row: held until something changes.
  let held = new Map();
  function matrix(place, name) {
    const key = place.join() + name;
    if (held.has(key)) return held.get(key);
    if (held.size * QUERIES * Math.max(KEYS, widthOf(name)) > 2 ** 23) held = new Map();
    const columns = widthOf(name);
    const found = { rows: QUERIES, columns, numbers: new Float64Array(QUERIES * columns) };
    found.visible = new Uint8Array(QUERIES * KEYS);
    for (let i = 0; i < QUERIES; i++) {
      const parts = row(place, i);
      const line = isMixed(name) ? mixedRow(place, i, parts.weights, name) : parts[name];
      found.numbers.set(line, i * columns);
      found.visible.set(parts.visible, i * KEYS);
    }
    held.set(key, found);
    return found;
  }

  // ---- Checked against the numbers that qkvcli computed ----------------------------------------

  const asNumber = (held) => ({ inf: Infinity, "-inf": MINUS, nan: NaN })[held] ?? Number(held);

  // The smallest steps between numbers near 0, where no number of digits is promised.
  const TINY = { float16: 6e-8, bfloat16: 1e-40, float32: 3e-45, float64: 1e-323 };
  const tiny = Math.max(TINY[data.dtype], TINY[data.softmaxDtype ?? data.dtype], 1e-38);

  // How far scores of a row may lie apart, since each is summed in an order of its own, and
  // rounded to the type of the results.
  function slack(place, query, parts) {
    const { work, result, softmax: narrow } = data.eps;
    let largest = 0,
      score = 0;
    const last = parts[lastScore()];
    if (givenScores === null) {
      const width = made.query.shape.at(-1),
        factor = Math.abs(options.scale?.factor ?? 1);
      const first = begin(made.query, place) + query * width;
      let at = begin(made.key, place, data.groups.key);
      for (let j = 0; j < KEYS; j++, at += width) {
        let sum = 0;
        for (let c = 0; c < width; c++) {
          sum += Math.abs(made.query.numbers[first + c] * made.key.numbers[at + c]);
        }
        if (sum * factor > largest) largest = sum * factor;
      }
    }
    for (const s of last) if (Number.isFinite(s)) score = Math.max(score, Math.abs(s));
    const ofSum = 8 * work * (largest + score);
    const ofPower = ofSum + (narrow > work ? 2 * narrow * score : 0);
    return {
      score: ofSum + result * score,
      power: 2 * ofPower + 16 * work + 2 * (narrow + result),
    };
  }

  // The sums of the sizes of all that some numbers of a step are sums of.
  function sizesOf(place, query, weights, name, columns) {
    const size = (x) => (Number.isFinite(x) ? Math.abs(x) : 0);
    if (name === "output") {
      const v = made.value.numbers,
        first = valueBegin(place);
      return columns.map((c) =>
        weights.reduce((sum, weight, j) => sum + size(weight * v[first + j * valueWidth + c]), 0),
      );
    }
    const before = stepBefore(name);
    if (name === "gated") {
      const gate = gateOf(place, query);
      return sizesOf(place, query, weights, before, columns).map((x, n) => x * size(gate[columns[n]]));
    }
    const all = Array.from({ length: valueWidth }, (_, c) => c);
    const sizes = sizesOf(place, query, weights, before, all);
    return columns.map((c) =>
      productsOf(place, sizes, c).each.reduce((sum, x) => sum + size(x), size(biasOf(c))),
    );
  }

  // Whether a number is the one that qkvcli has, which is rounded to the type of the results.
  function near(own, known, allowed) {
    const result = asResult(own);
    return Object.is(result, known) || result === known || Math.abs(result - known) <= allowed;
  }

  // The first number that differs, and how many were compared.
  function compared() {
    let count = 0;
    for (const check of data.checks) {
      const { place, query } = check,
        parts = row(place, query);
      const allowed =
        givenWeights === null
          ? slack(place, query, parts)
          : { score: 0, power: 16 * data.eps.work + data.eps.result };
      const pairs = [];
      check.keys.forEach((key, n) => {
        const pair = `${titled(place, ": ")}${nameOf("query", query)} → ${nameOf("key", key)}`;
        if (check.scores.length) {
          pairs.push([
            `${lastScore() === "scores" ? "score" : `${lastScore()} score`} of ${pair}`,
            parts[lastScore()][key],
            check.scores[n],
            allowed.score + TINY[data.dtype],
          ]);
        }
        if (check.weights.length) {
          const weight = parts.weights[key];
          pairs.push([
            `weight of ${pair}`,
            weight,
            check.weights[n],
            weight * allowed.power + tiny,
          ]);
        }
      });
      for (const [name, { columns, numbers }] of Object.entries(check.mixed)) {
        const own = mixedRow(place, query, parts.weights, name);
        const sizes = sizesOf(place, query, parts.weights, name, columns);
        columns.forEach((c, n) => {
          const what = `${name} of ${titled(place, ": ")}${nameOf("query", query)}, column ${mixedColumn(name, c)}`;
          pairs.push([
            what,
            own[c],
            numbers[n],
            sizes[n] * allowed.power + tiny * (1 + sizes[n]),
          ]);
        });
      }
      for (const [what, own, number, most] of pairs) {
        count += 1;
        const known = asNumber(number);
        if (!near(own, known, most)) return { count, what, own, known };
      }
    }
    return { count, what: null };
  }

  // ---- Numbers as text, as qkvcli writes them --------------------------------------------------

  // Decimals as Python writes them: an exact half goes to the even digit.
  function fixed(value, digits) {
    if (Math.abs(value) >= 1e21) return general(value, 6);
    const text = value.toFixed(digits);
    const [, after = ""] = value.toFixed(Math.min(digits + 60, 100)).split(".");
    if (!/^50*$/.test(after.slice(digits))) return text;
    const last = Number(text.at(-1));
    if (last % 2 === 0) return text;
    const size = Math.abs(value);
    return (value < 0 ? "-" : "") + (size - 0.5 * 10 ** -digits).toFixed(digits);
  }

  // So many digits that count, as short as it can be: Python's "g".
  function general(value, digits) {
    if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
    if (value === 0) return "0";
    const count = Math.max(digits, 1);
    const [base, power] = value.toExponential(count - 1).split("e");
    const exponent = Number(power);
    const trimmed = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
    if (exponent >= -4 && exponent < count) return trimmed(value.toFixed(count - 1 - exponent));
    const sign = exponent < 0 ? "-" : "+";
    return `${trimmed(base)}e${sign}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }

  const withoutMinusZero = (text) =>
    text.startsWith("-") && !/[1-9]/.test(text) ? text.slice(1) : text;

  // A number as it is written on paper: a whole one without decimals.
  function number(value, digits, whole = Number.isInteger(value)) {
    const size = Math.abs(value);
    if (!Number.isFinite(value)) return general(value, 6);
    if (size >= 1e8 || (size > 0 && size < 0.5 * 10 ** -digits)) return general(value, digits);
    return withoutMinusZero(fixed(value, whole ? 0 : digits));
  }

  // All the numbers of a table in one notation.
  function formatted(numbers, digits) {
    let largest = 0;
    for (const value of numbers)
      if (Number.isFinite(value)) largest = Math.max(largest, Math.abs(value));
    const scientific = largest >= 1e8 || (largest > 0 && largest < 0.5 * 10 ** -digits);
    return (value) => {
      if (!Number.isFinite(value)) return general(value, 6);
      if (!scientific) return withoutMinusZero(fixed(value, digits));
      return value.toExponential(digits).replace(/e([+-])(\d)$/, "e$10$2");
    };
  }

  const isWhole = (numbers) =>
    Array.from(numbers).every(
      (value) => Number.isInteger(value) || (!Number.isFinite(value) && !Number.isNaN(value)),
    );
  const texts = (numbers, digits) => formatted(numbers, isWhole(numbers) ? 0 : digits);

  function share(weight, digits) {
    if (weight > 0 && weight < 10 ** (1 - digits) && digits > 2) return general(weight, 3);
    return Number.isFinite(weight) ? fixed(weight, digits) : general(weight, 3);
  }

  function percent(part) {
    const hundredths = 100 * part;
    if (hundredths > 0 && hundredths < 0.01) return "<0.01%";
    const whole = fixed(hundredths, 0);
    if (part && (whole === "0" || (whole === "100" && hundredths < 99.995))) {
      return whole === "0" ? `${general(hundredths, 2)}%` : `${fixed(hundredths, 2)}%`;
    }
    return `${whole}%`;
  }

  // A number with four digits that count.
  function four(value) {
    if (value === 0 || !Number.isFinite(value) || value < 1e-3 || value >= 1e6)
      return general(value, 4);
    return fixed(value, Math.max(3 - Math.floor(Math.log10(value)), 0));
  }

  function ordinal(count) {
    const teens = [11, 12, 13].includes(count % 100);
    return count + ((!teens && { 1: "st", 2: "nd", 3: "rd" }[count % 10]) || "th");
  }

  const counted = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, ",");

  // ---- Names -----------------------------------------------------------------------------------

  const labelOf = (side, i) => (side === null ? String(i) : side.labels[i]);
  const nameOf = (kind, i) => {
    const side = kind === "query" ? data.queries : data.keys;
    return side === null ? String(i) : (side.names ?? side.labels)[i];
  };
  const mixedColumn = (name, c) => (name === "projected" ? String(c) : valueColumn(c));
  const valueColumn = (c) => (data.valueColumns === null ? String(c) : data.valueColumns[c]);

  // Which matrix it is: "batch 0, head 3".
  function titled(place, after = "") {
    if (!place.length) return "";
    const numbers = place.map((i, axis) => data.leading[axis].numbers[i]);
    const batches = numbers.slice(0, -1);
    const parts = batches.length ? [`batch ${batches.join(" ")}`] : [];
    return [...parts, `head ${numbers.at(-1)}`].join(", ") + after;
  }

  // ---- Elements --------------------------------------------------------------------------------

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === false) continue;
      made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.flat(Infinity).filter((child) => child !== null));
    return made;
  }

  // A label: text that keeps its direction to itself, and its length within bounds.
  const bdi = (text) => element("bdi", {}, text);
  // The same within an attribute: between signs that isolate its direction.
  const isolated = (text) => `\u2068${text}\u2069`;
  const query = (found) => bdi(found.queryName);
  const key = (j) => bdi(nameOf("key", j));

  // A power of e: the "^" is for those who copy or hear it.
  const power = (exponent) =>
    element(
      "span",
      { class: "power" },
      "e",
      element("span", { class: "unseen" }, "^"),
      element("sup", {}, exponent),
    );

  // ---- One weight explained --------------------------------------------------------------------

  const SPOKEN = 3,
    WRITTEN_OUT = 8,
    FAR = 20;
  // Of vectors that are wider only the largest numbers are shown, and fewer where they do not fit.
  const SHOWN = 4;
  const shown = { score: SHOWN, output: SHOWN, gated: SHOWN, projected: SHOWN };
  const showAll = () => {
    for (const name of Object.keys(shown)) shown[name] = SHOWN;
  };
  // The part of an explanation that a step is told in.
  const partOf = (step) => (step === "weights" || isMixed(step) ? step : "score");
  const isWide = (part, width, numbers) =>
    width > (shown[part] < SHOWN ? shown[part] : isWhole(numbers) ? 8 : 5);
  const DECIMALS = data.digits, // of what is shown; an explanation of none would say nothing
    DIGITS = Math.max(data.digits, 1),
    EXACT = Math.max(data.digits, 4);
  const SLACK = { float32: 1e-5, float64: 1e-12 };

  // Where a row of weights is largest; several keys where they weigh the same.
  function largest(weights) {
    let peak = 0;
    for (const weight of weights) if (weight > peak) peak = weight;
    if (!peak) return [];
    return ALL_KEYS.filter((j) => weights[j] >= peak * (1 - (SLACK[data.dtype] ?? 0)));
  }

  // The keys that weigh most, the largest first; of equals, the first key first.
  function top(weights, count) {
    const order = (a, b) => weights[b] - weights[a] || a - b;
    return ALL_KEYS.filter((j) => !Number.isNaN(weights[j]))
      .sort(order)
      .slice(0, count);
  }

  // What part of the output each key adds: the length of its weighted value, over their sum.
  function sharesOf(place, weights) {
    const first = valueBegin(place),
      v = made.value.numbers;
    const added = new Float64Array(KEYS);
    for (let j = 0; j < KEYS; j++) {
      if (weights[j] === 0) continue;
      let largest = 0; // the squares of larger numbers may overflow
      for (let c = 0, at = first + j * valueWidth; c < valueWidth; c++)
        largest = Math.max(largest, Math.abs(v[at + c]));
      let squares = 0;
      for (let c = 0, at = first + j * valueWidth; c < valueWidth; c++)
        squares += (v[at + c] / largest) ** 2;
      added[j] = Math.abs(weights[j]) * (largest && largest * Math.sqrt(squares));
    }
    const total = added.reduce((a, b) => a + b, 0);
    return total ? added.map((part) => part / total) : added;
  }

  function explained(place, i, j) {
    const parts = row(place, i);
    const found = {
      place,
      query: i,
      key: j,
      queryName: nameOf("query", i),
      weights: parts.weights ?? null,
      visible: parts.visible,
      scores: parts[lastScore()] ?? null,
    };
    // what the softmax is taken of
    if (found.scores !== null && found.weights !== null && narrowed !== null)
      found.scores = found.scores.map(narrowed);
    found.seen = parts.visible.reduce((a, b) => a + b, 0);
    found.isSeen = parts.visible[j] === 1;
    found.hidden = hiding(place, i, j);
    if (found.scores !== null) {
      found.score = parts[firstScore][j];
      found.links = [];
      let before = firstScore;
      for (const step of scoreSteps()) {
        const link = { ...step, before: parts[before][j], after: parts[step.name][j] };
        if (step.at !== undefined) link.formula = step.at(place, i, j);
        const moved = link.after !== link.before && link.after !== MINUS;
        if (step.name !== "masked" || moved) found.links.push(link);
        before = step.name;
      }
      powersOf(found);
    }
    if (found.weights !== null) {
      found.weight = found.weights[j];
      const above = found.weights.reduce((a, weight) => a + (weight > found.weight), 0);
      found.rank =
        !found.isSeen || Number.isNaN(found.weight)
          ? null
          : largest(found.weights).includes(j)
            ? 1
            : above + 1;
      found.shares = hasOutput ? sharesOf(place, found.weights) : null;
    }
    return found;
  }

  // e^(score − shift) of each key: scores far from 0 have the largest taken off first.
  function powersOf(found) {
    const sink = sinkOf(found.place);
    let peak = sink ?? MINUS;
    found.scores.forEach((score, j) => {
      if (found.visible[j] && score > peak) peak = score;
    });
    found.shift = Number.isFinite(peak) && Math.abs(peak) > FAR ? peak : 0;
    found.powers = found.scores.map((s, j) => (found.visible[j] ? Math.exp(s - found.shift) : 0));
    found.sink = sink === null ? null : sink - found.shift;
    found.total = found.powers.reduce((a, b) => a + b, sink === null ? 0 : Math.exp(found.sink));
    found.sunk = sink === null ? 0 : sink === Infinity ? 1 : Math.exp(found.sink) / found.total;
  }

  // The masks that hide a key.
  function hiding(place, i, j) {
    const found = [],
      position = positionOf(place, i),
      [left, right] = asked.window;
    if (givenWeights !== null) return found;
    if (options.causal && j > position) found.push("causal mask");
    if ((left !== null && j < position - left) || (right !== null && j > position + right)) {
      found.push("window");
    }
    if (asked.lengths !== null && j >= numberAt(asked.lengths, place)) found.push("valid length");
    if (biasAt(place, i, j) === MINUS) found.push("mask");
    return found;
  }

  // Why a mask hides the key, where its name does not say it.
  function reason(found, hides) {
    const position = positionOf(found.place, found.query),
      apart = found.key - position;
    const moved =
      position !== found.query ? ["; ", query(found), ` stands at position ${position}`] : [];
    if (hides === "causal mask")
      return [": ", key(found.key), " stands after ", query(found), moved];
    if (hides === "window") {
      const [left, right] = asked.window.map((side) => side ?? "any");
      const side = `${Math.abs(apart)} ${apart > 0 ? "after" : "before"} `;
      return [
        ": ",
        key(found.key),
        ` is ${side}`,
        query(found),
        `, and the window reaches ${left} before and ${right} after`,
        moved,
      ];
    }
    if (hides === "valid length") {
      return [`: keys from ${numberAt(asked.lengths, found.place)} on are padding`];
    }
    return [];
  }

  // The keys that weigh most, the one explained, and the one that adds most.
  function strongest(found) {
    const picked = top(found.weights, SPOKEN).filter((j) => found.weights[j] !== 0);
    if (found.shares?.some((part) => part > 0)) {
      picked.push(
        found.shares.reduce((best, part, j) => (part > found.shares[best] ? j : best), 0),
      );
    }
    const order = (a, b) => found.weights[b] - found.weights[a];
    return [...new Set([...picked, found.key])].sort((a, b) => a - b).sort(order);
  }

  function ranked(found) {
    if (found.rank > 1)
      return found.rank === found.seen ? "the smallest" : `the ${ordinal(found.rank)} largest`;
    const alike = largest(found.weights).length;
    if (!alike || alike === found.seen) return "as large as any"; // 0: a sink takes all
    return alike === 1 ? "the largest" : `one of the ${alike} largest`;
  }

  // The heading: what the weight is, and how it compares.
  function headline(found, step) {
    const where = titled(found.place, ": ");
    const pair = [where, query(found), " → ", key(found.key)];
    if (step === "masked" && !found.isSeen) return [...pair, ": hidden"];
    if (found.weights === null) {
      return [
        ...pair,
        `: ${lastScore() === "scores" ? "score" : lastScore()} `,
        strong(number(found.scores[found.key], DIGITS)),
      ];
    }
    if (!found.seen)
      return [where, query(found), " sees no key: its weights and its output are zeros"];
    if (Number.isNaN(found.weight)) {
      const lost = found.scores?.some((score) => Number.isNaN(score));
      return [
        ...pair,
        `: weight nan, since ${lost ? "there is a NaN among the scores" : "an infinite score has no share"}`,
      ];
    }
    if (found.rank === null) return [...pair, ": weight 0, since ", key(found.key), " is hidden"];
    const weight = [": weight ", strong(share(found.weight, DIGITS))];
    const sunk = sinks !== null;
    const besides = sunk ? " besides the sink" : "";
    if (found.seen === 1) return [...pair, ...weight, `, the only key that it sees${besides}`];
    const of = found.seen === KEYS ? `${KEYS}` : `the ${found.seen} that it sees`;
    const equal = share(1 / (found.seen + (sunk ? 1 : 0)), DIGITS);
    const shares = `equal shares ${sunk ? "with the sink " : ""}would be ${equal}`;
    return [...pair, ...weight, `, ${ranked(found)} of ${of}; ${shares}`];
  }

  // The heading of a number of the output, or of a step after it.
  function outputLine(found, step, column) {
    const value = mixedRow(found.place, found.query, found.weights, step)[column];
    const of = [
      titled(found.place, ": "),
      `${step}(`,
      query(found),
      "), column ",
      bdi(mixedColumn(step, column)),
    ];
    return [...of, ": ", strong(number(value, DIGITS, false))];
  }

  const strong = (text) => element("strong", {}, text);
  const line = (...parts) => element("p", {}, ...parts);

  const madeBy = (name) => (name in data.madeBy ? `${name[0]} = ${data.madeBy[name]}` : null);

  // How the query and the key were made, and where they stand if they were turned by that: beside
  // the title where it is short.
  function tellMade(found) {
    const turned = "query" in data.turned && "key" in data.turned;
    const cached = found.key < data.past;
    const place = {
      query: () => turnedAt("query", found.place, found.query),
      key: () =>
        cached ? found.key : turnedAt("key", found.place, found.key - data.past),
    };
    const told = ["query", "key"]
      .filter((name) => name in data.madeBy)
      .map((name) => {
        const old = name === "key" && cached;
        const how = old
          ? `${name[0]} is from the cache${turned ? ", turned already" : ""}`
          : madeBy(name);
        return how + (turned ? `, at position ${place[name]()}` : "");
      });
    if (!turned) {
      const width = told.join(", ").length;
      return width > BESIDE ? [[], told.map((text) => line(text))] : [told, []];
    }
    return [[], [...told.map((text) => line(text)), apart(found, place.query(), place.key())]];
  }

  const BESIDE = 40; // letters, for what stands beside a title

  const turnedAt = (name, place, i) =>
    data.turned[name].rows[i] + numberAt(data.turned[name].offset, place);

  // How far apart a query and a key stand that were turned.
  function apart(found, at, other) {
    if (at === other) return line("both stand at one position: they are turned alike");
    const side = `${Math.abs(other - at)} ${other > at ? "after" : "before"}`;
    return line(
      "k(",
      key(found.key),
      `) stands ${side} q(`,
      query(found),
      "): only the difference between their rotations matters",
    );
  }

  // 1: the dot product, and what is done to it.
  function tellScore(found) {
    const parts = [];
    const said = number(found.score, DIGITS);
    if (givenScores !== null) {
      parts.push(element("h3", {}, element("b", {}, "1"), " ", `score = ${said}, as given`));
    } else {
      const [beside, below] = tellMade(found);
      parts.push(
        element(
          "h3",
          {},
          element("b", {}, "1"),
          " ",
          "score = q(",
          query(found),
          ")·k(",
          key(found.key),
          ")",
          beside.map((told) => `, ${told}`).join(""),
        ),
        ...below,
      );
      parts.push(products(found), line("sum ", strong(said)));
    }
    for (const link of found.links) {
      const before = number(link.before, DIGITS);
      parts.push(
        line(`${link.name} ${link.formula(before)} = `, strong(number(link.after, DIGITS))),
      );
    }
    for (const hides of found.hidden) {
      parts.push(line(`hidden by the ${hides}`, reason(found, hides)));
    }
    if (!found.isSeen && found.seen && !found.hidden.length && !Number.isNaN(found.weight)) {
      parts.push(line("hidden: its score is -inf"));
    }
    return element("section", { "data-part": "score" }, ...parts);
  }

  // Two vectors above their products: of wide ones the largest products, and the rest as one.
  function products(found) {
    const width = made.query.shape.at(-1);
    const q = vector("query", found.query, found.place),
      k = vector("key", found.key, found.place);
    const each = q.map((x, c) => x * k[c]);
    const write = texts([...q, ...k, ...each], DIGITS);
    const size = (c) => (Number.isNaN(each[c]) ? Infinity : Math.abs(each[c]));
    let picked = Array.from({ length: width }, (_, c) => c);
    if (isWide("score", width, each))
      picked = picked.sort((a, b) => size(b) - size(a) || a - b).slice(0, shown.score);
    const rest = each.reduce((sum, x, c) => (picked.includes(c) ? sum : sum + x), 0);
    const more = width - picked.length;
    const last = (text) => (more ? [text] : []);
    return sheet(
      [
        data.columns === null ? "column" : "",
        ...picked.map((c) => bdi(columnName(c))),
        ...last(`${more} more`),
      ],
      [
        [["q(", query(found), ")"], ...picked.map((c) => write(q[c])), ...last("")],
        [["k(", key(found.key), ")"], ...picked.map((c) => write(k[c])), ...last("")],
        ["q×k", ...picked.map((c) => write(each[c])), ...last(number(rest, DIGITS))],
      ],
    );
  }

  const columnName = (c) => (data.columns === null ? String(c) : data.columns[c]);

  // A row of Q, K or V of one matrix.
  function vector(side, i, place) {
    const width = made[side].shape.at(-1);
    const at = begin(made[side], place, data.groups[side] ?? 1) + i * width;
    return Float64Array.from(made[side].numbers.subarray(at, at + width));
  }

  function sheet(header, lines, bold = -1) {
    const cell = (tag, child, n, scope) =>
      element(tag, { class: n === bold ? "chosen" : null, scope }, child);
    return element(
      "div",
      { class: "scroll" },
      element(
        "table",
        {},
        element(
          "thead",
          {},
          element(
            "tr",
            {},
            header.map((child, n) => cell("th", child, n, "col")),
          ),
        ),
        element(
          "tbody",
          {},
          lines.map(([first, ...others]) =>
            element(
              "tr",
              {},
              element("th", { scope: "row" }, first),
              others.map((child, n) => cell("td", child, n + 1, null)),
            ),
          ),
        ),
      ),
    );
  }

  // 2: the share, as a fraction, and the keys that weigh most.
  function tellWeight(found) {
    const parts = [element("b", {}, "2"), " "];
    const kind = inDtype(", in ");
    const weight = share(found.weight, DIGITS);
    if (found.scores === null) {
      parts.push(`weight = ${weight}, as given`);
    } else if (!found.isSeen) {
      parts.push("weight = 0: a hidden key has ", power("-inf"), ` = 0${kind}`);
    } else {
      const shifted = found.scores.map((score) => score - found.shift);
      const seen = ALL_KEYS.filter((j) => found.visible[j]);
      const whole = [...seen.map((j) => shifted[j]), found.sink ?? 0].every(Number.isInteger);
      const raised = (score) => power(score === 0 ? "0" : number(score, EXACT, whole));
      const exponent = (j) => raised(shifted[j]);
      const spoken =
        seen.length > WRITTEN_OUT ? strongest(found).filter((j) => found.visible[j]) : seen;
      const more = seen.length - spoken.length;
      const sum = spoken.map((j, n) => [
        n ? " + " : "",
        j === found.key ? element("mark", {}, exponent(j)) : exponent(j),
      ]);
      const sink = found.sink === null ? "" : [" + ", raised(found.sink), " (sink)"];
      parts.push(
        "weight = ",
        element("mark", {}, exponent(found.key)),
        " / (",
        sum,
        more ? ` + … ${counted(more)} more` : "",
        sink,
        `) = ${four(found.powers[found.key])} / ${four(found.total)} = `,
        strong(weight),
        kind,
      );
    }
    const made = [element("h3", {}, ...parts)];
    if (found.shift) {
      const fate = found.shift > 0 ? "overflow" : "vanish";
      made.push(
        line(
          `the exponents are the scores less the largest, ${number(found.shift, DIGITS)}: `,
          power("score"),
          ` itself may ${fate}, and the shares are the same`,
        ),
      );
    }
    made.push(bars(found));
    return element("section", { "data-part": "weights" }, ...made);
  }

  function bars(found) {
    const picked = strongest(found);
    const rest = ALL_KEYS.filter((j) => found.visible[j] && !picked.includes(j));
    const lines = picked.map((j) => [key(j), found.weights[j], [j]]);
    if (rest.length) lines.push([`${counted(rest.length)} more`, sumOf(found.weights, rest), rest]);
    if (sinks !== null) lines.push(["sink", found.sunk, []]);
    return element(
      "div",
      { class: "scroll" },
      element(
        "table",
        { class: "bars" },
        element(
          "tbody",
          {},
          lines.map(([name, weight, keys]) => {
            const bar = element("i", { "aria-hidden": "true" });
            bar.style.width = `${Math.min(Math.max(weight, 0) || 0, 1) * 100}%`;
            const chosen = keys.length === 1 && keys[0] === found.key;
            return element(
              "tr",
              { class: chosen ? "chosen" : null },
              element("th", { scope: "row" }, name),
              element("td", {}, share(weight, DIGITS)),
              element("td", { class: "bar" }, bar),
              element("td", {}, ofOutput(found, keys)),
            );
          }),
        ),
      ),
    );
  }

  const sumOf = (numbers, at) => at.reduce((sum, j) => sum + numbers[j], 0);

  function ofOutput(found, keys) {
    if (found.shares === null || !keys.length) return ""; // the sink adds nothing
    if (keys.some((j) => !Number.isFinite(found.shares[j]))) return "";
    return `${percent(sumOf(found.shares, keys))} of output`;
  }

  // 3: the output, as a sum of weighted values; the column looked at comes first.
  function tellOutput(found, column) {
    const picked = strongest(found).filter((j) => found.weights[j] !== 0);
    const term = (j) => [`${share(found.weights[j], DIGITS)}·v(`, key(j), ")"];
    const others = ALL_KEYS.filter((j) => found.weights[j] !== 0 && !picked.includes(j));
    const dots = others.length || picked.length > 2 ? " + …" : "";
    const output = mixed(found.place, found.weights, ALL_KEYS);
    const rows = picked.map((j) => [term(j), mixed(found.place, found.weights, [j])]);
    if (others.length)
      rows.push([`${counted(others.length)} more`, mixed(found.place, found.weights, others)]);
    rows.push([["output(", query(found), ")"], output]);
    const write = texts(
      rows.flatMap(([, numbers]) => [...numbers]),
      DIGITS,
    );
    let columns = Array.from({ length: valueWidth }, (_, c) => c);
    if (isWide("output", valueWidth, output)) {
      const size = (c) =>
        c === column ? Infinity : Number.isNaN(output[c]) ? Infinity : Math.abs(output[c]);
      columns = columns.sort((a, b) => size(b) - size(a) || a - b).slice(0, shown.output);
      if (column !== null)
        columns = [column, ...columns.filter((c) => c !== column)].slice(0, shown.output);
    }
    const more = valueWidth - columns.length;
    const table = sheet(
      [
        data.valueColumns === null ? "column" : "",
        ...columns.map((c) => bdi(valueColumn(c))),
        ...(more ? [`${more} more`] : []),
      ],
      rows.map(([name, numbers]) => [
        name,
        ...columns.map((c) => write(numbers[c])),
        ...(more ? [""] : []),
      ]),
      column === null ? -1 : columns.indexOf(column) + 1,
    );
    const lines = table.querySelectorAll("tbody tr");
    lines[rows.length - 1].classList.add("total");
    lines[picked.indexOf(found.key)]?.classList.add("looked");
    const sum = picked.slice(0, 2).map((j, n) => [n ? " + " : "", term(j)]);
    return element(
      "section",
      { "data-part": "output" },
      element(
        "h3",
        {},
        element("b", {}, "3"),
        " output(",
        query(found),
        ") = ",
        sum.length ? sum : "0",
        dots,
        "value" in data.madeBy
          ? `, ${madeBy("value")}${data.past ? " after the cache" : ""}`
          : "",
      ),
      table,
      unlike(found),
    );
  }

  // The columns of a step that are shown: all of them, or the one looked at and the largest.
  function columnsOf(name, numbers, column) {
    const columns = Array.from(numbers, (_, c) => c);
    if (!isWide(name, numbers.length, numbers)) return columns;
    const size = (c) =>
      c === column || Number.isNaN(numbers[c]) ? Infinity : Math.abs(numbers[c]);
    const kept = columns.sort((a, b) => size(b) - size(a) || a - b).slice(0, shown[name]);
    return column === null ? kept : [column, ...kept.filter((c) => c !== column)];
  }

  // Some columns of a table of several rows, and how many there are besides; where its last row
  // is summed, those have their sum there.
  function someColumns(name, rows, columns, column, isSummed = false) {
    const more = rows[0][1].length - columns.length;
    const last = rows.at(-1)[1];
    const rest = Array.from(last).reduce((sum, x, c) => (columns.includes(c) ? sum : sum + x), 0);
    const write = texts(
      rows.flatMap(([, numbers]) => [...numbers]),
      DIGITS,
    );
    const table = sheet(
      ["column", ...columns.map((c) => bdi(mixedColumn(name, c))), ...(more ? [`${more} more`] : [])],
      rows.map(([said, numbers]) => [
        said,
        ...columns.map((c) => write(numbers[c])),
        ...(more ? [isSummed && numbers === last ? number(rest, DIGITS) : ""] : []),
      ]),
      column === null ? -1 : columns.indexOf(column) + 1,
    );
    if (!isSummed) table.querySelector("tbody tr:last-child").classList.add("total");
    return table;
  }

  // The next part: the output times its gate.
  function tellGated(found, title, column) {
    const output = mixedRow(found.place, found.query, found.weights, "output");
    const gated = mixedRow(found.place, found.query, found.weights, "gated");
    const gate = gateOf(found.place, found.query);
    const single = after[0].gate.shape.at(-1) === 1 && valueWidth > 1;
    const rows = [
      [["output(", query(found), ")"], output],
      ...(single ? [] : [["gate", gate]]),
      [["gated(", query(found), ")"], gated],
    ];
    const how = single
      ? `${share(gate[0], DIGITS)}, the head's sigmoid(X·Wg)`
      : "gate, gate = sigmoid(X·Wg)";
    const heading = [...title, " = output(", query(found), `) × ${how}`];
    return element(
      "section",
      { "data-part": "gated" },
      element("h3", {}, heading),
      someColumns("gated", rows, columnsOf("gated", gated, column), column),
    );
  }

  // The last part: the numbers before, times Wo; of a column that is looked at, as a sum.
  function tellProjected(found, title, column) {
    const name = stepBefore("projected");
    const numbers = mixedRow(found.place, found.query, found.weights, name);
    const whole = mixedRow(found.place, found.query, found.weights, "projected");
    const many = data.manyHeads;
    const { bias } = after.at(-1);
    const how = many ? ", with this head's rows of Wo" : bias === null ? "" : " + bo";
    const told = [element("h3", {}, [...title, ` = ${name}(`, query(found), `)·Wo${how}`])];
    if (column === null) {
      const rows = [[["projected(", query(found), ")"], whole]];
      if (bias !== null) {
        const before = [`${name}(`, query(found), ")·Wo"];
        rows.unshift([before, projectedRow(found.place, numbers).map((x, c) => x - biasOf(c))]);
        rows.splice(1, 0, ["bo", bias.numbers]);
      }
      told.push(someColumns("projected", rows, columnsOf("projected", whole, null), null));
    } else {
      const { own, each } = productsOf(found.place, numbers, column);
      const rows = [
        [[`${name}(`, query(found), ")"], numbers],
        [`Wo, column ${column}`, own],
        ["product", each],
      ];
      const sum = bias === null ? "sum " : `sum, and bo ${number(biasOf(column), DIGITS)}: `;
      told.push(
        someColumns("output", rows, columnsOf("projected", each, null), null, true),
        line(sum, strong(number(whole[column], DIGITS, false))),
      );
    }
    if (many) {
      const all = data.bias ? "the sum over all heads, and bo," : "the sum over all heads";
      told.push(line(`what this head adds: ${all} is the layer's output`));
    }
    return element("section", { "data-part": "projected" }, ...told);
  }

  // A key that weighs less than another, and adds more.
  function unlike(found) {
    const { weights, shares } = found;
    if (
      shares.some((part) => !Number.isFinite(part)) ||
      weights.every((weight) => Number.isNaN(weight))
    )
      return null;
    const best = (numbers) => numbers.reduce((at, x, j) => (x > numbers[at] ? j : at), 0);
    const heavy = best(weights),
      long = best(shares);
    const digits = Math.max(Math.min(DIGITS, 2), 1);
    const [mine, its] = [heavy, long].map((j) => fixed(weights[j], digits));
    const [some, more] = [heavy, long].map((j) => percent(shares[j]));
    if (!(Number(mine) > Number(its) && some !== more)) return null;
    return line(
      key(heavy),
      ` has the largest weight (${mine}) and ${some} of the output, `,
      key(long),
      ` ${its} and ${more}: a key adds its weight times its value, and the values are not equally long`,
    );
  }

  // All that there is to say of one cell.
  function tell(found, step, column) {
    const own = (...names) => (names.includes(step) ? column : null);
    const parts = [
      element("h2", {}, column === null ? headline(found, step) : outputLine(found, step, column)),
    ];
    if (found.scores !== null) parts.push(tellScore(found));
    if (found.weights !== null && found.seen) {
      parts.push(tellWeight(found));
      if (hasOutput) {
        parts.push(tellOutput(found, own("output", "gated")));
        after.forEach(({ name }, n) => {
          const title = [element("b", {}, String(4 + n)), ` ${name}(`, query(found), ")"];
          const told = name === "gated" ? tellGated : tellProjected;
          parts.push(told(found, title, name === "gated" ? own("output", "gated") : own(name)));
        });
      }
    } else if (own("projected") !== null) {
      // what sees no key has bo all the same
      const title = [element("b", {}, String(3 + after.length)), " projected(", query(found), ")"];
      parts.push(tellProjected(found, title, column));
    }
    return parts;
  }

  // ---- Colours ---------------------------------------------------------------------------------

  const rgb = (text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
  const ANCHORS = {
    weights: data.colours.weights.map(rgb),
    aroundZero: data.colours.aroundZero.map(rgb),
  };

  // Up to how many keys a query may see that says nothing of them: one alone has all the weight,
  // and of few each has much, however little it matters. Of long rows they are more.
  const FEW = 1 / 8;

  // Which rows say how much a key matters: all, where they see as few keys as each other.
  function telling(found) {
    const seen = Array.from({ length: QUERIES }, (_, i) =>
      found.visible.subarray(i * KEYS, (i + 1) * KEYS).reduce((a, b) => a + b, 0),
    );
    const few = Math.max(Math.floor(FEW * seen.reduce((a, b) => Math.max(a, b), 0)), 1);
    return { few, rows: seen.map((count) => count > few) };
  }

  // The largest finite number of each row.
  function peaks({ numbers, rows, columns }, size) {
    const found = new Float64Array(rows);
    for (let i = 0, at = 0; i < rows; i++) {
      for (const end = at + columns; at < end; at++) {
        const value = size(numbers[at]);
        if (value > found[i] && value < Infinity) found[i] = value;
      }
    }
    return found;
  }

  // The scale for the numbers of a matrix: from 0 up for weights, around 0 for all else. Weights
  // beyond those of the rows that tell something have its last colour.
  const heatOf = (name, found) => (found.heat ??= measured(name, found));

  function measured(name, found) {
    const weights = name === "weights";
    const size = weights ? (x) => x : Math.abs;
    const each = peaks(found, size);
    const largestOf = (numbers) => numbers.reduce((a, b) => Math.max(a, b), 0);
    let most = largestOf(each),
      beyond = null;
    if (weights) {
      const { few, rows } = telling(found);
      const known = largestOf(each.filter((_, i) => rows[i]));
      if (known && known < most) [most, beyond] = [known, few];
    }
    const anchors = ANCHORS[weights ? "weights" : "aroundZero"];
    const lowest = weights ? 0 : -most;
    return {
      lowest,
      most,
      beyond,
      anchors,
      colour(value) {
        if (Number.isNaN(value) || value === MINUS) return null;
        if (!most) return weights ? anchors[0] : anchors[(anchors.length - 1) / 2];
        const part = (Math.min(Math.max(value, lowest), most) - lowest) / (most - lowest);
        const at = part * (anchors.length - 1),
          i = Math.min(Math.floor(at), anchors.length - 2);
        return anchors[i].map((x, n) => Math.round(x + (anchors[i + 1][n] - x) * (at - i)));
      },
    };
  }

  // Black or white, whichever stands out more.
  function ink(colour) {
    const [red, green, blue] = colour
      .map((part) => part / 255)
      .map((s) => (s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
  }

  const css = (colour) => `rgb(${colour.join(" ")})`;

  // ---- Heat maps -------------------------------------------------------------------------------

  const GRID = { cells: 1024, columns: 64, numbers: 16 };

  // How wide a text is, in pixels; a sign of Chinese is as wide as two letters.
  const ruler = document.createElement("canvas").getContext("2d");
  ruler.font = "16px system-ui, sans-serif";
  const breadth = (text) => ruler.measureText(text).width;
  const isSmall = () => document.documentElement.clientWidth < 500;

  // What is said of a cell, in words.
  function cellText(step, place, i, column, value, visible) {
    if (isMixed(step))
      return `${step} of ${isolated(nameOf("query", i))}, column ${isolated(mixedColumn(step, column))}: ${number(value, DECIMALS, false)}`;
    const pair = `${isolated(nameOf("query", i))} → ${isolated(nameOf("key", column))}`;
    const said =
      step === "weights"
        ? `weight ${share(value, DECIMALS)}`
        : `${step === "scores" ? "score" : step} ${number(value, DECIMALS)}`;
    const unmasked = step !== "weights" && step !== "masked";
    if (visible || unmasked) return `${pair}: ${said}`;
    const by = hiding(place, i, column);
    return `${pair}: hidden${by.length ? ` by the ${by.join(" and the ")}` : ""}`;
  }

  const isHidden = (step, found, i, j) =>
    (step === "weights" || step === "masked") && !found.visible[i * KEYS + j];

  const fitsGrid = (found) =>
    found.columns <= GRID.columns && found.rows * found.columns <= GRID.cells;

  // How wide a heat map may be, in pixels; on paper it is as wide as the paper.
  const PAPER = 567,
    PICTURE = 736, // the most of a picture with its labels
    NAMES = 96, // of that, for the labels of rows
    LINE = 14; // what a label needs
  let printed = false;
  const roomFor = () => (printed ? PAPER : part("heat").clientWidth);

  // The heat map of a step: a table where the cells are few, else a picture of pixels.
  function heatMap(step, place) {
    const found = matrix(place, step),
      heat = heatOf(step, found);
    return (fitsGrid(found) ? grid : canvas)(step, place, found, heat);
  }

  // What the keys of a row of weights leave to the sink.
  const leftToSink = (weights) =>
    percent(Math.max(1 - weights.reduce((sum, weight) => sum + weight, 0), 0));

  const sinkEnd = (weights, before) =>
    element("span", { class: "sink" }, `${before}sink ${leftToSink(weights)}`);

  const columnLabel = (step, c) =>
    isMixed(step) ? mixedColumn(step, c) : labelOf(data.keys, c);

  function grid(step, place, found, heat) {
    const { rows, columns, numbers } = found;
    const showNumbers = columns <= GRID.numbers;
    const whole = isWhole(Array.from(numbers).filter((value) => value !== MINUS));
    const write = formatted(
      numbers,
      step === "weights" || !whole
        ? columns > (isSmall() ? 4 : 6)
          ? Math.min(DECIMALS, 2)
          : DECIMALS
        : 0,
    );
    const longest = Math.max(
      ...Array.from({ length: columns }, (_, c) => breadth(columnLabel(step, c))),
    );
    // of many, some have their label
    const cramped = showNumbers ? LINE : longest > 22 ? LINE : longest * 0.8 + 4;
    const every = showNumbers ? 1 : round((cramped * columns) / Math.max(roomFor() - NAMES, 1));
    const named = labelled(columns, every, (c) => columnLabel(step, c));
    const upright = longest > (columns > 8 ? 36 : 80) || (columns > GRID.numbers && longest > 22);
    const ends = step === "weights" && showNumbers;
    const head = element(
      "tr",
      { role: "row" },
      element("td", { role: "presentation" }),
      Array.from({ length: columns }, (_, c) =>
        element(
          "th",
          { role: "columnheader", scope: "col" },
          named[c] ? bdi(columnLabel(step, c)) : "",
        ),
      ),
      ends ? element("th", { class: "end" }) : null,
    );
    const body = Array.from({ length: rows }, (_, i) => {
      const line = numbers.subarray(i * columns, (i + 1) * columns);
      const peaks = step === "weights" ? largest(line) : [];
      const cells = Array.from(line, (value, c) => {
        const hidden = isHidden(step, found, i, c);
        const text = !showNumbers ? "" : hidden ? "·" : write(value);
        const cell = element(
          "td",
          {
            role: "gridcell",
            tabindex: "-1",
            "data-row": i,
            "data-column": c,
            class: hidden
              ? "hidden"
              : Number.isNaN(value)
                ? "lost"
                : peaks.includes(c)
                  ? "peak"
                  : null,
            "aria-label":
              cellText(step, place, i, c, value, !hidden) +
              (peaks.includes(c) && peaks.length === 1 ? ", the largest of its row" : ""),
          },
          text,
        );
        const colour = hidden ? null : heat.colour(value);
        if (colour !== null) {
          cell.style.background = css(colour);
          cell.style.color = ink(colour);
        }
        return cell;
      });
      const end = !ends
        ? null
        : element(
            "td",
            { class: "end", role: "presentation" },
            peaks.length === 1
              ? ["→ ", bdi(labelOf(data.keys, peaks[0])), ` ${percent(line[peaks[0]])}`]
              : "",
            sinks === null ? null : sinkEnd(line, peaks.length === 1 ? ", " : "→ "),
          );
      return element(
        "tr",
        { role: "row" },
        element("th", { role: "rowheader", scope: "row" }, bdi(labelOf(data.queries, i))),
        cells,
        end,
      );
    });
    const table = element(
      "table",
      {
        role: "grid",
        class: [
          "map",
          upright ? "upright" : "",
          showNumbers ? "" : "small",
          columns > 7 ? "narrow" : "",
          rows > 8 && showNumbers ? "low" : "",
        ]
          .join(" ")
          .trim(),
        "aria-label": `${step}${place.length ? ` of ${titled(place)}` : ""}: a row for each query, a column for each ${isMixed(step) ? "number" : "key"}`,
      },
      element("thead", {}, head),
      element("tbody", {}, body),
    );
    return element("div", { class: "scroll" }, table);
  }

  const SIDE = 640; // pixels of a picture, at most
  const LOST = [0xe3, 0x77, 0xc2]; // the colour of what is no number

  // The next of 1, 2, 5, 10, 20, 50, … that is no less.
  function round(count) {
    for (let power = 1; ; power *= 10) {
      for (const first of [1, 2, 5]) if (first * power >= count) return first * power;
    }
  }

  // Which of so many rows or columns have their label: tokens by their place, numbers by
  // themselves where they follow each other.
  function labelled(count, every, label) {
    const first = Number(label(0));
    const follow =
      count > every &&
      label(0) !== "" &&
      Number.isInteger(first) &&
      Number(label(count - 1)) - first === count - 1;
    const start = follow ? (every - (first % every)) % every : 0;
    return Array.from({ length: count }, (_, n) => n >= start && (n - start) % every === 0);
  }

  // A dot on the largest of each row, where a cell has room for one.
  const DOTTED = 128;
  const isDotted = ({ rows, columns }) => columns > 1 && Math.max(rows, columns) <= DOTTED;

  function dots(found, heat) {
    const { rows, columns, numbers } = found;
    const parsed = new DOMParser().parseFromString("<svg></svg>", "text/html");
    const space = parsed.querySelector("svg").namespaceURI;
    const drawn = document.createElementNS(space, "svg");
    drawn.setAttribute("aria-hidden", "true");
    for (let i = 0; i < rows; i++) {
      for (const j of largest(numbers.subarray(i * columns, (i + 1) * columns))) {
        const dot = document.createElementNS(space, "circle");
        const colour = heat.colour(numbers[i * columns + j]);
        dot.setAttribute("cx", `${((j + 0.5) / columns) * 100}%`);
        dot.setAttribute("cy", `${((i + 0.5) / rows) * 100}%`);
        dot.setAttribute("r", `${20 / Math.max(rows, columns)}%`);
        dot.setAttribute("fill", colour === null ? "none" : ink(colour));
        drawn.append(dot);
      }
    }
    return drawn;
  }

  // A picture with one dot for each cell, or for the largest of several.
  function canvas(step, place, found, heat) {
    const { rows, columns, numbers } = found;
    const by = [Math.ceil(rows / SIDE), Math.ceil(columns / SIDE)];
    const high = Math.ceil(rows / by[0]),
      wide = Math.ceil(columns / by[1]);
    const picture = element("canvas", { width: wide, height: high, "aria-hidden": "true" });
    const pixels = new ImageData(wide, high);
    const size = step === "weights" ? (x) => x : Math.abs;
    for (let y = 0; y < high; y++) {
      for (let x = 0; x < wide; x++) {
        let peak = MINUS;
        for (let i = y * by[0]; i < Math.min((y + 1) * by[0], rows); i++) {
          for (let j = x * by[1]; j < Math.min((x + 1) * by[1], columns); j++) {
            const value = isHidden(step, found, i, j) ? MINUS : numbers[i * columns + j];
            const known = peak !== MINUS && !Number.isNaN(peak);
            if (value !== MINUS && (!known || size(value) > size(peak))) peak = value;
          }
        }
        const colour = Number.isNaN(peak) ? LOST : heat.colour(peak),
          at = 4 * (y * wide + x);
        if (colour !== null) pixels.data.set([...colour, 255], at);
      }
    }
    picture.getContext("2d").putImageData(pixels, 0, 0);
    const each = Math.max(by[0], by[1]);
    // the same steps on both sides, so that a token has its label on both or on none
    const side = Math.min(roomFor(), PICTURE) - NAMES;
    const every = round((LINE * Math.max(rows, columns)) / Math.max(side, 1));
    const labels = (axis, count, label) => {
      const ticks = labelled(count, every, label).flatMap((has, n) => {
        if (!has) return [];
        const tick = element("span", {}, bdi(label(n)));
        tick.style[axis === "down" ? "top" : "left"] = `${((n + 0.5) / count) * 100}%`;
        return [tick];
      });
      return element("div", { class: axis, "aria-hidden": "true" }, ticks);
    };
    const frame = element(
      "div",
      {
        class: "picture",
        role: "application",
        tabindex: "0",
        "aria-roledescription": "heat map",
        "aria-label": `${step}${place.length ? ` of ${titled(place)}` : ""}: ${rows} rows, ${columns} columns; the arrow keys move`,
        "aria-describedby": "readout",
        "data-rows": rows,
        "data-columns": columns,
      },
      picture,
      step === "weights" && isDotted(found) ? dots(found, heat) : null,
      element("div", { class: "marker" }),
    );
    frame.style.aspectRatio = `${Math.max(wide, 1)} / ${Math.max(Math.min(high, wide), wide / 8)}`;
    const note =
      each > 1 ? line(`each dot is the largest of up to ${by[0]} × ${by[1]} cells`) : null;
    note?.classList.add("hint");
    return element(
      "div",
      { class: "framed" },
      labels("across", columns, (c) => columnLabel(step, c)),
      labels("down", rows, (i) => labelOf(data.queries, i)),
      frame,
      note,
    );
  }

  // The scale of colours, with its two ends, and what stands for that which is not on it.
  function legend(step, place) {
    const found = matrix(place, step),
      heat = heatOf(step, found);
    const bar = element("i", { "aria-hidden": "true" });
    bar.style.background = `linear-gradient(to right, ${heat.anchors.map(css).join()})`;
    const [low, high] = [heat.lowest, heat.most].map((value) =>
      value === 0 ? "0" : number(value, DIGITS),
    );
    const more = heat.beyond === null ? "" : " and more";
    return [element("span", { class: "scale" }, low, bar, high + more), ...signs(step, found, heat)];
  }

  // What a hatched cell, a NaN and a bold number (or a dot) are, where there are any.
  function signs(step, found, heat) {
    const made = [];
    const item = (sign, text) => made.push(element("span", {}, sign, ` ${text}`));
    const swatch = (kind) => element("b", { class: kind, "aria-hidden": "true" });
    if ((step === "weights" || step === "masked") && found.visible.includes(0))
      item(swatch("hidden"), "hidden");
    if (found.numbers.some((value) => Number.isNaN(value))) item(swatch("lost"), "NaN");
    if (step === "weights" && found.columns > 1) {
      if (!fitsGrid(found) && isDotted(found)) item("●", "largest of its row");
      else if (fitsGrid(found) && found.columns <= GRID.numbers) item(element("strong", {}, "bold"), "largest of its row");
    }
    if (heat.beyond !== null) {
      const who = heat.beyond === 1 ? "that see one key" : `that see up to ${heat.beyond} keys`;
      made.push(element("span", {}, `(queries ${who} do not count for the scale)`));
    }
    return made;
  }

  // The title of a step: its name, its formula, and its shapes for one head.
  function stepTitle(step) {
    const columns = widthOf(step);
    const pair = (a, b) => `(${a}, ${b})`;
    let shapes = pair(QUERIES, columns);
    if (step === "scores" && made.query !== null) {
      const width = made.query.shape.at(-1);
      shapes = `${pair(QUERIES, width)}·${pair(width, KEYS)} → ${shapes}`;
    }
    if (step === "output") shapes = `${pair(QUERIES, KEYS)}·${pair(KEYS, valueWidth)} → ${shapes}`;
    if (step === "gated") {
      const width = after[0].gate.shape.at(-1);
      shapes = `${shapes} × ${pair(QUERIES, width)} → ${shapes}`;
    }
    if (step === "projected")
      shapes = `${pair(QUERIES, valueWidth)}·${pair(valueWidth, columns)} → ${shapes}`;
    const formula = step === given?.name ? " as given " : ` = ${formulaOf(step)} `;
    return [strong(step), formula, element("small", {}, shapes)];
  }

  // ---- The page --------------------------------------------------------------------------------

  const part = (id) => document.getElementById(id);
  const state = {
    place: data.leading.map(() => 0),
    step: "",
    query: 0,
    key: 0,
    column: 0,
    open: true,
  };

  const clamp = (value, count) => Math.min(Math.max(value, 0), count - 1);
  const across = () => (isMixed(state.step) ? "column" : "key");

  // What is where the marker stands: the value, and the text that is said of it.
  function current() {
    const found = matrix(state.place, state.step),
      column = state[across()];
    const value = found.numbers[state.query * found.columns + column];
    const visible = !isHidden(state.step, found, state.query, column);
    return {
      found,
      column,
      text: cellText(state.step, state.place, state.query, column, value, visible),
    };
  }

  // Everything anew: after another head, another step, or other numbers.
  function draw() {
    if (!steps().includes(state.step))
      state.step = steps().includes("weights") ? "weights" : steps().at(-1);
    if (isMixed(state.step)) state.column = clamp(state.column, widthOf(state.step));
    part("formula").textContent = wholeFormula();
    part("steps").replaceChildren(
      ...steps()
        .map((name, n) => {
          const button = element(
            "button",
            {
              type: "button",
              "data-step": name,
              "aria-current": name === state.step ? "step" : null,
            },
            name,
          );
          return n ? [element("span", { "aria-hidden": "true" }, "→"), button] : [button];
        })
        .flat(),
    );
    part("steps").hidden = steps().length === 1;
    part("step-title").replaceChildren(...stepTitle(state.step));
    part("about").textContent = data.about[state.step];
    part("legend").replaceChildren(...legend(state.step, state.place));
    part("heat").replaceChildren(heatMap(state.step, state.place));
    fit();
    for (const button of part("controls").querySelectorAll("[data-axis]")) {
      const [axis, i] = [Number(button.dataset.axis), Number(button.dataset.index)];
      button.setAttribute("aria-pressed", state.place[axis] === i);
    }
    move(false);
  }

  // A sentence needs more of a wide screen than a few tokens do.
  const wantsRoom = () =>
    KEYS > 10 && KEYS <= GRID.numbers && fitsGrid({ rows: QUERIES, columns: KEYS });

  // Where a table does not fit, what a sink takes gives way first (the explanation has it too),
  // then its last column, then the room within its cells.
  function fit() {
    const frame = part("heat").querySelector(".scroll");
    if (frame === null) return;
    const table = frame.firstElementChild;
    const overflows = () => frame.scrollWidth > frame.clientWidth;
    table.classList.add("roomy");
    if (overflows()) table.classList.add("brief");
    if (overflows()) table.classList.remove("roomy");
    for (const name of ["endless", "tight", "tiny"]) if (overflows()) table.classList.add(name);
  }

  // Scroll so that a cell is seen: in its table, and in the window if that is wanted. (What has
  // this page in a frame is not moved.)
  function uncover(cell, inWindow) {
    const room = 6;
    let own = cell.getBoundingClientRect();
    const frame = cell.closest(".scroll");
    if (frame !== null) {
      const box = frame.getBoundingClientRect();
      const first = box.left + cell.parentElement.firstElementChild.offsetWidth + room;
      if (own.left < first) frame.scrollLeft -= first - own.left;
      else if (own.right + room > box.right) frame.scrollLeft += own.right + room - box.right;
    }
    if (!inWindow) return;
    own = cell.getBoundingClientRect();
    if (own.top < room) scrollBy(0, own.top - room);
    else if (own.bottom + room > innerHeight) scrollBy(0, own.bottom + room - innerHeight);
    bound();
    aim();
  }

  const marked = () => part("heat").querySelector('[aria-selected="true"], .marker');

  // The marker to where it belongs, and what is said of the cell there.
  function move(focus) {
    const { found, column, text } = current();
    part("readout").textContent = text;
    const old = part("heat").querySelector('[aria-selected="true"]');
    old?.setAttribute("aria-selected", "false");
    old?.setAttribute("tabindex", "-1");
    const cell = part("heat").querySelector(`[data-row="${state.query}"][data-column="${column}"]`);
    const frame = part("heat").querySelector(".picture");
    part("readout").setAttribute("aria-live", frame === null ? "off" : "polite"); // a cell says it itself
    if (cell !== null) {
      cell.setAttribute("aria-selected", "true");
      cell.setAttribute("tabindex", "0");
    } else if (frame !== null) {
      put(frame.querySelector(".marker"), found, column);
    }
    if (focus) (cell ?? frame)?.focus({ preventScroll: true });
    if (marked() !== null) uncover(marked(), focus);
    explain();
    remember();
  }

  function explain() {
    const panel = part("panel");
    panel.classList.toggle("closed", !state.open);
    if (!state.open) {
      panel.replaceChildren(line("Click a cell: how its number came about is explained here."));
      return;
    }
    const close = element(
      "button",
      { type: "button", class: "close", "aria-label": "Close the explanation" },
      "×",
    );
    close.addEventListener("click", () => shut());
    const column = isMixed(state.step) ? state.column : null;
    const found = explained(state.place, state.query, state.key);
    bound();
    const write = () => panel.replaceChildren(close, ...tell(found, state.step, column));
    showAll();
    write();
    while (narrower(panel)) write();
    const looked = partOf(state.step);
    panel.querySelector(`[data-part="${looked}"]`)?.classList.add("now");
    aim();
  }

  // Whether a table that does not fit may have a column less, in the next try.
  function narrower(panel) {
    const over = Object.keys(shown).filter((name) => {
      const frame = panel.querySelector(`[data-part="${name}"] .scroll`);
      return shown[name] > 1 && frame !== null && frame.scrollWidth > frame.clientWidth;
    });
    for (const name of over) shown[name] -= 1;
    return over.length > 0;
  }

  const isBeside = () => getComputedStyle(part("panel")).position === "sticky";

  // The explanation beside the map ends where the window does.
  function bound() {
    const top = Math.max(part("stage").getBoundingClientRect().top, EDGE);
    const high = Math.max(innerHeight - top - EDGE, LEAST);
    part("panel").style.maxHeight = isBeside() ? `${high}px` : "none";
  }

  const EDGE = 8,
    LEAST = 240; // pixels

  // The part that is asked for is seen, whatever stands before it.
  function aim() {
    const panel = part("panel"),
      now = panel.querySelector(".now");
    panel.scrollTop = 0;
    if (now === null || !isBeside()) return;
    const box = panel.getBoundingClientRect(),
      own = now.getBoundingClientRect();
    const under = own.bottom + EDGE - box.bottom;
    if (under > 0) panel.scrollTop = Math.min(under, own.top - box.top - EDGE);
  }

  function shut() {
    state.open = false;
    explain();
    remember();
  }

  // The check line: quiet where all is equal, loud where not.
  function check() {
    const told = part("check");
    told.className = "";
    if (isChanged()) {
      told.textContent = "Changed here: not compared with what qkvcli computed";
      return;
    }
    const { count, what, own, known } = compared();
    if (what === null) {
      told.textContent = `The page's numbers equal those that qkvcli computed (${counted(count)} checked)`;
      return;
    }
    told.className = "wrong";
    told.textContent = `This page computes something else than qkvcli did. The ${what} is ${general(own, 9)} here, and was ${general(known, 9)}: do not trust its numbers.`;
  }

  // ---- Links: #q=1&k=2&h=6 ---------------------------------------------------------------------

  let silent = false; // while a link is read, none is written

  function remember() {
    if (silent) return;
    const parts = state.open ? [`q=${state.query}`, `k=${state.key}`] : [];
    const numbers = state.place.map((i, axis) => data.leading[axis].numbers[i]);
    if (numbers.length) parts.push(`h=${numbers.at(-1)}`);
    if (numbers.length > 1) parts.push(`b=${numbers.slice(0, -1).join(",")}`);
    parts.push(`s=${state.step}`);
    if (isMixed(state.step) && state.open) parts.push(`c=${state.column}`);
    try {
      history.replaceState(null, "", `#${parts.join("&")}`);
    } catch {
      // a frame within a notebook has no address
    }
  }

  function recall() {
    const told = new URLSearchParams(location.hash.slice(1));
    const whole = (name, count) => {
      const text = told.get(name);
      return text !== null && /^\d{1,9}$/.test(text) && Number(text) < count ? Number(text) : null;
    };
    const last = data.leading.length - 1;
    const batches = (told.get("b") ?? "").split(",");
    data.leading.forEach(({ numbers }, axis) => {
      const at = numbers.indexOf(Number((axis === last ? told.get("h") : batches[axis]) || NaN));
      if (at >= 0) state.place[axis] = at;
    });
    if (steps().includes(told.get("s"))) state.step = told.get("s");
    const i = whole("q", QUERIES),
      j = whole("k", KEYS),
      c = isMixed(state.step) ? whole("c", widthOf(state.step)) : null;
    if (i !== null) state.query = i;
    if (i !== null && j === null && hasWeights) state.key = heaviest(row(state.place, i).weights);
    if (j !== null) state.key = j;
    if (c !== null) state.column = c;
    if (i !== null || j !== null || c !== null) state.open = true;
  }

  // The key that weighs most.
  function heaviest(weights) {
    let best = 0;
    weights.forEach((weight, j) => {
      if (weight > weights[best]) best = j;
    });
    return best;
  }

  // Where to begin: at the largest weight of a query that sees more than a few keys.
  function begins() {
    const name = hasWeights ? "weights" : lastScore();
    const found = matrix(state.place, name),
      { rows } = telling(found);
    let best = MINUS;
    for (let i = 0; i < QUERIES; i++) {
      for (let j = 0; j < KEYS; j++) {
        const value = found.numbers[i * KEYS + j];
        if (found.visible[i * KEYS + j] && (rows[i] || KEYS === 1) && value > best) {
          best = value;
          [state.query, state.key] = [i, j];
        }
      }
    }
  }

  // ---- Keys and clicks -------------------------------------------------------------------------

  function stepBy(count) {
    const names = steps();
    state.step = names[(names.indexOf(state.step) + count + names.length) % names.length];
    state.open = true;
    draw();
    move(true);
  }

  const MOVES = {
    ArrowUp: [-1, 0],
    ArrowDown: [1, 0],
    ArrowLeft: [0, -1],
    ArrowRight: [0, 1],
    Home: [0, -Infinity],
    End: [0, Infinity],
    PageUp: [-10, 0],
    PageDown: [10, 0],
  };

  function pressed(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.closest("input, select, textarea, button, summary, a")) return;
    if (event.key === " ") stepBy(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape") shut();
    else if (event.key === "Enter" && event.target.closest("#heat")) select();
    else if (event.key in MOVES) {
      const [down, right] = MOVES[event.key],
        found = matrix(state.place, state.step);
      state.query = clamp(state.query + down, found.rows);
      state[across()] = clamp(state[across()] + right, found.columns);
      state.open = true;
      move(true);
    } else return;
    event.preventDefault();
  }

  function select() {
    state.open = true;
    move(true);
  }

  // The cell under the pointer, or null.
  function pointed(event) {
    const cell = event.target.closest("[data-row]");
    if (cell !== null) return [Number(cell.dataset.row), Number(cell.dataset.column)];
    const frame = event.target.closest(".picture");
    if (frame === null) return null;
    const box = frame.getBoundingClientRect();
    const rows = Number(frame.dataset.rows),
      columns = Number(frame.dataset.columns);
    return [
      clamp(Math.floor(((event.clientY - box.top) / box.height) * rows), rows),
      clamp(Math.floor(((event.clientX - box.left) / box.width) * columns), columns),
    ];
  }

  function clicked(event) {
    const at = pointed(event);
    if (at === null) return;
    [state.query, state[across()]] = at;
    select();
  }

  // What is under the pointer is said below the heat map, until it leaves.
  function hovered(event) {
    const at = event.type === "pointerleave" ? null : pointed(event);
    if (at === null) {
      part("readout").textContent = current().text;
      return;
    }
    const found = matrix(state.place, state.step),
      [i, column] = at;
    const visible = !isHidden(state.step, found, i, column);
    part("readout").textContent = cellText(
      state.step,
      state.place,
      i,
      column,
      found.numbers[i * found.columns + column],
      visible,
    );
  }

  // ---- Controls --------------------------------------------------------------------------------

  // After something was changed: all anew.
  function changed() {
    held = new Map();
    check();
    draw();
    part("reset").hidden = !isChanged();
  }

  // Another head, or another batch.
  function place(axis, index) {
    state.place[axis] = index;
    draw();
    inputs();
  }

  const MANY = 24; // heads that have a button each

  function chooser({ kind, numbers }, axis) {
    const name = axis < data.leading.length - 2 ? `axis ${axis}` : kind;
    if (numbers.length > MANY) {
      const select = element(
        "select",
        { "aria-label": name },
        numbers.map((n, i) => element("option", { value: i }, String(n))),
      );
      select.value = state.place[axis];
      select.addEventListener("change", () => place(axis, Number(select.value)));
      return element("label", {}, `${name} `, select);
    }
    const buttons = numbers.map((n, i) =>
      element(
        "button",
        {
          type: "button",
          "data-axis": axis,
          "data-index": i,
          "aria-pressed": false,
          "aria-label": `${name} ${n}`,
        },
        String(n),
      ),
    );
    const group = element(
      "span",
      { role: "group", "aria-label": name, class: "choice" },
      `${name} `,
      buttons,
    );
    group.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button === null) return;
      place(axis, Number(button.dataset.index));
      if (event.detail) move(true); // by a pointer: the arrow keys go on in the map
    });
    return group;
  }

  // The scales to choose from: none, 1/√d, and the number that was given.
  function scales() {
    const found = [["none", null]];
    const given = asked.scale;
    if (asked.width) {
      const written = `1/√${asked.width}`;
      found.push([
        written,
        given?.written === written ? given : { factor: 1 / Math.sqrt(asked.width), written },
      ]);
    }
    if (given !== null && !found.some(([, scale]) => scale === given))
      found.push([given.written, given]);
    return found;
  }

  function controls() {
    const made = data.leading.map((axis, n) => (axis.numbers.length > 1 ? chooser(axis, n) : null));
    if (givenWeights === null) {
      const known = scales();
      if (known.length > 1 && firstScore === "scores") {
        const select = element(
          "select",
          { id: "scale" },
          known.map(([name], n) => element("option", { value: n }, name)),
        );
        const now = () => {
          select.value = known.findIndex(([, scale]) => scale === options.scale);
        };
        select.addEventListener("change", () => {
          options.scale = known[Number(select.value)][1];
          changed();
        });
        now();
        made.push(element("label", {}, "scale ", select));
      }
      const causal = element("input", { type: "checkbox", id: "causal" });
      causal.checked = options.causal;
      causal.addEventListener("change", () => {
        options.causal = causal.checked;
        changed();
      });
      made.push(element("label", {}, causal, " causal mask"));
    }
    const reset = element("button", { type: "button", id: "reset", hidden: true }, "as given");
    reset.addEventListener("click", restore);
    part("controls").replaceChildren(...made.filter((child) => child !== null), reset);
  }

  // Everything back to what qkvcli computed.
  function restore() {
    Object.assign(options, { scale: asked.scale, causal: asked.causal });
    for (const side of ["query", "key", "value"]) made[side] = unpacked(data[side]);
    edited = false;
    controls();
    changed();
    inputs();
  }

  // ---- Q, K and V, to be edited where they are small -------------------------------------------

  // Q and K that were normed or turned are edited as they are after that.
  const entering = Object.values(data.madeBy).some((told) => told.includes("→"))
    ? " (Q and K as they enter the dot product)"
    : "";
  const SMALL = { tokens: 12, width: 16 };
  const SIDES = [
    ["query", "Q", "q"],
    ["key", "K", "k"],
    ["value", "V", "v"],
  ];

  function inputs() {
    const small = Math.max(QUERIES, KEYS) <= SMALL.tokens;
    const sides = SIDES.filter(([side]) => made[side] !== null);
    const details = part("inputs");
    details.hidden =
      !small || !sides.length || sides.some(([side]) => made[side].shape.at(-1) > SMALL.width);
    if (details.hidden) return;
    const names = sides.map(([, letter]) => letter);
    const said =
      names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0];
    const summary = element(
      "summary",
      {},
      `${said}${titled(state.place) && ` of ${titled(state.place)}`}${entering}: change a number, and all is computed anew`,
    );
    details.replaceChildren(summary, element("div", { class: "sides" }, sides.map(editable)));
  }

  function editable([side, letter, small]) {
    const { shape } = made[side],
      [rows, width] = shape.slice(-2);
    const kind = side === "query" ? "query" : "key";
    const column = (c) => (side === "value" ? valueColumn(c) : columnName(c));
    const lines = Array.from({ length: rows }, (_, i) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, bdi(nameOf(kind, i))),
        Array.from({ length: width }, (_, c) =>
          element(
            "td",
            {},
            field(
              side,
              i,
              c,
              `${small}(${isolated(nameOf(kind, i))}), column ${isolated(column(c))}`,
            ),
          ),
        ),
      ),
    );
    return element(
      "table",
      { "data-side": side },
      element("caption", {}, `${letter} (${rows}, ${width})`, sharing(side)),
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          element("td", {}),
          Array.from({ length: width }, (_, c) => element("th", { scope: "col" }, bdi(column(c)))),
        ),
      ),
      element("tbody", {}, lines),
    );
  }

  // "0–2", or "0, 4, 8" where they do not follow each other.
  function listed(numbers) {
    const [first, last] = [numbers[0], numbers.at(-1)];
    const follow = numbers.length > 2 && numbers.every((n, i) => n === first + i);
    return follow ? `${first}–${last}` : numbers.join(", ");
  }

  // Which other heads and batches have the same matrix: they change with it.
  function sharing(side) {
    const own = begin(made[side], state.place, data.groups[side] ?? 1);
    const last = data.leading.length - 1;
    const shared = data.leading.flatMap(({ kind, numbers }, axis) => {
      const alike = numbers.filter((_, i) => {
        const place = state.place.map((n, other) => (other === axis ? i : n));
        return begin(made[side], place, data.groups[side] ?? 1) === own;
      });
      if (alike.length < 2) return [];
      const name = axis < last - 1 ? `axis ${axis}:` : kind === "head" ? "heads" : "batches";
      return [`${name} ${listed(alike)}`];
    });
    return shared.length ? element("small", {}, ` shared by ${shared.join(" and ")}`) : null;
  }

  // A decimal number as people write it; NaN for all else, such as 0x10.
  function typed(text) {
    const plain = text.trim().replace("−", "-").replace(",", ".");
    return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(plain) ? Number(plain) : NaN;
  }

  function field(side, i, c, label) {
    const { numbers, shape } = made[side];
    const at = begin(made[side], state.place, data.groups[side] ?? 1) + i * shape.at(-1) + c;
    const text = (value) =>
      String(numbers instanceof Float32Array ? Number(value.toPrecision(7)) : value);
    const input = element("input", {
      type: "text",
      inputmode: "decimal",
      size: 6,
      value: text(numbers[at]),
      "aria-label": label,
    });
    const fault = element("span", { class: "fault", role: "alert" });
    input.addEventListener("input", () => {
      const value = typed(input.value);
      const bad = !Number.isFinite(value);
      input.setAttribute("aria-invalid", bad);
      fault.textContent = bad ? `not a number; ${text(numbers[at])} is still used` : "";
      if (bad) return;
      numbers[at] = value;
      edited = true;
      changed();
    });
    return [input, fault];
  }

  // ---- Paper: every step, each on a page of its own --------------------------------------------

  // A heat map that fits, with the cell that is explained.
  function onSheet(step) {
    const map = heatMap(step, state.place);
    const column = isMixed(step) ? clamp(state.column, widthOf(step)) : state.key;
    const cell = map.querySelector(`[data-row="${state.query}"][data-column="${column}"]`);
    cell?.setAttribute("aria-selected", "true");
    const marker = map.querySelector(".marker");
    if (marker !== null) put(marker, matrix(state.place, step), column);
    const columns = widthOf(step);
    if (columns > 8) map.firstElementChild.classList.add("endless");
    if (columns > 12) map.firstElementChild.classList.add("tight");
    return map;
  }

  function put(marker, found, column) {
    marker.style.left = `${((column + 0.5) / found.columns) * 100}%`;
    marker.style.top = `${((state.query + 0.5) / found.rows) * 100}%`;
  }

  function onPaper() {
    const found = explained(state.place, state.query, state.key);
    showAll();
    printed = true;
    part("print").replaceChildren(
      ...steps().map((step) => {
        const column = isMixed(step) ? clamp(state.column, widthOf(step)) : null;
        const told = tell(found, step, column);
        const looked = partOf(step);
        const kept = told.filter(
          (child) => child.tagName === "H2" || child.dataset.part === looked,
        );
        return element(
          "section",
          { class: "sheet" },
          element("p", { class: "hint" }, `${document.title}: ${wholeFormula()}`),
          element("h2", {}, titled(state.place, ": "), stepTitle(step)),
          line(data.about[step]),
          element("div", { class: "legend" }, legend(step, state.place)),
          onSheet(step),
          element("div", { class: "told" }, kept),
        );
      }),
    );
    printed = false;
  }

  // ---- Begin -----------------------------------------------------------------------------------

  // Another width, or a frame that opens: what fits is decided anew.
  function watch() {
    let width = document.documentElement.clientWidth,
      timer = 0;
    const refit = () => {
      const had = part("heat").contains(document.activeElement);
      silent = true;
      draw();
      if (had) (part("heat").querySelector('[tabindex="0"]') ?? marked()).focus({ preventScroll: true });
      silent = false;
    };
    const observed = () => {
      const now = document.documentElement.clientWidth;
      if (now === width) return;
      width = now;
      clearTimeout(timer);
      timer = setTimeout(refit, PAUSE);
    };
    new ResizeObserver(observed).observe(document.documentElement);
    addEventListener("resize", () => {
      bound();
      aim();
    });
    addEventListener("scroll", bound, { passive: true });
  }

  const PAUSE = 100; // milliseconds

  function start() {
    document.body.classList.toggle("wide", wantsRoom());
    part("static").hidden = true;
    part("lesson").hidden = false;
    state.step = hasWeights && steps().includes("weights") ? "weights" : steps().at(-1);
    recall();
    const linked = /[#&][qk]=/.test(location.hash);
    if (!linked) begins();
    document.documentElement.classList.add("computes");
    controls();
    check();
    draw();
    inputs();
    if (linked) uncover(marked(), true);
    part("heat").addEventListener("click", clicked);
    part("heat").addEventListener("pointermove", hovered);
    part("heat").addEventListener("pointerleave", hovered);
    part("steps").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button === null) return;
      state.step = button.dataset.step;
      draw();
      move(event.detail > 0);
      if (!event.detail) part("steps").querySelector('[aria-current="step"]').focus();
    });
    document.addEventListener("keydown", pressed);
    addEventListener("hashchange", () => {
      silent = true;
      recall();
      draw();
      inputs();
      silent = false;
      if (/[#&][qk]=/.test(location.hash)) uncover(marked(), true);
    });
    addEventListener("beforeprint", onPaper);
    addEventListener("afterprint", () => part("print").replaceChildren());
    watch();
  }

  start();
}

try {
  lesson();
} catch (fault) {
  // what qkvcli wrote stays readable
  const told = document.createElement("p");
  told.className = "wrong";
  told.textContent = `This browser cannot compute the page (${fault.message}); here is what qkvcli computed.`;
  document.getElementById("static").prepend(told);
  document.getElementById("static").hidden = false;
  document.getElementById("lesson").hidden = true;
  document.documentElement.classList.remove("computes");
  throw fault;
}
