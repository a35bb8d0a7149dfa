// The score of each number of clusters: a line with its error, the choice, and each criterion alone.

const CRITERION_LOOKS = [
  ["var(--line-0)", "6 3"],
  ["var(--line-1)", "2 3"],
  ["var(--line-2)", "8 3 2 3"],
  ["var(--sure)", "4 2 1 2 1 2"],
  ["var(--line-3)", "1 2"],
];
const CURVE_HEIGHT = 280;

function curvePanel(curve) {
  const chosen = new Set(Object.keys(curve.criteria));
  const readout = el("p", { class: "readout" });
  const holder = el("div", { class: "curve-holder" });
  const state = { curve, chosen, holder, readout, pointed: null, at: null, cursor: null };
  const redraw = () => drawCurve(state);
  new ResizeObserver(redraw).observe(holder);
  const node = el(
    "figure",
    {
      class: "panel",
      tabindex: "0",
      "aria-label": "Score by number of clusters; arrow keys read the numbers",
    },
    el("figcaption", {}, "How good is each number of clusters?"),
    readout,
    holder,
    curveKey(state, redraw),
  );
  node.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    if (!(event.key in steps) || event.target !== node || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    lookAt(looked.k + steps[event.key]);
    say([...readout.children].map((one) => one.textContent).join(", "));
  });
  onLook(() => readCurve(state));
  return [el("div", { class: "panels single curve-panel" }, node), curveTable(curve)];
}

// What each line is; those of single criteria can be left out.
function curveKey({ curve, chosen }, redraw) {
  const sample = (colour, dash, wide) =>
    svg(
      "svg",
      { class: "dash", viewBox: "0 0 18 6", "aria-hidden": "true" },
      svg("path", { d: "M0 3H18", "stroke-dasharray": dash, style: { stroke: colour, "stroke-width": wide } }),
    );
  const criteria = Object.keys(curve.criteria).map((criterion, i) => {
    const box = el("input", {
      type: "checkbox",
      checked: true,
      change: () => {
        if (box.checked) chosen.add(criterion);
        else chosen.delete(criterion);
        redraw();
      },
    });
    return el("label", { title: CRITERIA[criterion] }, box, sample(...CRITERION_LOOKS[i], 1.5), criterion);
  });
  return [
    el(
      "fieldset",
      { class: "curve-key" },
      el("legend", { class: "unseen" }, "Lines"),
      el("span", {}, sample("var(--ink)", null, 2.5), "score, with its standard error"),
      how.range && how.range[0] < how.range[1]
        ? el("span", {}, el("i", { class: "range-sample", "aria-hidden": "true" }), "nearly as good")
        : null,
      criteria,
    ),
    el(
      "p",
      { class: "quiet axis-words" },
      "The score is the weighted sum of the criteria: how much better clusters agree than arbitrary cuts would (nats; ",
      "the silhouette goes from \u22121 to 1).",
    ),
  ];
}

