// Charts: lines with a shared read-out, bars, a reliability curve and heat maps.

const CHART = { width: 340, height: 210, left: 50, right: 10, top: 10, bottom: 38 };

// Round numbers that cover `low` to `high`, about `wanted` of them.
function ticks(low, high, wanted) {
  if (!(high > low)) return [low];
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((one) => one * power >= rough) ?? 10);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++)
    found.push(Number((i * step).toPrecision(12)));
  return found;
}

// The numbers of an axis, with as many decimals as tell them apart.
function tickWords(values) {
  const step = values.length > 1 ? values[1] - values[0] : 0;
  const largest = Math.max(...values.map(Math.abs));
  if (!step || largest >= 10000 || largest < 0.001) return values.map(short);
  return values.map((value) => value.toFixed(Math.max(0, Math.ceil(-Math.log10(step) - 1e-9))));
}

// The range widened to round numbers.
function rounded([low, high]) {
  const [first, second] = ticks(low, high, 4);
  const step = second - first;
  return step > 0 ? [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step] : [low, high];
}

function extent(values, { zero = false } = {}) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (!known.length) return [0, 1];
  let low = known.reduce((a, b) => Math.min(a, b));
  let high = known.reduce((a, b) => Math.max(a, b));
  if (zero) low = Math.min(low, 0);
  if (low === high)
    [low, high] =
      zero && high > 0 ? [low, high] : [low - (Math.abs(low) / 10 || 0.5), high + (Math.abs(high) / 10 || 0.5)];
  return [low, high];
}

function scales([x0, x1], [y0, y1], box = CHART) {
  const wide = box.width - box.left - box.right;
  const high = box.height - box.top - box.bottom;
  return {
    x: (value) => box.left + ((value - x0) / (x1 - x0 || 1)) * wide,
    y: (value) => box.height - box.bottom - ((value - y0) / (y1 - y0 || 1)) * high,
  };
}

function axes({ xRange, yRange, xTitle, yTitle, xWanted = 5, wholeX = false }, at, box = CHART) {
  const bottom = box.height - box.bottom;
  const xTicks = ticks(...xRange, xWanted).filter((value) => !wholeX || Number.isInteger(value));
  const yTicks = ticks(...yRange, 4);
  const yWords = tickWords(yTicks);
  const xWords = tickWords(xTicks);
  const lines = yTicks.map((value, i) => [
    svg("line", { class: "rule", x1: box.left, x2: box.width - box.right, y1: at.y(value), y2: at.y(value) }),
    svg("text", { x: box.left - 6, y: at.y(value) + 3.5, "text-anchor": "end" }, yWords[i]),
  ]);
  const marks = xTicks.map((value, i) => [
    svg("line", { class: "tick", x1: at.x(value), x2: at.x(value), y1: bottom, y2: bottom + 4 }),
    svg("text", { x: at.x(value), y: bottom + 15, "text-anchor": "middle" }, xWords[i]),
  ]);
  const middle = (box.top + bottom) / 2;
  return svg(
    "g",
    { class: "axes", "aria-hidden": "true" },
    lines,
    marks,
    svg("line", { class: "tick", x1: box.left, x2: box.width - box.right, y1: bottom, y2: bottom }),
    svg(
      "text",
      { class: "axis-title", x: (box.left + box.width - box.right) / 2, y: box.height - 5, "text-anchor": "middle" },
      xTitle,
    ),
    svg(
      "text",
      { class: "axis-title", transform: `translate(11 ${middle}) rotate(-90)`, "text-anchor": "middle" },
      yTitle,
    ),
  );
}

function frame(title, description, ...children) {
  const view = `0 0 ${CHART.width} ${CHART.height}`;
  return svg(
    "svg",
    { viewBox: view, role: "img", "aria-label": `${title}. ${description}`, class: "chart" },
    svg("title", {}, title),
    svg("desc", {}, description),
    ...children,
  );
}

function linePath(x, values, at) {
  let path = "";
  let pen = "M";
  values.forEach((value, i) => {
    if (value === null || value === undefined) pen = "M";
    else {
      path += `${pen}${at.x(x[i]).toFixed(1)} ${at.y(value).toFixed(1)}`;
      pen = "L";
    }
  });
  return path;
}

const DASHES = ["", "6 3", "2 3", "8 3 2 3"];
const lineCharts = [];

