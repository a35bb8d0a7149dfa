// The other sections. Each function returns what stands under its heading, or null when there is nothing to show.

const FEW = 12; // clusters whose faces may stand before the scores

function overview() {
  const done = clusters.length > 0;
  const title = done
    ? `${counted(run.n_images, "image")} in ${counted(run.clusters_used ?? clusters.length, "cluster")}`
    : `${counted(run.n_images, "image")}, still training`;
  return [
    el("p", { class: "kicker" }, name(run.name)),
    el("h1", {}, title),
    el(
      "p",
      { class: "lead" },
      run.method_title ?? run.method,
      run.preset && run.preset !== "default" ? `, preset ${run.preset}` : null,
      " on ",
      name(run.source),
      ".",
    ),
    run.method_source ? el("p", { class: "quiet" }, run.method_source) : null,
    unfinished(),
    run.sample_note ? el("p", { class: "notice" }, run.sample_note) : null,
    headlineFacts(),
    clusters.length > FEW ? [scoreCards(), faces()] : [faces(), scoreCards()],
  ];
}

function unfinished() {
  if (run.finished) return null;
  const [command] = data.next;
  const missing = clusters.length ? "" : " The clusters, the map and the neighbours come when it is finished.";
  return el(
    "div",
    { class: "notice" },
    el(
      "p",
      {},
      el("b", {}, `This run is not finished: epoch ${run.epochs_done ?? 0} of ${run.epochs ?? "?"}. `),
      `Shown is what there is.${missing}`,
    ),
    command ? commandLine(command) : null,
  );
}

function headlineFacts() {
  const used = run.clusters_used;
  const empty = used !== null && used !== run.n_clusters ? ` of ${whole.format(run.n_clusters)}` : "";
  return facts(
    [
      ["Images", whole.format(run.n_images)],
      [
        "Clusters",
        used === null || !clusters.length
          ? `${whole.format(run.n_clusters)} asked for`
          : `${whole.format(used)}${empty}`,
      ],
      [
        "Could not be read",
        el("a", { href: data.bad_files.length ? "#bad-files" : null }, counted(run.n_bad ?? 0, "file")),
      ],
      ["Time", duration(run.minutes)],
      [
        "Epochs",
        run.epochs === null
          ? null
          : run.finished
            ? whole.format(run.epochs_done ?? run.epochs)
            : `${run.epochs_done} of ${run.epochs}`,
      ],
      ["Picture size", sizeWords(run.image_size)],
      ["Made", run.created ? String(run.created).slice(0, 10) : null],
    ],
    "facts headline",
  );
}

function sizeWords(size) {
  if (size === null || size === undefined) return null;
  const sides = Array.isArray(size) ? size : [size, size];
  return `${sides.join(" \u00d7 ")} px`;
}

function scoreCards() {
  if (!data.scores.length) return null;
  return el(
    "ul",
    { class: "scores", "aria-label": "Scores" },
    data.scores.map((score) =>
      el(
        "li",
        {},
        el(
          "p",
          { class: "score-name" },
          score.name,
          el("span", { class: score.labels ? "tag used" : "tag" }, score.labels ? "used labels" : "no labels used"),
        ),
        el("p", { class: "score-value" }, score.shown),
        el("p", { class: "quiet" }, score.meaning),
      ),
    ),
  );
}

// The most typical image of each cluster: a contents list that one sees.
function faces() {
  const used = clusters.filter((cluster) => cluster.size && cluster.typical.length);
  if (used.length < 2) return null;
  const links = used.map((cluster) =>
    el(
      "li",
      {},
      el(
        "a",
        {
          href: `#cluster-${cluster.number}`,
          title: `${clusterName(cluster.number)}: ${counted(cluster.size, "image")}`,
          "aria-label": `${clusterName(cluster.number)}, ${counted(cluster.size, "image")}`,
        },
        picture(cluster.typical[0], true),
        el("span", {}, clusterMark(cluster.number), cluster.name ?? cluster.number),
      ),
    ),
  );
  return el(
    "nav",
    { "aria-label": "Clusters, by their most typical image" },
    el("ul", { class: used.length > FEW ? "faces" : "faces few" }, links),
  );
}

// Training.

const NATS = "loss (nats)";

function trainingSection() {
  const { training } = data;
  if (!training?.epoch?.length) return null;
  return [
    el(
      "p",
      { class: "lead" },
      "What happened epoch by epoch. Point at a chart, or use the arrow keys in it, to read all of them.",
    ),
    el("div", { class: "panels" }, trainingCharts(training)),
    momentsPanel(),
    trainingMessages(training),
    trainingTable(training),
  ];
}