function drawCurve(state) {
  const { curve, chosen, holder } = state;
  const width = Math.min(holder.clientWidth, 1100);
  if (!width) return;
  const box = { width, height: CURVE_HEIGHT, left: 46, right: 14, top: 22, bottom: 38 };
  const { k, score, error } = curve;
  const shown = Object.entries(curve.criteria).map(([criterion, values], i) => ({ criterion, values, i }));
  const lines = shown.filter(({ criterion }) => chosen.has(criterion));
  const ends = score.flatMap((value, i) => [value - error[i], value + error[i]]);
  const xRange = extent(k);
  const yRange = rounded(extent([...ends, ...lines.flatMap(({ values }) => values)]));
  const at = scales(xRange, yRange, box);
  state.cursor = svg(
    "g",
    { class: "cursor" },
    svg("line", { y1: box.top, y2: box.height - box.bottom }),
    svg("circle", { r: 4, style: { fill: "var(--ink)" } }),
  );
  state.at = at;
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${width} ${box.height}`, role: "img", "aria-label": curveWords(curve), class: "chart" },
    rangeBand(at, xRange, box),
    axes({ xRange, yRange, xTitle: "number of clusters", yTitle: "score (nats)", xWanted: 8, wholeX: true }, at, box),
    yRange[0] < 0 && yRange[1] > 0
      ? svg("line", { class: "ideal", x1: box.left, x2: width - box.right, y1: at.y(0), y2: at.y(0) })
      : null,
    svg("path", { class: "error-band", d: bandPath(k, score, error, at) }),
    lines.map(({ values, i }) =>
      svg("path", {
        class: "line thin",
        d: linePath(k, values, at),
        "stroke-dasharray": CRITERION_LOOKS[i][1],
        style: { stroke: CRITERION_LOOKS[i][0] },
      }),
    ),
    svg("path", { class: "line score-line", d: linePath(k, score, at) }),
    k.length < 30
      ? k.map((one, i) => svg("circle", { class: "score-dot", cx: at.x(one), cy: at.y(score[i]), r: 2.5 }))
      : null,
    chosenMark(at, curve, box),
    state.cursor,
  );
  drawing.addEventListener("pointermove", (event) => {
    state.pointed = nearestNumber(state, event, drawing);
    readCurve(state);
  });
  drawing.addEventListener("pointerleave", () => {
    state.pointed = null;
    readCurve(state);
  });
  drawing.addEventListener("click", (event) => lookAt(nearestNumber(state, event, drawing)));
  holder.replaceChildren(drawing);
  readCurve(state);
}

function rangeBand(at, [first, last], box) {
  if (!how.range || how.range[0] === how.range[1]) return null;
  const [low, high] = [Math.max(first, how.range[0] - 0.5), Math.min(last, how.range[1] + 0.5)];
  if (high <= low) return null;
  const height = box.height - box.top - box.bottom;
  return svg("rect", { class: "range-band", x: at.x(low), width: at.x(high) - at.x(low), y: box.top, height });
}

function bandPath(k, score, error, at) {
  const point = (sign) => (one, i) => `${at.x(one).toFixed(1)} ${at.y(score[i] + sign * error[i]).toFixed(1)}`;
  const below = k.map(point(-1)).reverse();
  return `M${[...k.map(point(1)), ...below].join("L")}Z`;
}

function chosenMark(at, { k, score }, box) {
  const place = k.indexOf(how.chosen);
  if (place < 0) return null;
  const x = at.x(how.chosen);
  const anchor = x > box.width - 80 ? "end" : x < box.left + 40 ? "start" : "middle";
  return svg(
    "g",
    { class: "chosen-mark" },
    svg("line", { x1: x, x2: x, y1: box.top, y2: box.height - box.bottom }),
    svg("circle", { cx: x, cy: at.y(score[place]), r: 4.5 }),
    svg("text", { x, y: box.top - 8, "text-anchor": anchor }, `chosen: ${how.chosen}`),
  );
}

function nearestNumber({ curve, at }, event, drawing) {
  const box = drawing.getBoundingClientRect();
  const wanted = ((event.clientX - box.left) / box.width) * drawing.viewBox.baseVal.width;
  return curve.k.reduce((best, k) => (Math.abs(at.x(k) - wanted) < Math.abs(at.x(best) - wanted) ? k : best));
}

// The numbers at the k pointed at, or else at the one that is looked at.
function readCurve({ curve, readout, pointed, at, cursor }) {
  const k = pointed ?? looked.k;
  const place = curve.k.indexOf(k);
  const value = (title, words) => el("span", {}, `${title} `, el("b", {}, words));
  readout.replaceChildren(
    el("b", {}, counted(k, "cluster")),
    ...(place < 0
      ? ["not scored"]
      : [
          value("score", `${withError(curve, place)}`),
          ...Object.entries(curve.criteria).map(([name, values]) =>
            value(name, values[place] === null ? "\u2013" : short(values[place])),
          ),
        ]),
  );
  if (!cursor) return;
  cursor.setAttribute("visibility", place < 0 || (k === how.chosen && pointed === null) ? "hidden" : "visible");
  if (place < 0) return;
  cursor.firstChild.setAttribute("x1", at.x(k));
  cursor.firstChild.setAttribute("x2", at.x(k));
  cursor.lastChild.setAttribute("transform", `translate(${at.x(k)} ${at.y(curve.score[place])})`);
}

function withError({ score, error }, place) {
  return `${short(score[place])} \u00b1 ${Number(error[place].toPrecision(2))}`;
}

function curveWords({ k, score, error, criteria }) {
  const highest = (values) => k[values.reduce((best, value, i) => (value > (values[best] ?? -Infinity) ? i : best), 0)];
  const best = k.indexOf(how.chosen);
  return [
    `Score of ${k[0]} to ${k[k.length - 1]} clusters`,
    best < 0 ? null : `chosen is ${how.chosen} with ${withError({ score, error }, best)} nats`,
    how.range && how.range[0] < how.range[1] ? `${how.range[0]} to ${how.range[1]} are nearly as good` : null,
    ...Object.entries(criteria).map(([name, values]) => `${name} alone is highest at ${highest(values)}`),
  ]
    .filter(Boolean)
    .join("; ");
}

function curveTable({ k, score, error, criteria }) {
  const place = el("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Scores by number" });
  const made = el("details", {}, el("summary", {}, "The numbers as a table"), place);
  const columns = Object.values(criteria);
  made.addEventListener("toggle", () => {
    if (place.firstChild) return;
    place.append(
      table(
        "Each number of clusters that was tried",
        ["clusters", "score", "standard error", ...Object.keys(criteria)],
        k.map((one, i) => [
          one === how.chosen ? `${one} (chosen)` : one,
          ...[score, error, ...columns].map((values) => (values[i] === null ? "\u2013" : short(values[i]))),
        ]),
        { rowHeads: true },
      ),
    );
  });
  return made;
}
