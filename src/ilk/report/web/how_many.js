// How many clusters: the score of each number that was tried, and the levels of the tree to look through.

const how = data.how_many ?? null;
const tree = how?.levels && makeTree(how.levels);
const CRITERIA = {
  stability: "two random parts of the images give the same clusters",
  views: "two views of an image are in the same cluster",
  neighbours: "neighbours are in the same cluster",
  generalisation: "a linear classifier predicts the cluster of an image it has not seen",
  silhouette: "clusters are tight and apart, from \u22121 to 1",
};
const LEVEL_TILES = 8;

// The finest clusters stand in a line; a cluster of any level is a stretch of it.
function makeTree({ start, sizes, leaf, dtype, typical }) {
  const bytes = decoded(leaf);
  const places = dtype === "uint16" ? new Uint16Array(bytes.buffer) : bytes;
  const imagesAt = start.map(() => []);
  places.forEach((place, image) => imagesAt[place].push(image));
  return { most: start.length, start, sizes, places, imagesAt, typical };
}

// The clusters when there are k, by number: where each is in the line, and how many images it has.
function clustersAt(k) {
  const numbers = Array.from({ length: k }, (_, number) => number).sort((a, b) => tree.start[a] - tree.start[b]);
  const found = new Array(k);
  numbers.forEach((number, i) => {
    const from = tree.start[number];
    const to = i + 1 < k ? tree.start[numbers[i + 1]] : tree.most;
    const size = tree.sizes.slice(from, to).reduce((a, b) => a + b, 0);
    found[number] = { number, from, to, size };
  });
  return found;
}

// The cluster's number of each image when there are k.
function numbersAt(k) {
  const at = new Uint16Array(tree.most);
  for (const { number, from, to } of clustersAt(k)) at.fill(number, from, to);
  return Uint16Array.from(tree.places, (place) => at[place]);
}

// What is looked at, shared by the slider, the chart, the cards and the map.

const looked = { k: null, low: 2, high: 2, followers: [] };

function startLooking() {
  const ks = how.curve?.k ?? [];
  looked.low = tree ? 2 : ks[0];
  looked.high = tree ? tree.most : ks[ks.length - 1];
  looked.k = between(how.chosen ?? 2);
}

function between(k) {
  return Math.min(Math.max(k, looked.low), looked.high);
}

function lookAt(k) {
  if (between(k) === looked.k) return;
  looked.k = between(k);
  looked.followers.forEach((follow) => follow());
}

// Calls `show` now and whenever another number is looked at.
function onLook(show) {
  looked.followers.push(show);
  show();
}

function levelControl() {
  const id = `levels-${looked.followers.length}`;
  const slider = el("input", {
    type: "range",
    id,
    min: looked.low,
    max: looked.high,
    step: 1,
    input: () => lookAt(slider.valueAsNumber),
  });
  const less = stepButton("One cluster fewer", "\u2212", () => lookAt(looked.k - 1));
  const more = stepButton("One cluster more", "+", () => lookAt(looked.k + 1));
  const shown = el("b");
  onLook(() => {
    slider.value = looked.k;
    slider.setAttribute("aria-valuetext", levelWords(looked.k));
    shown.textContent = looked.k;
    less.disabled = looked.k === looked.low;
    more.disabled = looked.k === looked.high;
  });
  return el(
    "div",
    { class: "level-control", role: "group", "aria-label": "Level of the tree" },
    el("label", { for: id }, "Number of clusters ", shown),
    less,
    slider,
    more,
  );
}

function levelWords(k) {
  return k === how.chosen ? `${counted(k, "cluster")}, the number chosen` : counted(k, "cluster");
}

function howManySection() {
  if (!how) return null;
  startLooking();
  return [
    el(
      "p",
      { class: "lead" },
      how.sentence ?? "Every number of clusters that was tried, and the tree that they were taken from.",
    ),
    choiceFacts(),
    how.curve ? curvePanel(how.curve) : null,
    tree ? levelsPart() : null,
  ];
}

function choiceFacts() {
  const { chosen, range, sure, asked, curve } = how;
  const tried = curve && [curve.k[0], curve.k[curve.k.length - 1]];
  return facts(
    [
      ["Chosen", chosen === null ? null : counted(chosen, "cluster")],
      ["Nearly as good", range && (range[0] < range[1] ? `${range[0]} to ${range[1]}` : "no other")],
      ["How sure", sure],
      ["Asked for", asked && el("bdi", {}, asked)],
      ["Tried", tried && (tried[0] < tried[1] ? `${tried[0]} to ${tried[1]}` : tried[0])],
    ],
    "facts headline",
  );
}

// The levels as cards.