// Lines over epochs. Pointing at one chart, or the arrow keys in it, reads the same epoch off all of them.
function lineChart({ title, yTitle, x, series, zero = false }) {
  const shown = series.filter(({ values }) => values.some((value) => value !== null && value !== undefined));
  if (!shown.length || !x.length) return null;
  const yRange = rounded(
    extent(
      shown.flatMap(({ values }) => values),
      { zero },
    ),
  );
  const xRange = extent(x);
  const at = scales(xRange, yRange);
  const cursor = svg(
    "g",
    { class: "cursor", visibility: "hidden" },
    svg("line", { y1: CHART.top, y2: CHART.height - CHART.bottom }),
    shown.map((_, i) => svg("circle", { r: 3.5, style: { fill: `var(--line-${i})` } })),
  );
  const lines = shown.map(({ values }, i) => {
    const known = values.filter((value) => value !== null && value !== undefined);
    const dot = known.length === 1 ? values.indexOf(known[0]) : -1;
    return [
      svg("path", {
        class: "line",
        d: linePath(x, values, at),
        "stroke-dasharray": DASHES[i],
        style: { stroke: `var(--line-${i})` },
      }),
      dot >= 0
        ? svg("circle", { cx: at.x(x[dot]), cy: at.y(values[dot]), r: 3, style: { fill: `var(--line-${i})` } })
        : null,
    ];
  });
  const ends = shown.map(
    ({ name: called, values }) =>
      `${called} from ${short(values.find((v) => v !== null))} to ${short(values.findLast((v) => v !== null))}`,
  );
  const drawing = frame(
    title,
    ends.join("; "),
    axes({ xRange, yRange, xTitle: "epoch", yTitle, wholeX: true }, at),
    lines,
    cursor,
  );
  const readout = el("p", { class: "readout", "aria-live": "polite" });
  const chart = { x, shown, at, cursor, readout };
  lineCharts.push(chart);
  readAt(chart, null);
  const node = el(
    "figure",
    { class: "panel", tabindex: "0", "aria-label": `${title}; arrow keys read epochs` },
    el("figcaption", {}, title),
    readout,
    drawing,
  );
  drawing.addEventListener("pointermove", (event) => readAll(nearestEpoch(chart, event, drawing)));
  drawing.addEventListener("pointerleave", () => readAll(null));
  node.addEventListener("keydown", (event) => readByKey(event, chart));
  node.addEventListener("blur", () => readAll(null));
  return node;
}

function nearestEpoch({ x, at }, event, drawing) {
  const box = drawing.getBoundingClientRect();
  const wanted = ((event.clientX - box.left) / box.width) * CHART.width;
  return x.reduce(
    (best, epoch) => (Math.abs(at.x(epoch) - wanted) < Math.abs(at.x(best) - wanted) ? epoch : best),
    x[0],
  );
}

let readEpoch = null;

function readByKey(event, { x }) {
  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  if (!(event.key in steps)) return;
  event.preventDefault();
  const now = readEpoch === null ? (steps[event.key] > 0 ? -1 : x.length) : x.indexOf(readEpoch);
  readAll(x[Math.min(Math.max(now + steps[event.key], 0), x.length - 1)]);
}

function readAll(epoch) {
  readEpoch = epoch;
  for (const chart of lineCharts) readAt(chart, epoch);
}

function readAt({ x, shown, at, cursor, readout }, epoch) {
  const place = epoch === null ? x.length - 1 : x.indexOf(epoch);
  const words = shown.map(({ name: called, values }, i) =>
    el(
      "span",
      {},
      shown.length > 1
        ? svg(
            "svg",
            { class: "dash", viewBox: "0 0 18 6", "aria-hidden": "true" },
            svg("path", { d: "M0 3H18", "stroke-dasharray": DASHES[i], style: { stroke: `var(--line-${i})` } }),
          )
        : null,
      shown.length > 1 ? `${called} ` : null,
      el("b", {}, values[place] === null ? "\u2013" : short(values[place])),
    ),
  );
  readout.replaceChildren(...words, el("span", { class: "quiet" }, `epoch ${x[place] ?? "\u2013"}`));
  cursor.setAttribute("visibility", epoch === null || place < 0 ? "hidden" : "visible");
  if (place < 0) return;
  const [line, ...dots] = cursor.children;
  line.setAttribute("x1", at.x(x[place]));
  line.setAttribute("x2", at.x(x[place]));
  dots.forEach((dot, i) => {
    const value = shown[i].values[place];
    dot.setAttribute("visibility", value === null || value === undefined ? "hidden" : "inherit");
    if (value !== null && value !== undefined)
      dot.setAttribute("transform", `translate(${at.x(x[place])} ${at.y(value)})`);
  });
}