function trainingCharts({
  epoch: x,
  terms,
  loss,
  effective_clusters: effective,
  confidence,
  learning_rate: rate,
  images_per_second: speed,
  pairs,
}) {
  const one = (title, yTitle, values, more = {}) =>
    values && lineChart({ title, yTitle, x, series: [{ name: title, values }], ...more });
  const names = Object.keys(terms ?? {});
  const total = names.length > 1 || !names.length ? one("Loss, all terms", NATS, loss) : null;
  return [
    total,
    names.map((term) => one(`Loss: ${spaced(term)}`, NATS, terms[term])),
    one("Effective clusters", "clusters", effective, { zero: true }),
    one("Mean confidence", "probability", confidence),
    pairs ? pairCharts(x, pairs) : null,
    one("Learning rate", "step size", rate, { zero: true }),
    one("Speed", "images / second", speed, { zero: true }),
  ];
}

function pairCharts(x, pairs) {
  return ["instance", "cluster"].map((level) =>
    lineChart({
      title: level === "instance" ? "Pairs of images" : "Pairs of clusters",
      yTitle: "cosine similarity",
      x,
      series: [
        { name: "same", values: pairs[`${level}_positive`] ?? [] },
        { name: "different", values: pairs[`${level}_negative`] ?? [] },
      ],
    }),
  );
}

function spaced(term) {
  return term.replaceAll("_", " ");
}

function momentsPanel() {
  const moments = data.map?.moments;
  if (!moments?.length) return null;
  const figures = moments.map((moment) => {
    const canvas = el("canvas", {
      class: "moment",
      role: "img",
      "aria-label": `Map, ${moment.title}: ${counted(moment.x.length, "image")}`,
    });
    whenSeen(canvas, () => {
      new ResizeObserver(() => drawMoment(canvas, moment)).observe(canvas);
      onTheme(() => drawMoment(canvas, moment));
    });
    return el("figure", { class: "panel" }, el("figcaption", {}, moment.title), canvas);
  });
  const coloured = moments.some((moment) => moment.label) ? "label" : "cluster";
  return [
    el("h3", {}, "How the map came about"),
    el(
      "p",
      { class: "quiet" },
      `The same images at ${counted(moments.length, "moment")} of the training, coloured by ${coloured}.`,
    ),
    el("div", { class: "moments" }, figures),
  ];
}

function drawMoment(canvas, { index, x, y, cluster, label }) {
  const ratio = Math.min(devicePixelRatio || 1, 2);
  const side = Math.round(canvas.clientWidth * ratio);
  if (!side) return;
  canvas.width = side;
  canvas.height = side;
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(side, side);
  const place = (number) => clusterOf.get(number)?.place ?? 0;
  const kinds = Uint16Array.from(x, (_, i) =>
    label
      ? label[i] < 0
        ? data.label_names.length
        : label[i]
      : place(cluster ? cluster[i] : images.cluster[index[i]]),
  );
  const points = {
    xs: Float32Array.from(x, (value) => value / WORLD),
    ys: Float32Array.from(y, (value) => value / WORLD),
    order: shuffled(x.length),
    kinds,
  };
  const kindsThere = kinds.reduce((a, b) => Math.max(a, b), 0) + 1;
  const looks = Array.from({ length: kindsThere }, (_, at) => ({
    colour: packed(placeColour(at)),
    shape: look(at).shape,
  }));
  const pad = 10 * ratio;
  const radius = Math.min(4, Math.max(1.4, (canvas.clientWidth / Math.sqrt(x.length)) * 0.22)) * ratio;
  paintDots(
    image,
    points,
    { scale: side - 2 * pad, left: pad, top: pad },
    { looks, radius, ground: packed(themeColour("--surface")) },
  );
  pen.putImageData(image, 0, 0);
}

function trainingMessages({ messages }) {
  if (!messages?.length) return null;
  return el(
    "details",
    {},
    el("summary", {}, counted(messages.length, "message")),
    el(
      "ul",
      {},
      messages.map(({ epoch, text }) => el("li", {}, `Epoch ${epoch}: ${text}`)),
    ),
  );
}

// The numbers behind the charts, for those who cannot see them or want to copy them.
function trainingTable({ epoch, terms, loss, effective_clusters: effective, confidence }) {
  const columns = [
    ["epoch", epoch],
    ["loss", loss],
    ...Object.entries(terms ?? {}),
    ["effective clusters", effective],
    ["mean confidence", confidence],
  ].filter(([, values]) => values?.length);
  const place = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Training, epoch by epoch" });
  const made = el("details", {}, el("summary", {}, "The numbers as a table"), place);
  made.addEventListener("toggle", () => {
    if (place.firstChild) return;
    const rows = epoch.map((_, i) => columns.map(([key, values]) => (key === "epoch" ? values[i] : short(values[i]))));
    place.append(
      table(
        "Training, epoch by epoch",
        columns.map(([key]) => spaced(key)),
        rows,
      ),
    );
  });
  return made;
}