function levelsPart() {
  const heading = el("h3", { id: "level-title" });
  const cut = el("p", { class: "cut-words", "aria-live": "polite" });
  const place = el("div", { class: "cards level-cards", role: "group", "aria-labelledby": "level-title" });
  const cards = new Map(); // a card for each stretch of the line, made once
  const cardOf = (one) => {
    const key = `${one.number} ${one.from} ${one.to}`;
    if (!cards.has(key)) cards.set(key, levelCard(one));
    return cards.get(key);
  };
  onLook(() => {
    const found = clustersAt(looked.k);
    const parts = cutAt(looked.k, found);
    heading.textContent = `The tree at ${levelWords(looked.k)}`;
    cut.replaceChildren(...cutWords(looked.k, parts));
    const shown = found.filter((one) => one.size).sort((a, b) => b.size - a.size || a.number - b.number);
    place.replaceChildren(...shown.map(cardOf));
    shown.forEach((one) => cardOf(one).classList.toggle("just-cut", parts.includes(one)));
  });
  const back = between(how.chosen ?? looked.k);
  return [
    heading,
    el(
      "p",
      { class: "quiet" },
      "Each level cuts one cluster of the level before: the larger part keeps its number. The numbers are those of ",
      "hierarchy.parquet in the run folder, not those of the run\u2019s own clusters.",
    ),
    el(
      "div",
      { class: "controls" },
      levelControl(),
      el(
        "div",
        { class: "actions" },
        how.chosen === null
          ? null
          : button(`Back to ${back}`, () => lookAt(back), {
              class: "small",
              "aria-label": `Back to ${back}, the number chosen`,
            }),
        button("Colour the map by this level", () => mapView?.showLevel(), { class: "small" }),
      ),
    ),
    cut,
    place,
  ];
}

// The two parts that the cut to k clusters made, the one that kept its number first.
function cutAt(k, found = clustersAt(k)) {
  const made = found[k - 1];
  const kept = found.find((one) => one.to === made.from && one !== made);
  return made.size && kept ? [kept, made] : [];
}

function cutWords(k, [kept, made]) {
  if (!made) return ["This level cuts off a cluster that no image is in."];
  const part = ({ number, size }) =>
    el("span", { class: "cut-part" }, mark(number), `tree cluster ${number} (${counted(size, "image")})`);
  const both = counted(kept.size + made.size, "image");
  const before = k === 2 ? `All ${both} were` : ["Tree cluster ", `${kept.number}, of ${both}, was`];
  return [before, " cut into ", part(kept), " and ", part(made), "."].flat();
}

function levelCard(one) {
  const { number, from, to, size } = one;
  const title = `tree-cluster-${number}-${from}-${to}`;
  const typical = typicalOf(one);
  const tiles = el("div", { class: "level-tiles" });
  const fillTiles = () => {
    const first = new Set(typical);
    const all = tree.imagesAt.slice(from, to).flat();
    const list = [...typical, ...all.filter((image) => !first.has(image))];
    const about = `tree cluster ${number}, typical images first`;
    tiles.replaceChildren(
      typical.length
        ? grid(
            typical.map((image) => tile(image, list, about)),
            `Typical of tree cluster ${number}`,
            "row-grid",
          )
        : el("p", { class: "quiet" }, "None of its images is among those shown."),
    );
  };
  reserveRows(tiles, typical.length);
  whenSeen(tiles, fillTiles);
  return el(
    "article",
    { class: "card", "aria-labelledby": title },
    el(
      "header",
      {},
      el("h4", { id: title }, mark(number), `Tree cluster ${number}`, el("span", { class: "tag" }, "just cut")),
      el("p", { class: "quiet" }, `${counted(size, "image")}, ${share(size / run.n_images)}`),
    ),
    el(
      "span",
      { class: "bar-ground", "aria-hidden": "true" },
      el("span", { style: { width: `${(100 * size) / run.n_images}%` } }),
    ),
    tiles,
    el(
      "footer",
      {},
      inTheRun(one),
      button("Map", () => mapView?.showLevel(number), {
        class: "small",
        "aria-label": `Show tree cluster ${number} on the map`,
      }),
    ),
  );
}

// Typical images of the finest clusters inside, as many of each as its size earns.
function typicalOf({ from, to }) {
  const parts = [];
  for (let place = from; place < to; place++)
    if (tree.typical[place].length) parts.push({ list: tree.typical[place], size: tree.sizes[place], given: 0 });
  const found = [];
  while (found.length < LEVEL_TILES) {
    const open = parts.filter((part) => part.given < part.list.length);
    if (!open.length) break;
    const next = open.reduce((a, b) => (b.size / (b.given + 1) > a.size / (a.given + 1) ? b : a));
    found.push(next.list[next.given++]);
  }
  return found;
}

// The run's own clusters that these images are in.
function inTheRun({ from, to }) {
  const sizes = new Map();
  let total = 0;
  for (const image of tree.imagesAt.slice(from, to).flat()) {
    sizes.set(images.cluster[image], (sizes.get(images.cluster[image]) ?? 0) + 1);
    total += 1;
  }
  if (!total) return null;
  const first = [...sizes].sort((a, b) => b[1] - a[1]).slice(0, 2);
  const shownOnly = run.shown < run.n_images ? " of those shown" : "";
  return el(
    "p",
    { class: "in-the-run" },
    el("span", { class: "quiet" }, `In the run${shownOnly}: `),
    first.map(([number, size], i) => [
      i ? ", " : null,
      el(
        "a",
        { href: `#cluster-${number}` },
        clusterOf.get(number)?.name ?? `cluster ${number}`,
      ),
      el("span", { class: "quiet" }, ` ${share(size / total)}`),
    ]),
  );
}