function histogram({ title, edges, counts, xTitle, yTitle }) {
  const yRange = rounded([0, Math.max(1, ...counts)]);
  const xRange = [edges[0], edges[edges.length - 1]];
  const at = scales(xRange, yRange);
  const total = counts.reduce((a, b) => a + b, 0);
  const readout = el("p", { class: "readout" });
  const words = (i) =>
    `${counted(counts[i], "image")} (${share(counts[i] / (total || 1))}) between ${short(edges[i])} and ${short(edges[i + 1])}`;
  const rest = () =>
    (readout.textContent = `${counted(total, "image")}; the fullest bar: ${words(counts.indexOf(Math.max(...counts)))}`);
  const bars = counts.map((number, i) =>
    svg(
      "g",
      { class: "bar-slot", pointerenter: () => (readout.textContent = words(i)) },
      svg("rect", {
        class: "slot",
        x: at.x(edges[i]),
        width: at.x(edges[i + 1]) - at.x(edges[i]),
        y: CHART.top,
        height: CHART.height - CHART.top - CHART.bottom,
      }),
      svg("rect", {
        class: "bar-fill",
        x: at.x(edges[i]) + 0.5,
        width: Math.max(0.5, at.x(edges[i + 1]) - at.x(edges[i]) - 1),
        y: at.y(number),
        height: at.y(0) - at.y(number),
      }),
    ),
  );
  rest();
  const drawing = frame(
    title,
    counts
      .map((number, i) => (number ? words(i) : null))
      .filter(Boolean)
      .join("; "),
    axes({ xRange, yRange, xTitle, yTitle }, at),
    bars,
  );
  drawing.addEventListener("pointerleave", rest);
  return el("figure", { class: "panel" }, el("figcaption", {}, title), readout, drawing);
}

function reliabilityChart({ mean_confidence: sure, accuracy, count: sizes }) {
  const title = "Is it as right as it is sure? (used labels)";
  const at = scales([0, 1], [0, 1]);
  const bins = sure
    .map((value, i) => ({ sure: value, right: accuracy[i], size: sizes[i] }))
    .filter((bin) => bin.size > 0 && bin.sure !== null && bin.right !== null);
  const most = Math.max(1, ...bins.map((bin) => bin.size));
  const words = (bin) => `${percent(bin.sure)} sure, ${percent(bin.right)} right (${counted(bin.size, "image")})`;
  const readout = el("p", { class: "readout" });
  const rest = () =>
    (readout.textContent = "On the dashed line, confidence is honest; under it, the run is surer than it should be.");
  rest();
  const dots = bins.map((bin) =>
    svg(
      "circle",
      {
        class: "bin",
        cx: at.x(bin.sure),
        cy: at.y(bin.right),
        r: 3 + 5 * Math.sqrt(bin.size / most),
        pointerenter: () => (readout.textContent = words(bin)),
      },
      svg("title", {}, words(bin)),
    ),
  );
  const drawing = frame(
    title,
    bins.map(words).join("; "),
    axes(
      { xRange: [0, 1], yRange: [0, 1], xTitle: "mean confidence (probability)", yTitle: "right (share of images)" },
      at,
    ),
    svg("line", { class: "ideal", x1: at.x(0), y1: at.y(0), x2: at.x(1), y2: at.y(1) }),
    svg("path", {
      class: "line",
      d: linePath(
        bins.map((bin) => bin.sure),
        bins.map((bin) => bin.right),
        at,
      ),
      style: { stroke: "var(--line-0)" },
    }),
    dots,
  );
  drawing.addEventListener("pointerleave", rest);
  return el("figure", { class: "panel" }, el("figcaption", {}, title), readout, drawing);
}

// A matrix as colours on a canvas. The pointer or the arrow keys read one cell; `words(row, column)` says it.
function heatmap({
  title,
  matrix,
  low,
  high,
  words,
  rowNames,
  columnNames,
  rowTitle,
  columnTitle,
  numbers,
  colours = "heat",
}) {
  const rows = matrix.length;
  const columns = matrix[0]?.length ?? 0;
  const canvas = el("canvas", {
    class: "heat",
    tabindex: "0",
    role: "img",
    "aria-label": `${title}, ${rows} by ${columns}; arrow keys read cells`,
  });
  const readout = el("p", { class: "readout", "aria-live": "polite" }, "Point at a cell to read it.");
  const state = { matrix, low, high, rows, columns, canvas, numbers, at: null, rowNames, columnNames, colours };
  const read = (row, column) => {
    state.at = [Math.min(Math.max(row, 0), rows - 1), Math.min(Math.max(column, 0), columns - 1)];
    readout.textContent = words(...state.at);
    drawHeat(state);
  };
  canvas.addEventListener("pointermove", (event) => {
    const box = heatBox(state);
    const column = Math.floor((event.offsetX - box.left) / box.side);
    const row = Math.floor((event.offsetY - box.top) / box.line);
    if (row >= 0 && column >= 0 && row < rows && column < columns) read(row, column);
  });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const [row, column] = state.at ?? [0, 0];
    if (state.at) read(row + steps[event.key][0], column + steps[event.key][1]);
    else read(0, 0);
  });
  const holder = el("div", { class: "heat-holder" }, canvas);
  whenSeen(holder, () => {
    new ResizeObserver(() => drawHeat(state)).observe(holder);
    onTheme(() => drawHeat(state));
  });
  const axisWords = el("p", { class: "quiet axis-words" }, `\u2193 ${rowTitle} \u00b7 \u2192 ${columnTitle}`);
  return el(
    "figure",
    { class: "panel" },
    el("figcaption", {}, title),
    readout,
    holder,
    axisWords,
    scaleBar(low, high, colours),
  );
}