function table(caption, heads, rows, { rowHeads = false } = {}) {
  return el(
    "table",
    {},
    el("caption", {}, caption),
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        heads.map((head) => el("th", { scope: "col" }, head)),
      ),
    ),
    el(
      "tbody",
      {},
      rows.map((row) =>
        el(
          "tr",
          {},
          row.map((value, i) => (rowHeads && !i ? el("th", { scope: "row" }, value) : el("td", {}, value))),
        ),
      ),
    ),
  );
}

// Affinity.

function affinitySection() {
  const { affinity } = data;
  if (!affinity) return null;
  return [
    el(
      "p",
      { class: "lead" },
      "How alike images and clusters are to the network: bright blocks on the diagonal and little beside them mean clear clusters.",
    ),
    el(
      "div",
      { class: "panels wide-panels" },
      affinity.samples && samplesPanel(affinity.samples, affinity.clusters.order),
      affinity.clusters && affinityHeat(affinity.clusters),
    ),
  ];
}

function samplesPanel({ png, bounds, count: shown, low, high }, order) {
  const ends = [...bounds.slice(1), shown];
  const picturePart = el("img", {
    src: png,
    alt: `Similarity of ${counted(shown, "image")} with each other, sorted by cluster`,
    class: "samples",
  });
  const lines = bounds
    .filter(Boolean)
    .map((at) => svg("path", { d: `M0 ${at}H${shown}M${at} 0V${shown}`, "vector-effect": "non-scaling-stroke" }));
  const readout = el("p", { class: "readout" }, "Images sorted by cluster; the thin lines part the clusters.");
  const holder = el(
    "div",
    { class: "samples-holder" },
    picturePart,
    lines.length < 60
      ? svg("svg", { viewBox: `0 0 ${shown} ${shown}`, preserveAspectRatio: "none", "aria-hidden": "true" }, lines)
      : null,
  );
  const clusterAt = (part) => order[ends.findIndex((end) => part * shown < end)];
  holder.addEventListener("pointermove", (event) => {
    const box = holder.getBoundingClientRect();
    const [column, row] = [
      clusterAt((event.clientX - box.left) / box.width),
      clusterAt((event.clientY - box.top) / box.height),
    ];
    if (row !== undefined && column !== undefined)
      readout.textContent =
        row === column
          ? `Images of cluster ${row} with each other`
          : `Images of cluster ${row} with those of cluster ${column}`;
  });
  return el(
    "figure",
    { class: "panel" },
    el("figcaption", {}, `${counted(shown, "image")} with each other`),
    readout,
    holder,
    el("p", { class: "quiet axis-words" }, "\u2193 images by cluster \u00b7 \u2192 the same images; cosine similarity"),
    scaleBar(low, high, "viridis"),
  );
}

function affinityHeat({ matrix, order }) {
  const values = matrix.flat();
  const [low, high] = extent(values);
  const names = order.map(String);
  return heatmap({
    title: "Clusters with each other",
    matrix,
    low,
    high,
    colours: "viridis",
    numbers: (value) => value.toFixed(2),
    rowNames: names,
    columnNames: names,
    rowTitle: "cluster",
    columnTitle: "cluster; cosine similarity of their means",
    words: (row, column) => {
      const other = clusterName(order[column]).replace("Cluster", "cluster");
      return `${clusterName(order[row])} and ${other}: ${matrix[row][column].toFixed(2)}`;
    },
  });
}

// Neighbours: some images and those near them.

const EXAMPLES = 6;

function neighbourSection() {
  if (!neighbours?.ranks.length) return null;
  const used = clusters.filter((cluster) => cluster.typical.length);
  const place = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Examples of neighbours" });
  let start = 0;
  const show = () => place.replaceChildren(neighbourTable(used, start));
  const more =
    used.length > EXAMPLES
      ? button("Other examples", () => {
          start = (start + EXAMPLES) % used.length;
          show();
        })
      : null;
  whenSeen(place, show);
  return [
    el(
      "p",
      { class: "lead" },
      "One typical image of a cluster, and those nearest to it by embedding. Any image of this report opens its own neighbours.",
    ),
    place,
    more,
  ];
}

function neighbourTable(used, start) {
  const chosen = Array.from({ length: Math.min(EXAMPLES, used.length) }, (_, i) => used[(start + i) % used.length]);
  const rows = chosen.map(({ typical: [image] }) => {
    const near = neighboursOf(image);
    const list = [image, ...near.map((one) => one.image)];
    return [
      tile(image, list, "an example and its neighbours", { big: true }),
      ...near.map((one) => neighbourTile(one, image, list, "an example and its neighbours")),
    ];
  });
  const made = table(
    "Nearest images by embedding, and their cosine similarity",
    ["image", ...neighbours.ranks.map((rank) => `${ordinal(rank)} nearest`)],
    rows,
  );
  made.classList.add("near-table");
  return made;
}

