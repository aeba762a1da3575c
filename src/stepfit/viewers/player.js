// player.js: draws a trace, plays it and answers a drag; the only code of stepfit that draws in a browser.
//
// A frame is a pure function of (run, position), so that scrubbing and going back are free. k-means has half steps: frame
// 0 shows the first centers, then come assignment, update, assignment, ...; everything else has one frame a step.
// The same file serves every host: a page (mountAll), a Streamlit component and an anywidget (both the default export).

// The trace

const TYPES = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };

/** Give a trace with its packed arrays as typed arrays: below, this is called a run. */
export async function unpack(trace) {
  const packed = Uint8Array.from(atob(trace.data), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = await new Response(stream).arrayBuffer();
  const run = { ...trace, data: null };
  let at = 0;
  for (const [name, type, shape, divisor] of trace.arrays) {
    const size = shape.reduce((a, b) => a * b, 1) * TYPES[type].BYTES_PER_ELEMENT;
    const values = new TYPES[type](bytes.slice(at, (at += size)));
    const row = values.length / shape[0];
    if (type[0] === "u" && shape.length > 1) for (let i = row; i < values.length; i++) values[i] += values[i - row];
    run[name] = divisor > 1 ? Float64Array.from(values, (value) => value / divisor) : values;
  }
  return run;
}

const isDescent = (run) => run.kind === "descent";
const isClusters = (run) => run.kind === "kmeans" || run.kind === "wall";
/** How many frames there are; a run with a mark ends at it. The answer of mini-batches is their last update. */
export const frames = (run) => {
  if (run.mark) return run.mark.frame + 1;
  return isClusters(run) ? 2 * run.losses.length + (run.dims.b ? 1 : 0) : run.losses.length;
};

/** What frame i shows: its kind, the step of its labels or parameters, and the step of its centers. */
export function frameAt(run, i) {
  if (!isClusters(run)) return { kind: i ? "step" : "start", step: i };
  return { kind: i ? (i % 2 ? "assign" : "update") : "start", step: Math.floor((i - 1) / 2), centers: Math.floor(i / 2) };
}

// The twin: what stepfit computes, in small, so that a drag is answered at once

/** k-means on x = [x0, y0, x1, y1, ...] from these centers, step for step as stepfit.lloyd. */
export function kmeans(x, start, { empty, max_steps }, dtype) {
  const n = x.length / 2, k = start.length / 2, round = dtype === "float32" ? Math.fround : Number, steps = [];
  let centers = Float64Array.from(start, (value) => round(value)), last = new Int32Array(n).fill(-1);
  for (let stop = ""; !stop; ) {
    const labels = new Uint16Array(n), far = new Float64Array(n), sums = new Float64Array(2 * k), counts = new Int32Array(k);
    let loss = 0, changed = 0;
    for (let i = 0; i < n; i++) {
      let nearest = 0, least = Infinity;
      for (let j = 0; j < k; j++) {
        const dx = x[2 * i] - centers[2 * j], dy = x[2 * i + 1] - centers[2 * j + 1], distance = dx * dx + dy * dy;
        if (distance >= least) continue;
        (nearest = j), (least = distance);
        if (Number.isNaN(distance)) break; // NaN counts as nearest, as in torch.argmin
      }
      (labels[i] = nearest), (far[i] = least), (loss += least), (changed += nearest !== last[i]);
      counts[nearest]++, (sums[2 * nearest] += x[2 * i]), (sums[2 * nearest + 1] += x[2 * i + 1]);
    }
    const empties = [...counts.keys()].filter((j) => !counts[j]);
    let moved = [];
    if (empties.length && empty === "farthest") {
      moved = [...far.keys()].sort((a, b) => far[b] - far[a] || a - b).slice(0, empties.length);
      if (far[moved[0]] === 0) moved = [];
    }
    moved.forEach((i, e) => {
      for (const [j, sign] of [[labels[i], -1], [empties[e], 1]]) {
        (counts[j] += sign), (sums[2 * j] += sign * x[2 * i]), (sums[2 * j + 1] += sign * x[2 * i + 1]);
      }
    });
    if (!changed && !moved.length) stop = "CONVERGED";
    else if (steps.length + 1 >= max_steps) stop = "MAX_STEPS";
    const became = (e) => (empty === "nan" ? "became NaN" : moved.length ? `moved to point ${moved[e]}` : "stays");
    const events = empties.map((j, e) => `cluster ${j} was empty; its center ${became(e)}`);
    steps.push({ centers, labels, loss, changed, events, stop });
    last = labels;
    // A donor may have given its only point: it keeps its center.
    centers = sums.map((sum, c) => (counts[c >> 1] ? round(sum / counts[c >> 1]) : empty === "nan" ? NaN : centers[c]));
  }
  return { ...columns(steps), centers: flat(Float64Array, steps, "centers"), labels: flat(Uint16Array, steps, "labels") };
}

/** Gradient descent with all rows at each step from params = [w1, w2, bias], as stepfit.descend. */
export function descend({ x, y, x_test, y_test }, start, { loss, lr, momentum, max_steps }, dtype) {
  const n = y.length, round = dtype === "float32" ? Math.fround : Number, mse = loss === "MSELoss", steps = [];
  let next = Float64Array.from(start, (value) => round(value)), velocity = new Float64Array(3);
  for (let stop = ""; !stop; ) {
    const params = next, grad = new Float64Array(3);
    for (let i = 0; i < n; i++) {
      const out = output(x, i, params), slope = (mse ? 2 * (out - y[i]) : 1 / (1 + Math.exp(-out)) - y[i]) / n;
      (grad[0] += slope * x[2 * i]), (grad[1] += slope * x[2 * i + 1]), (grad[2] += slope);
    }
    velocity = velocity.map((v, c) => round(momentum * v + grad[c]));
    next = params.map((p, c) => round(p - lr * velocity[c]));
    const value = meanLoss(x, y, params, mse), first = steps.length ? steps[0].loss : value;
    if (!Number.isFinite(value) || value > 1000 * first) stop = "DIVERGED";
    else if (!grad.some(Boolean) && next.every((p, c) => p === params[c])) stop = "CONVERGED";
    else if (steps.length + 1 >= max_steps) stop = "MAX_STEPS";
    const events = stop === "DIVERGED" ? [`the loss went from ${num(first)} to ${num(value)}`] : [];
    const train_accuracy = accuracy(x, y, params, mse), test_accuracy = x_test && accuracy(x_test, y_test, params, mse);
    steps.push({ params, loss: value, train_accuracy, test_accuracy, events, stop });
  }
  const metrics = x_test ? { test_accuracy: column(steps, "test_accuracy") } : {};
  metrics.train_accuracy = column(steps, "train_accuracy");
  return { ...columns(steps), params: flat(Float64Array, steps, "params"), metrics };
}

const output = (x, i, [w1, w2, b]) => w1 * x[2 * i] + w2 * x[2 * i + 1] + b;

/** Mean loss at params: squared error, or cross-entropy with logits where `mse` is false. */
export function meanLoss(x, y, params, mse) {
  return y.reduce((sum, target, i) => {
    const out = output(x, i, params);
    return sum + (mse ? (out - target) ** 2 : Math.max(out, 0) - target * out + Math.log1p(Math.exp(-Math.abs(out))));
  }, 0) / y.length;
}

const accuracy = (x, y, params, mse) =>
  y.reduce((right, target, i) => right + (output(x, i, params) > (mse ? 0.5 : 0) === target > 0), 0) / y.length;
const column = (steps, name) => steps.map((step) => step[name]);
function columns(steps) {
  const [losses, changed, events] = ["loss", "changed", "events"].map((name) => column(steps, name));
  return { losses, changed, events, index: [...steps.keys()], stop: steps.at(-1).stop };
}
function flat(Type, steps, name) {
  const row = steps[0][name].length, all = new Type(row * steps.length);
  steps.forEach((step, i) => all.set(step[name], i * row));
  return all;
}

// Geometry

/** The part of a polygon where a x + b y <= c. */
function clip(polygon, a, b, c) {
  const over = ([x, y]) => a * x + b * y - c;
  return polygon.flatMap((p, i) => {
    const q = polygon[(i + 1) % polygon.length], before = over(p), after = over(q), kept = before <= 0 ? [p] : [];
    if (before * after < 0) kept.push(p.map((value, axis) => value + ((q[axis] - value) * before) / (before - after)));
    return kept;
  });
}

const corners = ([left, bottom, right, top]) => [[left, bottom], [right, bottom], [right, top], [left, top]];

/** The region of each center within a box, exactly: the box, cut half-way to every other center. */
export function regions(centers, box) {
  const all = pairs(centers), lost = all.findIndex(([x]) => Number.isNaN(x));
  return all.map(([x, y], j) => {
    if (lost >= 0) return j === lost ? corners(box) : []; // NaN counts as nearest, everywhere
    return all.reduce((polygon, [u, v], i) => {
      if (u === x && v === y) return i < j ? [] : polygon; // of two in one place the first wins
      return clip(polygon, u - x, v - y, (u * u + v * v - x * x - y * y) / 2);
    }, corners(box));
  });
}

const numbered = (count, make) => Array.from({ length: count }, (_, j) => make(j));
const pairs = (flat) => numbered(flat.length / 2, (j) => [flat[2 * j], flat[2 * j + 1]]);
const mix = (a, b, part) => a.map((value, i) => value + (b[i] - value) * part);

/** Round numbers between low and high. */
function ticks(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((times) => times * power >= rough), first = Math.ceil(low / step);
  return numbered(Math.floor(high / step) - first + 1, (i) => +((first + i) * step).toPrecision(6));
}

const ring = (count, ...radii) => numbered(count, (i) => {
  const angle = (2 * Math.PI * i) / count - Math.PI / 2, r = radii[i % radii.length];
  return [r * Math.cos(angle), r * Math.sin(angle)];
});
const SHAPES = {
  square: [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
  triangle: ring(3, 1.25), diamond: ring(4, 1.25), star: ring(10, 1.4, 0.6), hexagon: ring(6, 1.1),
  down: ring(3, 1.25).map(([x, y]) => [x, -y]),
  cross: ring(4, 1).flatMap(([x, y]) => [[x + y * 0.4, y - x * 0.4], [x - y * 0.4, y + x * 0.4], [(x - y) * 0.4, (y + x) * 0.4]]),
};

// Color

export function contrast(a, b) {
  const light = (color) => color.reduce((sum, value, i) => {
    const part = value / 255;
    return sum + [0.2126, 0.7152, 0.0722][i] * (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  }, 0.05);
  return Math.max(light(a), light(b)) / Math.min(light(a), light(b));
}
/** The color, moved towards that of the text until it stands out from all grounds. */
export function ink(color, grounds, text, ratio = 3) {
  let part = 0;
  while (part < 1 && grounds.some((ground) => contrast(mix(color, text, part), ground) < ratio)) part += 0.05;
  return mix(color, text, part);
}
export const tint = (color, back) => mix(back, color, 0.13);
const css = (color) => `rgb(${color.map(Math.round).join(" ")})`;
const fromHex = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

let pixel; // painted on to read a CSS color in any notation, over those below it
function readColor(...layers) {
  pixel ??= new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  for (pixel.fillStyle of ["#fff", ...layers]) pixel.fillRect(0, 0, 1, 1);
  return [...pixel.getImageData(0, 0, 1, 1).data].slice(0, 3);
}

// Words

/** A number for people: four digits, a true minus. */
export function num(value) {
  if (value === null || Number.isNaN(value)) return "not a number";
  const size = Math.abs(value);
  if (size === Infinity) return "infinite";
  const text = size >= 1e9 || (size && size < 1e-4) ? value.toExponential(2).replace("e+", "e") : +value.toPrecision(4);
  return (size >= 1000 && size < 1e9 ? many(Math.round(value)) : `${text}`).replace("-", "−");
}
const many = (count) => count.toLocaleString("en-US");
const percent = (part) => (part === null ? num(part) : `${num(100 * part)}%`);
const capital = (text) => text[0].toUpperCase() + text.slice(1);
const NAMES = { test_accuracy: "test accuracy", train_accuracy: "training accuracy", test_loss: "test loss", train_loss: "training loss" };
/** What is told of each step: the curves take the first, and the first share of 1. */
function series(run) {
  const of = (name, values, show, share) => ({ name, values, show, share });
  if (isClusters(run)) return run.changed ? [of("inertia", run.losses, num), of("changed", run.changed, many)] : [of("loss", run.losses, num)];
  const share = (name) => name.endsWith("accuracy");
  const rates = Object.entries(run.metrics).map(([name, values]) => of(NAMES[name] ?? name, values, share(name) ? percent : num, share(name)));
  if (!isDescent(run)) return [of(run.loss_name, run.losses, num), ...rates];
  const params = ["w1", "w2", "bias"].map((name, c) => of(name, run.params.filter((_, i) => i % 3 === c), num));
  return [of("loss", run.losses, num), ...rates, ...params];
}
const PARTS = { assign: "assignment", update: "update" };

/** Name frame i in two or three words. */
export function title(run, i) {
  const { kind, step } = frameAt(run, i);
  return step < 0 ? "Start" : `Step ${run.index[step]}${PARTS[kind] ? `, ${PARTS[kind]}` : ""}`;
}

/** Say in a sentence or two what frame i shows. */
export function sentence(run, i) {
  const { kind, step } = frameAt(run, i), { n, k } = run.dims;
  if (i === run.mark?.frame) return run.mark.words;
  const said = (texts) => texts.map((text) => ` ${capital(text)}.`).join(""), happened = said(run.events[step] ?? []);
  const ended = step === run.losses.length - 1 ? said([run.stops[run.stop]]) : "";
  if (!isClusters(run)) {
    const facts = series(run).map(({ name, values, show }) => `${name} ${show(values[step])}`);
    return `${capital(facts.join(", "))}.${happened}${ended}`;
  }
  const what = run.kind === "wall" ? "image" : "point", changed = run.changed?.[step];
  if (kind === "start") return `${k} centers are placed; no ${what} belongs to one yet.`;
  const b = run.dims.b, last = ended && `${happened}${ended}`;
  if (kind === "update") return `Each center moves ${b ? `towards its ${what}s of the batch` : `to the mean of its ${what}s`}.${b ? last || happened : happened}`;
  if (b) return `Each of the ${many(b)} ${what}s of the batch joins its nearest center. Loss ${num(run.losses[step])}.`;
  const who = step ? `${many(changed)} of ${many(n)} ${changed === 1 ? "changes" : "change"}` : `all ${many(n)} for the first time`;
  const right = run.agree && rowAt(run.agree, step, k).reduce((a, b) => a + b) / n;
  const alike = right ? ` ${percent(right)} show what most of their cluster show.` : "";
  return `Each ${what} joins its nearest center: ${who}. Inertia ${num(run.losses[step])}.${alike}${ended}`;
}

// Drawing: each function paints one canvas for (run, position)

const rowAt = (values, row, size) => values.subarray(row * size, (row + 1) * size);
/** A move begins late in its frame, so that there is time to look. */
const eased = (t) => ((u) => u * u * (3 - 2 * u))(Math.max(0, (t - 0.4) / 0.6));

export function centersAt(run, position) {
  const i = Math.floor(position), at = (frame) => rowAt(run.centers, frameAt(run, frame).centers, 2 * run.dims.k);
  return position > i ? mix(at(i), at(i + 1), eased(position - i)) : at(i);
}
export function paramsAt(run, position) {
  const i = Math.floor(position);
  return position > i ? mix(rowAt(run.params, i, 3), rowAt(run.params, i + 1, 3), position - i) : rowAt(run.params, i, 3);
}

/** A canvas as sharp as the screen, cleared, and measured in CSS pixels. */
function paper(canvas) {
  const scale = devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight, ctx = canvas.getContext("2d");
  (canvas.width = Math.round(w * scale)), (canvas.height = Math.round(h * scale));
  ctx.scale(scale, scale);
  ctx.font = "11.5px system-ui, sans-serif";
  ctx.lineJoin = ctx.lineCap = "round";
  return { ctx, w, h, scale };
}
function stroke(ctx, color, width, dash = []) {
  (ctx.strokeStyle = color), (ctx.lineWidth = width);
  ctx.setLineDash(dash);
  ctx.stroke();
}
function fill(ctx, color) {
  ctx.fillStyle = color;
  ctx.fill();
}
/** Begin a path through places on the canvas; over the NaN of a lost center it goes straight on. */
function trail(ctx, places) {
  ctx.beginPath();
  for (const [u, v] of places) Number.isNaN(u + v) || ctx.lineTo(u, v);
}
function circle(ctx, u, v, r) {
  ctx.beginPath();
  ctx.arc(u, v, r, 0, 7);
}
function write(ctx, color, text, u, v, align = "center", baseline = "middle") {
  (ctx.fillStyle = color), (ctx.textAlign = align), (ctx.textBaseline = baseline);
  ctx.fillText(text, u, v);
}
function mark(path, shape, u, v, r) {
  if (!SHAPES[shape]) return path.moveTo(u + r, v), path.arc(u, v, r, 0, 7);
  SHAPES[shape].forEach(([dx, dy], i) => path[i ? "lineTo" : "moveTo"](u + r * dx, v + r * dy));
  path.closePath();
}

/** Map a box to the canvas with equal units on both axes: unequal ones would bend distances and borders. */
function mapping([x0, y0, x1, y1], canvas) {
  const left = 34, top = 8, right = canvas.clientWidth - 8, bottom = canvas.clientHeight - 22;
  const width = right - left, height = bottom - top, unit = Math.min(width / (x1 - x0), height / (y1 - y0));
  const cx = (x0 + x1) / 2, cy = (y0 + y1) / 2, mx = left + width / 2, my = top + height / 2;
  const within = (value, low, high) => Math.min(high, Math.max(low, value));
  return {
    left, top, right, bottom, width, height, unit,
    box: [cx - width / 2 / unit, cy - height / 2 / unit, cx + width / 2 / unit, cy + height / 2 / unit],
    to: ([x, y]) => [mx + (x - cx) * unit, my - (y - cy) * unit],
    from: ([u, v]) => [cx + (within(u, left, right) - mx) / unit, cy - (within(v, top, bottom) - my) / unit],
    /** What lies outside is brought to the rim, on the line to the middle. */
    near: ([u, v]) => mix([mx, my], [u, v], Math.min(1, width / 2 / Math.abs(u - mx), height / 2 / Math.abs(v - my))),
  };
}

/** Draw within the frame of a map, and then the frame and its ticks. */
function framed(ctx, map, theme, inside) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(map.left, map.top, map.width, map.height);
  ctx.clip();
  inside();
  ctx.restore();
  const [x0, y0, x1, y1] = map.box;
  for (const x of ticks(x0, x1, map.width / 70)) write(ctx, theme.soft, num(x), map.to([x, 0])[0], map.bottom + 6, "center", "top");
  for (const y of ticks(y0, y1, map.height / 60)) write(ctx, theme.soft, num(y), map.left - 6, map.to([0, y])[1], "right");
  ctx.beginPath();
  ctx.rect(map.left, map.top, map.width, map.height);
  stroke(ctx, theme.line, 1);
}

function paintRegion(ctx, map, polygon, color, border) {
  trail(ctx, polygon.map(map.to));
  ctx.closePath();
  fill(ctx, color);
  if (border) stroke(ctx, border, 1);
}

/** Paint points in the color and shape of their group, -1 being nobody's; `odd` ones have a ring, or are hollow. */
function points(ctx, map, run, theme, groupOf, odd, hollow) {
  const paths = new Map(), rings = new Path2D(), n = run.dims.n, r = n <= 150 ? 4.2 : n <= 800 ? 3.2 : n <= 2500 ? 2.6 : 1.9;
  for (let i = 0; i < n; i++) {
    const group = groupOf(i), [u, v] = map.to([run.x[2 * i], run.x[2 * i + 1]]), key = hollow && odd(i) ? `${group} hollow` : group;
    if (!paths.has(key)) paths.set(key, new Path2D());
    mark(paths.get(key), theme.shape(group), u, v, r);
    if (!hollow && odd(i)) mark(rings, "circle", u, v, r + 2.2);
  }
  for (const [key, path] of paths) {
    (ctx.fillStyle = key === parseInt(key) ? theme.fill(key) : theme.back), (ctx.strokeStyle = theme.ink(parseInt(key)));
    ctx.lineWidth = key === parseInt(key) ? 0.9 : 1.6;
    ctx.fill(path);
    ctx.stroke(path);
  }
  (ctx.strokeStyle = theme.text), (ctx.lineWidth = 1.1);
  ctx.stroke(rings);
}

function drawPlane(canvas, run, position, theme, view) {
  const { ctx, w, h, scale } = paper(canvas), map = mapping(run.box, canvas), moving = centersAt(run, position);
  const i = Math.floor(position), { kind, step, centers } = frameAt(run, i), { n, k } = run.dims;
  const labels = step < 0 ? [] : rowAt(run.labels, step, n), before = rowAt(run.labels, step - 1, n);
  const mark = i === run.mark?.frame ? run.mark : { points: [], centers: [] };
  const few = !mark.words && kind === "assign" && step && 4 * run.changed?.[step] <= n; // more rings would hide the points
  const dots = (on) => points(on, map, run, theme, (p) => (labels[p] < k ? labels[p] : -1), (p) => few && labels[p] !== before[p]);
  framed(ctx, map, theme, () => {
    // The regions are those of the labels: after an update they stay until the next assignment.
    const shapes = step < 0 ? [] : regions(rowAt(run.centers, step, 2 * k), map.box);
    shapes.forEach((region, j) => paintRegion(ctx, map, region, theme.tint(j), theme.border));
    if (n <= 1000) dots(ctx);
    else {
      // Many points are painted once for each frame, and then copied.
      const key = [i, w, h, scale, theme.key].join();
      if (view.run !== run || view.key !== key) {
        Object.assign(view, { run, key, image: new OffscreenCanvas(canvas.width, canvas.height) });
        const on = view.image.getContext("2d");
        on.scale(scale, scale);
        dots(on);
      }
      ctx.drawImage(view.image, 0, 0, w, h);
    }
    // The way of each center so far, thin, and its last move, strong.
    const way = numbered(centers + 1, (s) => rowAt(run.centers, s, 2 * k));
    for (let j = 0; j < k; j++) {
      const places = [...way, moving].map((row) => map.to([row[2 * j], row[2 * j + 1]]));
      trail(ctx, places);
      stroke(ctx, theme.ink(j), 1.2);
      trail(ctx, places.slice(kind === "update" ? centers - 1 : centers));
      stroke(ctx, theme.ink(j), 3.5);
    }
  });
  ctx.font = "600 12px system-ui, sans-serif";
  const disc = (j, u, v, dash) => {
    circle(ctx, u, v, 10.5);
    fill(ctx, theme.back);
    stroke(ctx, theme.ink(j), 3, dash);
    write(ctx, theme.text, j, u, v + 0.5);
  };
  // What is marked: around a point a ring in the color of its right label, dashed the right place of a center.
  for (const [p, label] of mark.points) {
    const [u, v] = map.to([run.x[2 * p], run.x[2 * p + 1]]);
    circle(ctx, u, v, 8);
    stroke(ctx, theme.ink(label), 2.5);
    if (mark.points.length < 25) write(ctx, theme.text, label, u + 10, v - 9, "left");
  }
  for (const [j, ...right] of mark.centers) {
    trail(ctx, [map.to(right), map.near(map.to([moving[2 * j], moving[2 * j + 1]]))]);
    stroke(ctx, theme.text, 1.5, [2, 5]);
    disc(j, ...map.to(right), [3, 5]);
  }
  let lost = 0;
  for (let j = k - 1; j >= 0; j--) {
    const gone = Number.isNaN(moving[2 * j]); // parked in the corner, as it is nowhere
    const place = gone ? [map.right - 18 - 28 * lost++, map.top + 36] : map.to([moving[2 * j], moving[2 * j + 1]]);
    const [u, v] = map.near(place);
    disc(j, u, v, gone ? [3, 5] : []);
    circle(ctx, u, v, 15);
    if (j === view.chosen) stroke(ctx, theme.text, 1.5);
  }
  if (lost) write(ctx, theme.text, "NaN, nowhere:", map.right - 8, map.top + 14, "right");
}

function drawLine(canvas, run, position, theme) {
  const { ctx } = paper(canvas), map = mapping(run.box, canvas), [w1, w2, b] = paramsAt(run, position), c = run.threshold - b;
  framed(ctx, map, theme, () => {
    const known = Number.isFinite(w1 + w2 + c), whole = corners(map.box), long = Math.hypot(w1, w2);
    if (known) paintRegion(ctx, map, clip(whole, w1, w2, c), theme.tint(0));
    if (known) paintRegion(ctx, map, clip(whole, -w1, -w2, -c).filter(() => long || c < 0), theme.tint(1)); // where > c
    const wrong = (i) => known && output(run.x, i, [w1, w2, -c]) > 0 !== run.y[i] > 0;
    points(ctx, map, run, theme, (i) => run.y[i], wrong, true);
    if (!known || !long) return;
    // Through the point of the line nearest to the middle of the box, both ways beyond its rim.
    const [x, y] = mix(whole[0], whole[2], 0.5), off = (c - w1 * x - w2 * y) / long / long;
    const reach = (map.width + map.height) / map.unit / long;
    const end = (way) => map.to([x + w1 * off - w2 * way, y + w2 * off + w1 * way]);
    trail(ctx, [end(reach), end(-reach)]);
    stroke(ctx, theme.back, 5.5);
    stroke(ctx, theme.text, 2.2);
  });
}

/** Curves over the steps: the past strong, the future faint; the loss on the left scale, a share of 1 on the right. */
function drawCurves(canvas, curves, run, position, theme, hover) {
  const { ctx, w, h } = paper(canvas), left = 54, right = w - (curves[1] ? 40 : 10), top = 10, bottom = h - 22;
  const last = run.losses.length - 1, X = (s) => left + (s / (last || 1)) * (right - left);
  const done = hover ?? (isClusters(run) ? Math.min(last, (position - 1) / 2) : position);
  for (const { values, color, dash, share } of curves) {
    const real = values.filter(Number.isFinite), low = share ? 0 : Math.min(...real), high = share ? 1 : Math.max(...real);
    // What is not finite touches the ceiling.
    const Y = (value) => (Number.isFinite(value) ? bottom - ((value - low) / (high - low || 1)) * (bottom - top) : top);
    const line = (alpha, thick, until) => {
      ctx.save();
      ctx.beginPath();
      ctx.rect(0, 0, until, h);
      ctx.clip();
      ctx.globalAlpha = alpha;
      trail(ctx, values.map((value, s) => [X(s), Y(value)]));
      stroke(ctx, color, thick, dash);
      ctx.restore();
    };
    line(0.85, 1.3, w); // what is ahead: thinner, and hardly paler, for orange has to keep 3 to 1 against the paper
    if (done >= 0) {
      line(1, 2.4, X(done));
      const s = Math.floor(done);
      ctx.beginPath();
      mark(ctx, share ? "square" : "circle", X(done), mix([Y(values[s])], [Y(values[Math.min(last, s + 1)])], done - s)[0], 4.5);
      fill(ctx, color);
      stroke(ctx, theme.back, 1.5);
    }
    const [side, align] = share ? [right + 7, "left"] : [left - 7, "right"];
    write(ctx, theme.soft, share ? "100%" : num(high), side, top, align);
    if (high > low) write(ctx, theme.soft, share ? "0%" : num(low), side, bottom, align);
  }
  ctx.beginPath();
  ctx.rect(left, top - 5, right - left, bottom - top + 10);
  stroke(ctx, theme.line, 1);
  write(ctx, theme.soft, `step ${run.index[0]}`, left, bottom + 9, "left", "top");
  if (last) write(ctx, theme.soft, run.index[last], right, bottom + 9, "right", "top");
  return (u) => Math.min(last, Math.max(0, Math.round(((u - left) / (right - left)) * last))); // the step at a place
}

/** The loss over both weights in bands, dark where it is high, with the way of the run. */
function drawSurface(canvas, run, position, theme, view) {
  const { ctx, scale } = paper(canvas), map = mapping(run.surface, canvas), key = [run.id, map.width, scale, theme.key].join();
  if (view.groundKey !== key) (view.groundKey = key), (view.ground = bands(run, map, scale, theme));
  framed(ctx, map, theme, () => {
    ctx.drawImage(view.ground, map.left, map.top, map.width, map.height);
    const way = pairs(run.params.filter((_, c) => c % 3 < 2)).map(map.to), here = map.to(paramsAt(run, position));
    for (const [places, alpha] of [[way, 0.65], [[...way.slice(0, position + 1), here], 1]]) {
      ctx.globalAlpha = alpha;
      trail(ctx, places);
      stroke(ctx, theme.back, 5.5);
      stroke(ctx, theme.path, 2.2);
    }
    for (const [[u, v], color] of [[way[0], theme.back], [here, theme.path]]) {
      circle(ctx, u, v, 5);
      stroke(ctx, theme.back, 6);
      fill(ctx, color);
      stroke(ctx, theme.path, 2);
    }
  });
}

function bands(run, map, scale, theme) {
  const [width, height] = [map.width, map.height].map((size) => Math.ceil(size * scale)), image = new ImageData(width, height);
  const [x0, y0, x1, y1] = run.surface, z = run.heights, size = Math.sqrt(z.length), count = 14;
  const shades = numbered(count, (band) => [...theme.shade(0.03 + (0.5 * band) / count), 255]);
  const grid = (value, low, high) => Math.min(size - 1.001, Math.max(0, ((value - low) / (high - low)) * (size - 1)));
  for (let p = 0; p < width * height; p++) {
    const [x, y] = map.from([map.left + (p % width) / scale, map.top + Math.floor(p / width) / scale]);
    const gx = grid(x, x0, x1), gy = grid(y, y0, y1);
    const i = Math.floor(gy) * size + Math.floor(gx), a = gx % 1; // between the values of the grid by straight lines
    const value = (z[i] * (1 - a) + z[i + 1] * a) * (1 - (gy % 1)) + (z[i + size] * (1 - a) + z[i + size + 1] * a) * (gy % 1);
    image.data.set(shades[Math.floor((value / 256) * count)], 4 * p);
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function drawWall(tiles, run, position, theme) {
  const i = Math.floor(position), { k, d } = run.dims, { side, grays } = run, t = eased(position - i);
  const at = (frame, j) => rowAt(run.centers, frameAt(run, frame).centers * k + j, d);
  const shades = numbered(grays, (gray) => [...theme.shade(gray / (grays - 1)), 255]);
  tiles.forEach(({ canvas }, j) => {
    const now = at(i, j), next = t ? at(i + 1, j) : now, image = new ImageData(side, side);
    for (let p = 0; p < d; p++) {
      // A lost center, 255, is hatched.
      const gray = now[p] === 255 ? ((p + Math.floor(p / side)) % 4 ? 0 : grays / 3) : now[p] + (next[p] - now[p]) * t;
      image.data.set(shades[Math.min(grays - 1, Math.round(gray))], 4 * p);
    }
    canvas.width = canvas.height = side;
    canvas.getContext("2d").putImageData(image, 0, 0);
  });
}

// The page's part of it

const STYLE = `
@media (prefers-color-scheme:dark){.stepfit{--t:#e4e6ea;--b:#15171b;--a:#8ab4f8;--l:#3a3e46}}
.stepfit{container-type:inline-size;position:relative;
--back:var(--st-background-color,var(--jp-layout-color0,var(--sf-background,var(--b,#fff))));
--accent:var(--st-primary-color,var(--jp-brand-color1,var(--sf-accent,var(--a,#0b57d0))));
--border:var(--st-border-color,var(--jp-border-color2,var(--sf-border,var(--l,#d5d8dd))));
--soft:color-mix(in srgb,currentColor 76%,transparent);--now:color-mix(in srgb,var(--accent) 13%,transparent);
color:var(--st-text-color,var(--jp-content-font-color1,var(--sf-text,var(--t,#1d2025))));background:var(--back);
accent-color:var(--strong);font:15px/1.5 var(--st-font,var(--jp-content-font-family,system-ui,sans-serif));
font-variant-numeric:tabular-nums;text-align:left;transition:color 1ms;
*{box-sizing:border-box}
.grid{display:grid;gap:14px 20px;grid-template-columns:minmax(0,1fr);align-items:start}
.side{display:grid;gap:14px 20px;grid-template-columns:repeat(auto-fit,minmax(min(230px,100%),1fr))}
figure{margin:0;min-width:0}
figcaption,.hint{display:flex;flex-wrap:wrap;gap:0 14px;margin:0 0 2px;font-size:13px;color:var(--soft);min-height:20px}
.key::before{content:"";display:inline-block;width:18px;margin-right:6px;vertical-align:4px;border-top:2px solid var(--c)}
.key+.key::before{border-top-style:dashed}
canvas{display:block;width:100%;border-radius:4px}
.curve canvas{height:168px;cursor:pointer}
.surface canvas{aspect-ratio:1.06}
.edits{cursor:crosshair}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(max(78px,17%),1fr));gap:12px 10px;font-size:12.5px;line-height:1.4;
canvas{aspect-ratio:1;image-rendering:pixelated;border:1px solid var(--border)}
i{display:block;height:4px;margin:4px 0 2px;background:var(--border);border-radius:2px}
i span{display:block;height:100%;background:var(--strong);border-radius:2px}
div>span{display:flex;justify-content:space-between}
small{font-size:12.5px;color:var(--soft)}}
form,.bar{display:flex;flex-wrap:wrap;align-items:center;gap:8px;margin:8px 0 0}
button,select,[type=number]{font:inherit;font-size:14px;color:inherit;background:var(--back);border-radius:6px;
border:1px solid color-mix(in srgb,currentColor 55%,var(--back));height:34px;padding:0 10px;margin:0;white-space:nowrap}
select{padding:0 4px}
button{cursor:pointer;&:hover{background:color-mix(in srgb,currentColor 8%,var(--back))}&:disabled{opacity:.5;cursor:default}}
.icon{width:34px;padding:0 9px}
svg{width:14px;height:14px;fill:currentColor;display:block}
.play,.next{min-width:74px}
.play{font-weight:600;&,&:hover{color:var(--on);background:var(--strong);border-color:transparent}}
[type=range]{flex:1 1 90px;min-width:80px;height:28px;margin:0;cursor:pointer}
[type=number]{width:96px;padding:0 8px}
:focus-visible{outline:2px solid var(--strong);outline-offset:2px}
label{display:inline-flex;align-items:center;gap:6px;font-size:14px}
.says{margin:0;min-height:6em;b{display:block}}
pre,.scroll{margin:0;padding:8px 0;border:1px solid var(--border);border-radius:6px;overflow:auto;max-height:320px}
pre{color:inherit;background:none;font:12.5px/1.65 var(--st-code-font,var(--jp-code-font-family,ui-monospace,Menlo,Consolas,monospace));
span{display:flex;justify-content:space-between;gap:24px;padding:0 12px 0 9px;border-left:3px solid transparent;min-width:max-content}
small{font-size:inherit;color:var(--soft)}
[aria-current]{border-color:var(--strong);background:var(--now);font-weight:600;small{color:inherit}}}
summary{cursor:pointer;min-height:28px;width:fit-content;font-size:14px}
.scroll{margin:6px 0 10px;padding:0;&:not(:has(td)){display:none}}
table{border-collapse:collapse;width:100%;font-size:13.5px;margin:0;background:none;color:inherit}
th,td{text-align:right;padding:3px 12px;font-weight:400;border:0}
thead th{font-weight:600;border-bottom:1px solid var(--border);white-space:nowrap}
tr[aria-current]{background:var(--now)}
.live{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
[hidden]{display:none}
@container (min-width:640px){
.grid{grid:auto 1fr auto/minmax(0,1.5fr) minmax(0,1fr)}
.pic{grid-row:1/3}.wide{grid-column:1/-1}
.descent{.pic{grid-row:1}.side{grid-column:2;grid-row:1/3}}}
@container (min-width:1080px){
.grid{grid:auto auto auto 1fr/minmax(0,1fr) minmax(0,1fr)}
.pic{grid-row:1/5}.wide{grid-column:2}
.descent{.pic{grid-row:1/5}.side{grid-row:auto}}}
@media print{.bar,form,.hint{display:none}}}
`;
const SPEEDS = [[0.5, "½×"], [1, "1×"], [2, "2×"], [4, "4×"]];
const NEXT = { assign: "Assign", update: "Update", step: "Step" };

/** Make an element; a function is a listener. */
function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  // Jupyter takes keys from a focused element that does not itself say otherwise.
  if (/^(button|select|input|summary)$/.test(tag) || "tabindex" in props) element.dataset.lmSuppressShortcuts = "true";
  for (const [name, value] of Object.entries(props)) {
    element[typeof value === "function" ? "addEventListener" : "setAttribute"](name, value);
  }
  element.append(...children);
  return element;
}
const modified = (e) => e.ctrlKey || e.metaKey || e.altKey;
function icon(path) {
  const holder = h("span");
  holder.innerHTML = `<svg viewBox="0 0 14 14" aria-hidden="true"><path d="${path}"/></svg>`;
  return holder.firstChild;
}
const current = (element, is) => (is ? element.setAttribute("aria-current", "step") : element.removeAttribute("aria-current"));

function tableOf(heads, rows) {
  const row = ([first, ...others]) => h("tr", {}, h("th", { scope: "row" }, first), ...others.map((text) => h("td", {}, text)));
  const head = h("tr", {}, ...heads.map((text) => h("th", { scope: "col" }, text)));
  return h("table", {}, h("thead", {}, head), h("tbody", {}, ...rows.map(row)));
}

// The player

/**
 * Build a player in root. `update(trace, commit, { moment, step, editable })` shows a trace: `commit` hears each edit, and
 * `moment` hears at which step the player rests; `step` is shown first.
 */
export function createPlayer(root) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)"), night = matchMedia("(prefers-color-scheme: dark)");
  // The page may have shortcuts of its own: keys pressed here are not for it.
  const box = h("div", { class: "stepfit", transitionend: draw, keydown: (e) => modified(e) || e.stopPropagation() });
  const el = {}; // the parts of the page by name
  const view = { chosen: -1 }; // what the pictures show that is not in the run
  let run, original, answered, begun, added = [], nonce = 0, unsent = false, tickets = 0, host = {};
  let position = 0, speed = 1, playing = false, then = 0, waiting = 0, told = "", rested, theme = {};
  const watch = new ResizeObserver(draw);
  watch.observe(box);
  night.addEventListener("change", draw);
  root.append(box);

  async function update(trace, commit, more = {}) {
    host = { ...more, commit };
    // A late answer never replaces a newer drag. The same trace again changes nothing, and drops no edit under way.
    const late = () => (trace.nonce || Infinity) < nonce || (trace.id === answered?.id && (run === answered || !trace.nonce));
    if (late()) return;
    const ticket = ++tickets, fail = (error) => box.replaceChildren(`This trace cannot be drawn: ${error.message}.`);
    const fresh = await unpack(trace).catch(fail);
    if (!fresh || ticket !== tickets || late()) return;
    const isAnswer = begun && trace.nonce === nonce, similar = run?.kind === trace.kind && run.dims.k === trace.dims.k;
    (run = answered = fresh), (added = []), (begun = null), (nonce = trace.nonce || nonce);
    if (!similar) build();
    if (!isAnswer) {
      (original = fresh), (playing = false), (view.chosen = -1);
      position = more.step ? frameOf(more.step) : run.mark?.frame ?? 0;
      rested = Math.max(0, frameAt(run, position).step);
    }
    position = Math.min(position, frames(run) - 1);
    render();
    if (isAnswer) settle();
  }

  const here = () => Math.floor(position), focused = () => box.getRootNode().activeElement;
  const frameOf = (step) => (isClusters(run) ? 2 * step + 1 : step);
  const canEdit = () => (run.kind === "kmeans" || isDescent(run)) && host.editable !== false && !!(run.twin || host.commit);

  function build() {
    const plane = run.kind === "kmeans", descent = isDescent(run), { k } = run.dims, style = h("style");
    style.textContent = STYLE;
    const button = (inside, click, props) => h("button", { type: "button", click, ...props }, inside);
    const group = (label, props, ...inside) => h("div", { role: "group", "aria-label": label, ...props }, ...inside);
    const field = (name, text) => h("label", {}, text, (el[name] = h("input", { type: "number", step: "any", required: "" })));
    const figure = (name, canvas) => h("figure", { class: name }, (el[`${name}Says`] = h("figcaption")), canvas);
    const picture = { role: "img", tabindex: 0, keydown: keys, keyup: send }, scroll = { class: "scroll", tabindex: 0 };
    el.tiles = null;
    if (run.kind === "wall") {
      el.tiles = numbered(k, () => ({ canvas: h("canvas"), count: h("small"), share: h("span"), says: h("small") }));
      const tile = ({ canvas, count, share, says }, j) => [h("span", {}, h("b", {}, j), count), canvas, h("i", {}, share), says];
      el.stage = h("div", { class: "tiles", ...picture }, ...el.tiles.map((parts, j) => h("div", {}, ...tile(parts, j))));
    } else el.stage = h("canvas", picture);
    const over = (e) => hover("step", view.stepAt(e.offsetX)), seek = (e) => go(frameOf(view.stepAt(e.offsetX)));
    el.curve = h("canvas", { role: "img", pointermove: over, pointerleave: () => hover("step"), click: seek });
    if (!isClusters(run) && !descent) (el.stage = el.curve), (el.stage.tabIndex = 0), el.stage.addEventListener("keydown", keys);
    el.surface = h("canvas", { ...picture, pointerleave: () => hover("place") });
    el.first = button(icon("M2 2h2v10H2zM12 2v10L5 7z"), () => go(0), { class: "icon", "aria-label": "To the start" });
    el.back = button(icon("M10 2v10L3 7z"), () => go(Math.ceil(position) - 1), { class: "icon", "aria-label": "Back" });
    el.play = button("Play", toggle, { class: "play" });
    el.next = button("", () => go(here() + 1), { class: "next" });
    const scrub = () => go(+el.slider.value, false), pace = () => (speed = +el.speed.value);
    el.slider = h("input", { type: "range", min: 0, "aria-label": "Frame", input: scrub, change: settle });
    const speeds = SPEEDS.map(([value, text]) => h("option", { value }, text));
    el.speed = h("select", { "aria-label": "Speed", change: pace }, ...speeds);
    el.speed.value = speed;
    el.form = h("form", { submit });
    el.which = plane && h("select", { change: () => choose(+el.which.value) }, ...numbered(k, (j) => h("option", {}, j)));
    if (plane) {
      const add = button("Add point", () => el.form.reportValidity() && addPoint(typed()));
      const which = h("label", {}, "Center", el.which);
      el.form.append(which, field("u", "x"), field("v", "y"), h("button", {}, "Move center"), add);
    } else el.form.append(field("u", "Start at w1"), field("v", "w2"), h("button", {}, "Start here"));
    el.form.append((el.undo = button("Undo my changes", undo)));
    const said = "The code of this step, with the shapes of its tensors";
    el.code = h("pre", { class: "wide", tabindex: 0, role: "group", "aria-label": said });
    (el.now = group("The centers now", scroll)), (el.all = group("All steps", scroll));
    el.details = h("details", { class: "wide", toggle: tabulate }, h("summary", {}, "The same as a table"), el.now, el.all);
    const bar = group("Playback", { class: "bar" }, el.first, el.back, el.play, el.next, el.slider, el.speed);
    const curve = figure("curve", el.curve), alone = el.stage === el.curve;
    const pic = h("div", { class: "pic" }, alone ? curve : h("figure", {}, el.stage), (el.hint = h("p", { class: "hint" })), bar);
    const talk = h("div", { class: "talk" }, (el.says = h("p", { class: "says" })), el.form);
    const side = h("div", { class: "side" }, ...(alone ? [] : [curve]), ...(descent ? [figure("surface", el.surface)] : []));
    const parts = descent ? [pic, talk, side] : [pic, side, talk];
    el.live = h("div", { class: "live", "aria-live": "polite" });
    box.replaceChildren(style, h("div", { class: `grid ${run.kind}` }, ...parts, el.code, el.details), el.live);
    if (plane) pointing(el.stage, () => mapping(run.box, el.stage), grabCenter, moveCenter, addPoint);
    if (descent) pointing(el.surface, () => mapping(run.surface, el.surface), grabStart, moveStart, (place) => moveStart(0, place));
    theme = {};
  }

  // Show

  /** After a change of the run: first what all its frames share. */
  function render() {
    const [x0, y0, x1, y1] = run.box ?? [0, 0, 1, 1];
    el.stage.style.aspectRatio = el.tiles || el.stage === el.curve ? "" : Math.min(1.5, Math.max(1.05, (x1 - x0) / (y1 - y0)));
    el.stage.classList.toggle("edits", run.kind === "kmeans" && canEdit());
    el.surface.classList.toggle("edits", canEdit());
    el.slider.max = frames(run) - 1;
    el.form.hidden = !canEdit();
    el.undo.hidden = host.moment || run === original; // who keeps the moment keeps the edits too
    const size = (shape) => `(${shape.map((letter) => run.dims[letter] ?? letter).join(", ")}${shape.length === 1 ? "," : ""})`;
    el.code.replaceChildren(...run.code.map(([text, shape]) => h("span", {}, text, h("small", {}, shape ? size(shape) : ""))));
    el.code.hidden = !run.code.length;
    el.all.replaceChildren();
    told = "";
    draw();
  }

  function draw() {
    if (run) waiting ||= requestAnimationFrame(paint);
  }

  function paint(now) {
    waiting = 0;
    if (!box.clientWidth) return; // hidden by now: it is drawn when it shows
    if (playing) {
      const rate = !isClusters(run) ? Math.min(30, Math.max(1.5, run.losses.length / 10)) : 1.5; // frames a second
      position += (Math.min(100, Math.max(0, now - then)) / 1000) * rate * speed; // the first `now` may lie before `then`
      then = now;
      if (position >= frames(run) - 1) stop((position = frames(run) - 1));
      else draw();
    }
    const i = here(), place = calm.matches ? i : position, descent = isDescent(run);
    readTheme();
    if (told !== (told = [i, playing, view.chosen].join())) tell(i);
    if (el.tiles) drawWall(el.tiles, run, place, theme);
    else if (el.stage !== el.curve) (descent ? drawLine : drawPlane)(el.stage, run, place, theme, view);
    const [first, ...others] = series(run), share = others.find((one) => one.share);
    const curves = [{ ...first, color: theme.strong }, ...(share ? [{ ...share, color: theme.path, dash: [6, 5] }] : [])];
    view.stepAt = drawCurves(el.curve, curves, run, place, theme, view.step);
    if (descent) drawSurface(el.surface, run, place, theme, view);
    const step = view.step ?? frameAt(run, i).step;
    el.curveSays.replaceChildren(...curves.map(({ name, values, show, color }) => {
      return h("span", { class: "key", style: `--c:${color}` }, `${capital(name)} `, h("b", {}, step < 0 ? "" : show(values[step])));
    }));
    if (view.step != null) el.curveSays.append(`at step ${run.index[step]}`);
    if (!descent) return;
    const spot = view.place, loss = spot && meanLoss(run.x, run.y, [...spot, run.params.at(-1)], run.settings.loss === "MSELoss");
    el.surfaceSays.textContent = spot
      ? `Loss ${num(loss)} at w1 ${num(spot[0])}, w2 ${num(spot[1])}`
      : `Loss over w1 and w2${canEdit() ? ": click for a new start" : ""}`;
  }

  /** The words and marks of frame i. */
  function tell(i) {
    const { kind } = frameAt(run, i), end = i >= frames(run) - 1, movable = run.kind === "kmeans" && canEdit();
    el.play.textContent = playing ? "Pause" : "Play";
    el.next.textContent = end ? "End" : NEXT[frameAt(run, i + 1).kind];
    for (const [button, idle] of [[el.next, end], [el.first, !i && !playing], [el.back, !i && !playing]]) {
      if (idle && focused() === button) el.stage.focus({ preventScroll: true }); // else the focus were lost
      button.disabled = idle;
    }
    el.slider.value = i;
    el.slider.setAttribute("aria-valuetext", title(run, i));
    el.says.replaceChildren(h("b", {}, title(run, i)), sentence(run, i));
    run.code.forEach(([, , kinds], line) => current(el.code.children[line], kinds.includes(kind)));
    const wrong = isDescent(run) ? "Hollow points are on the wrong side. " : "";
    const ways = movable ? ["Drag a center, or click to add a point. ", `, 0 to ${Math.min(9, run.dims.k - 1)} take a center`] : [wrong, ""];
    const help = `${ways[0]}Keys: space plays, arrows step${ways[1]}.`;
    el.hint.textContent = view.chosen < 0 ? help : `Center ${view.chosen}: the arrow keys move it, Escape lets go.`;
    if (!playing) label(i);
    if (!el.form.contains(focused())) fillIn();
    for (const [j, tile] of (el.tiles || []).entries()) {
      const [count = "", shown, part] = cluster(j, frameAt(run, i).step);
      (tile.count.textContent = count), (tile.share.style.width = part ?? 0);
      tile.says.textContent = part ? `${part} are ${shown}` : "\xa0";
    }
    tabulate();
  }

  /** The sentences that stand for the pictures. */
  function label(i) {
    const { losses } = run, name = (element, text) => element.setAttribute("aria-label", text);
    name(el.curve, `${capital(series(run)[0].name)} over ${losses.length} steps, from ${num(losses[0])} to ${num(losses.at(-1))}.`);
    name(el.stage, `${run === answered ? run.alt : "A run of your own."} ${title(run, i)}: ${sentence(run, i)}`);
    name(el.surface, `The loss over both weights, with the way of the run.${canEdit() ? " The arrow keys move the start." : ""}`);
  }

  /** Put the numbers of the chosen center, or of the start, into their fields. */
  function fillIn() {
    if (!canEdit()) return;
    if (el.which && view.chosen >= 0) el.which.value = view.chosen;
    const [u, v] = el.which ? centersAt(run, here()).slice(2 * el.which.value) : run.params;
    [el.u.value, el.v.value] = [u, v].map((value) => (Number.isFinite(value) ? +value.toPrecision(4) : ""));
  }

  /** The same as a table: the centers now, and all steps. */
  function tabulate() {
    if (!el.details.open) return;
    const { step } = frameAt(run, here());
    if (el.tiles) {
      const rows = el.tiles.map((_, j) => [j, ...cluster(j, step)]);
      el.now.replaceChildren(tableOf(["Center", "Images", "Most of them show", "Share"], rows));
    } else if (el.which) {
      const rows = pairs(centersAt(run, here())).map((place, j) => [j, theme.shape(j), ...place.map(num), ...cluster(j, step)]);
      el.now.replaceChildren(tableOf(["Center", "Shape", "x", "y", "Points"], rows));
    }
    if (!el.all.firstChild) {
      const columns = series(run), happened = { name: "what happened", values: run.events, show: (texts) => texts.join("; ") };
      if (run.events.some((texts) => texts.length)) columns.push(happened);
      const rows = run.index.map((index, s) => [index, ...columns.map(({ values, show }) => show(values[s]))]);
      el.all.append(tableOf(["Step", ...columns.map(({ name }) => capital(name))], rows));
    }
    el.all.querySelectorAll("tbody tr").forEach((row, s) => current(row, s === step));
  }

  /** How many points a cluster has at a step, and for images what most of them show and their share. */
  function cluster(j, step) {
    const { k, n } = run.dims, at = step * k + j;
    if (step < 0) return [];
    if (!el.tiles) return [many(rowAt(run.labels, step, n).filter((label) => label === j).length)];
    const count = run.counts[at], share = run.agree && `${Math.round((100 * run.agree[at]) / (count || 1))}%`;
    return [many(count), ...(share ? [run.majority[at], share] : [])];
  }

  // Move

  function go(i, rest = true) {
    playing = false;
    position = Math.min(frames(run) - 1, Math.max(0, i));
    draw();
    if (rest) settle();
  }

  function toggle() {
    if (playing) return stop();
    if (position >= frames(run) - 1) position = 0;
    (playing = true), (then = performance.now());
    draw();
  }

  function stop() {
    if (!playing) return;
    playing = false;
    draw();
    settle();
  }

  /** At rest: tell those who listen, and the host. */
  function settle() {
    const i = here(), step = Math.max(0, frameAt(run, i).step);
    el.live.textContent = `${title(run, i)}. ${sentence(run, i)}`;
    if (step !== rested) host.moment?.({ id: answered.id, step: (rested = step) });
  }

  function hover(what, value = null) {
    view[what] = value;
    draw();
  }

  function keys(e) {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[e.key], j = view.chosen;
    const onSurface = e.target === el.surface && canEdit(), [x0, , x1] = onSurface ? run.surface : run.box ?? [];
    const moved = (place) => place.map((value, axis) => value + (move[axis] * (x1 - x0)) / 50);
    if (modified(e)) return;
    if (e.key === " ") toggle();
    else if (e.key === "Home") go(0);
    else if (e.key === "End") go(Infinity);
    else if (e.key === "Escape") choose(-1);
    else if (/^\d$/.test(e.key) && e.key < run.dims.k && el.which && canEdit()) choose(+e.key);
    else if (move && onSurface) moveStart(0, moved([run.params[0], run.params[1]]));
    else if (move && j >= 0) moveCenter(j, moved(pairs(centersAt(run, here()))[j]));
    else if (move?.[0]) go(move[0] > 0 ? here() + 1 : Math.ceil(position) - 1);
    else return;
    e.preventDefault();
  }

  // Edit: preview at once, and send when it is done

  function choose(j) {
    view.chosen = j;
    draw();
  }
  const typed = () => [+el.u.value, +el.v.value];

  function submit(e) {
    e.preventDefault();
    if (el.which) moveCenter(+el.which.value, typed());
    else moveStart(0, typed());
    send();
  }

  /** Run from another start: the twin answers now, and stepfit when the edit is sent. */
  function begin(start) {
    stop();
    (begun = start), (unsent = true), (nonce = Math.max(Date.now(), nonce + 1));
    if (run.twin) {
      const { settings, dtype } = answered, x = added.length ? Float64Array.from([...answered.x, ...added.flat()]) : answered.x;
      const again = isDescent(run) ? descend(answered, start, settings, dtype) : kmeans(x, start, settings, dtype);
      run = { ...answered, x, dims: { ...answered.dims, n: x.length / 2 }, ...again };
    }
    position = Math.min(position, frames(run) - 1);
    render();
  }

  function moveCenter(j, place) {
    const now = centersAt(run, here()).map((value, c) => (Number.isNaN(value) ? run.centers[c] : value));
    now.set(place, 2 * j);
    position = 1;
    view.chosen = j;
    begin(now);
  }

  function addPoint(place) {
    added.push(run.dtype === "float32" ? place.map(Math.fround) : place);
    begin(run.centers.slice(0, 2 * run.dims.k));
    send();
  }

  function moveStart(_, place) {
    position = 0;
    begin([...place, answered.params[2]]);
  }

  function send() {
    if (!unsent) return;
    unsent = false;
    const moved = isDescent(run) ? { centers: null, start: begun.slice(0, 2) } : { centers: pairs(begun), start: null };
    host.commit?.({ nonce, id: answered.id, added, ...moved });
    settle();
  }

  function undo() {
    (run = answered = original), (added = []), (begun = null), (view.chosen = -1);
    position = Math.min(position, frames(run) - 1);
    host.commit?.({ nonce: ++nonce, id: run.id, added, centers: null, start: null });
    render();
    settle();
  }

  /** Let a canvas be dragged by what `grab` finds, tapped elsewhere, and hovered over, with mouse, pen or finger. */
  function pointing(canvas, map, grab, drag, tap) {
    let held = null, from = null;
    const place = (e) => [e.offsetX, e.offsetY];
    const on = (name, react, options) => canvas.addEventListener(name, react, options);
    const near = (e, spot) => Math.hypot(spot[0] - e.offsetX, spot[1] - e.offsetY) < (e.pointerType === "touch" ? 24 : 15);
    on("pointerdown", (e) => {
      if (!canEdit() || e.button) return;
      (from = place(e)), (held = grab((spot) => near(e, map().to(spot)), e));
      if (held === null) return;
      canvas.setPointerCapture(e.pointerId);
      if (canvas === el.surface) drag(held, map().from(from));
    });
    on("touchstart", (e) => held !== null && e.preventDefault(), { passive: false }); // a finger that holds nothing scrolls
    on("pointermove", (e) => {
      if (held !== null) drag(held, map().from(place(e)));
      if (canvas === el.surface) hover("place", map().from(place(e)));
    });
    on("pointerup", (e) => {
      if (held === null && from && near(e, from)) tap(map().from(from));
      held = from = null;
      send();
    });
    on("pointercancel", () => (held = from = null, send()));
  }

  function grabCenter(near) {
    const j = pairs(centersAt(run, here())).findIndex(near);
    choose(j);
    return j < 0 ? null : j;
  }
  const grabStart = (near, e) => (e.pointerType === "mouse" || near([run.params[0], run.params[1]]) ? 0 : null);

  // Colors of the host, read again when they change

  function readTheme() {
    const { color, backgroundColor: ground } = getComputedStyle(box), own = getComputedStyle(box).getPropertyValue("--accent");
    const key = [color, ground, own].join();
    if (theme.key === key) return;
    const back = readColor(ground), text = readColor(ground, color), shade = (part) => mix(back, text, part);
    const accent = ink(readColor(own), [back], text, 4.5), hues = run.colors.map(fromHex);
    const grounds = [back, ...hues.map((hue) => tint(hue, back))], nobody = css(shade(0.55));
    const of = (list, none) => (j) => (j < 0 ? none : list[j % list.length]);
    theme = {
      key, shade, back: css(back), text: css(text), strong: css(accent), path: css(ink(hues[3], [back], text)),
      soft: css(shade(0.7)), line: css(shade(0.2)), border: css(shade(0.4)),
      shape: of(run.markers, "circle"), fill: of(hues.map(css), nobody), tint: of(grounds.slice(1).map(css)),
      ink: of(hues.map((hue) => css(ink(hue, grounds, text))), nobody),
    };
    box.style.setProperty("--strong", theme.strong);
    box.style.setProperty("--on", contrast(accent, [255, 255, 255]) >= 4.5 ? "#fff" : "#000");
    box.style.colorScheme = contrast(back, [0, 0, 0]) > contrast(back, [255, 255, 255]) ? "light" : "dark"; // of the controls
  }

  function destroy() {
    cancelAnimationFrame(waiting);
    watch.disconnect();
    night.removeEventListener("change", draw);
    box.remove();
    run = null;
  }

  return { update, go, toggle, stop, destroy, get run() { return run; }, get position() { return position; } };
}

// The hosts

/** The static page: fill each <div data-stepfit-trace="ID"> from the JSON in the <script> with that id. */
export function mountAll() {
  return [...document.querySelectorAll("[data-stepfit-trace]")].map((root) => {
    const player = createPlayer(root);
    player.update(JSON.parse(document.getElementById(root.dataset.stepfitTrace).textContent));
    return player;
  });
}

const players = new WeakMap(); // Streamlit calls again with the same element at each rerun

/** Streamlit calls this with what it knows; anywidget calls it with nothing and wants { render }. */
export default function host(streamlit) {
  if (!streamlit) return { render };
  const { data, parentElement, setTriggerValue } = streamlit;
  if (!players.has(parentElement)) players.set(parentElement, createPlayer(parentElement));
  const player = players.get(parentElement), { trace, step, editable } = data;
  const tell = (name) => (value) => setTriggerValue(name, value);
  player.update(trace, tell("edit"), { step, editable, moment: tell("moment") });
  return () => {
    player.destroy();
    players.delete(parentElement);
  };
}

function render({ model, el }) {
  const player = createPlayer(el);
  const commit = (edit) => {
    model.set("edit", edit);
    model.save_changes();
  };
  const show = () => {
    const trace = model.get("trace");
    player.update(trace, trace.twin && commit); // what the twin does not know, the kernel is not asked for
  };
  model.on("change:trace", show);
  show();
  return () => {
    model.off("change:trace", show);
    player.destroy();
  };
}