const RAMPS = { heat: HEAT, viridis: ["--viridis-0", "--viridis-1", "--viridis-2", "--viridis-3", "--viridis-4"] };

function scaleBar(low, high, colours) {
  return el("p", { class: `scale-bar ${colours}` }, short(low), el("span", { "aria-hidden": "true" }), short(high));
}

// Where the cells lie: a margin for names if cells are large enough to name. Long names of columns are slanted.
function heatBox({ canvas, rows, columns, rowNames, columnNames }) {
  const wide = canvas.parentElement.clientWidth;
  const long = (names) => 6.2 * Math.min(MOST_LETTERS, Math.max(...names.map((one) => one.length)));
  const named = (wide - long(rowNames)) / columns >= 12 && (rows < 100 || columns < rows / 2);
  const left = named ? 10 + long(rowNames) : 0;
  const slanted = named && long(columnNames) > Math.min(LARGEST_CELL, (wide - left) / columns) - 4;
  const top = !named ? 0 : slanted ? 14 + 0.71 * long(columnNames) : 18;
  const beside = slanted ? 0.71 * long(columnNames) : 0;
  const side = Math.min(LARGEST_CELL, (wide - left - beside) / columns);
  // Many more rows than columns: flat cells.
  const line = rows > 2 * columns ? Math.min(side, Math.max(13, 600 / rows)) : side;
  return { left, top, side, line, named, slanted, width: left + side * columns + beside, height: top + line * rows };
}

function drawHeat(state) {
  const { matrix, low, high, canvas } = state;
  const box = heatBox(state);
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(box.width * ratio));
  canvas.height = Math.max(1, Math.round(box.height * ratio));
  canvas.style.width = `${box.width}px`;
  canvas.style.height = `${box.height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const colours = ramp(RAMPS[state.colours], 256);
  const level = (value) => Math.round(255 * Math.min(1, Math.max(0, (value - low) / (high - low || 1))));
  const gap = box.line > 12 ? 1 : 0;
  matrix.forEach((line, row) =>
    line.forEach((value, column) => {
      pen.fillStyle = `rgb(${colours[level(value)]})`;
      // Neighbouring cells share their edge's device pixel, so that no ground shines through.
      const x = Math.round((box.left + column * box.side) * ratio) / ratio;
      const y = Math.round((box.top + row * box.line) * ratio) / ratio;
      pen.fillRect(x, y, Math.ceil(box.side * ratio) / ratio - gap, Math.ceil(box.line * ratio) / ratio - gap);
    }),
  );
  if (box.named) nameCells(pen, state, box);
  if (box.side >= 34) numberCells(pen, state, box, colours, level);
  if (state.at) {
    pen.strokeStyle = `rgb(${themeColour("--ink")})`;
    pen.lineWidth = 2;
    pen.strokeRect(box.left + state.at[1] * box.side, box.top + state.at[0] * box.line, box.side, box.line);
  }
}

const MOST_LETTERS = 14;
const LARGEST_CELL = 88;
const CANVAS_FONT = "-apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif";

function clipped(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}\u2026` : text;
}

function nameCells(pen, { rowNames, columnNames }, { left, top, side, line, slanted }) {
  pen.fillStyle = `rgb(${themeColour("--quiet")})`;
  pen.font = `11px ${CANVAS_FONT}`;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  rowNames.forEach((text, row) => pen.fillText(clipped(text, MOST_LETTERS), left - 6, top + (row + 0.5) * line));
  pen.textAlign = slanted ? "left" : "center";
  columnNames.forEach((text, column) => {
    pen.save();
    pen.translate(left + (column + 0.5) * side, top - 8);
    if (slanted) pen.rotate(-Math.PI / 4);
    pen.fillText(clipped(text, MOST_LETTERS), 0, 0);
    pen.restore();
  });
}

function numberCells(pen, { matrix, numbers }, { left, top, side, line: high }, colours, level) {
  pen.font = `${high > 50 ? 13 : 11}px ${CANVAS_FONT}`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  matrix.forEach((line, row) =>
    line.forEach((value, column) => {
      const [r, g, b] = colours[level(value)];
      pen.fillStyle = 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#14161a" : "#ffffff";
      pen.fillText(numbers(value), left + (column + 0.5) * side, top + (row + 0.5) * high);
    }),
  );
}