// Confusion.

function confusionSection() {
  const { confusion } = data;
  if (!confusion) return null;
  const { matrix, clusters: numbers, labels } = confusion;
  const totals = matrix.map((row) => row.reduce((a, b) => a + b, 0));
  const called = labels.map(labelName);
  const sentence = (row, column) =>
    `${clusterName(numbers[row])}: ${counted(matrix[row][column], "image")} with the label ${called[column]} ` +
    `(${share(matrix[row][column] / (totals[row] || 1))} of the cluster)`;
  return [
    el(
      "p",
      { class: "lead" },
      "Which labels went into which cluster, after the best one-to-one matching of the two: what lies beside the diagonal is mixed up. ",
      el("span", { class: "tag used" }, "used labels"),
    ),
    el(
      "div",
      { class: "panels single" },
      heatmap({
        title: "Clusters and labels",
        matrix,
        low: 0,
        high: extent(matrix.flat(), { zero: true })[1],
        words: sentence,
        numbers: (value) => (value > 9999 ? short(value) : value ? String(value) : ""),
        rowNames: numbers.map(String),
        columnNames: called,
        rowTitle: "cluster",
        columnTitle: "label; images",
      }),
    ),
    confusionTable(matrix, numbers, called),
  ];
}

function confusionTable(matrix, numbers, called) {
  const place = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Clusters and labels" });
  const made = el("details", {}, el("summary", {}, "The numbers as a table"), place);
  made.addEventListener(
    "toggle",
    () =>
      place.firstChild ||
      place.append(
        table(
          "Images by cluster (rows) and label (columns)",
          ["cluster", ...called],
          matrix.map((row, i) => [numbers[i], ...row]),
          { rowHeads: true },
        ),
      ),
  );
  return made;
}

// Bad files, how it was made, what next.

function badSection() {
  const bad = data.bad_files;
  if (!bad.length) return null;
  const more =
    run.n_bad > bad.length
      ? `The first ${bad.length} of ${whole.format(run.n_bad)}; bad_files.csv has all.`
      : "They were left out; nothing else was changed.";
  return [
    el("p", { class: "lead" }, more),
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Files that could not be read" },
      table(
        "Files that could not be read",
        ["file", "reason"],
        bad.map(({ id, reason }) => [name(id), el("bdi", {}, reason)]),
      ),
    ),
  ];
}

// A line may break between the words of a command, not at the hyphens in them.
function commandWords(text) {
  return text.split(/( +)/).map((part) => (part.trim() ? el("span", {}, part) : part));
}

function commandLine(text) {
  return el(
    "div",
    { class: "command" },
    el("code", { dir: "ltr" }, commandWords(text)),
    copyButton(text.split(/ {2,}/)[0], "the command"),
  );
}

function madeSection() {
  const { settings, versions, command, notes, cite } = data.made;
  const pairs = (given) => Object.entries(given ?? {}).map(([key, value]) => [key, valueWords(value)]);
  return [
    command ? [el("h3", {}, "Command"), commandLine(command)] : null,
    notes?.length
      ? [
          el("h3", {}, "Why so"),
          el(
            "ul",
            { class: "notes" },
            notes.map((note) => el("li", {}, note)),
          ),
        ]
      : null,
    el(
      "div",
      { class: "columns" },
      settingsPart("Settings", pairs(settings), "Every setting of this run"),
      settingsPart("Versions", pairs(versions), "Versions of what was used"),
    ),
    cite
      ? [
          el("h3", {}, "How to cite the method"),
          el(
            "div",
            { class: "cite" },
            el("pre", { tabindex: "0", "aria-label": "BibTeX" }, cite),
            copyButton(cite, "the BibTeX entry"),
          ),
        ]
      : null,
  ];
}

function settingsPart(title, rows, caption) {
  if (!rows.length) return null;
  return el(
    "div",
    {},
    el("h3", {}, title),
    el(
      "div",
      { class: "scroll tall", tabindex: "0", role: "region", "aria-label": title },
      table(
        caption,
        ["name", "value"],
        rows.map(([key, value]) => [key, el("bdi", {}, value)]),
        { rowHeads: true },
      ),
    ),
  );
}

function valueWords(value) {
  if (value === null || value === undefined) return "\u2013";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function nextSection() {
  if (!data.next.length) return null;
  return [
    el("p", { class: "lead" }, "Commands for this run; run them where the report was made."),
    data.next.map(commandLine),
  ];
}
