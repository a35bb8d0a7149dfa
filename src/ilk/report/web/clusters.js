// The cluster cards, and each cluster's surest and least sure images.

const CARD_TILES = 12;
const ROW_TILES = 8;

function clusterSection() {
  const used = clusters.filter((cluster) => cluster.size);
  if (!used.length) return null;
  const cards = new Map(used.map((cluster) => [cluster.number, card(cluster)]));
  const place = el("div", { class: "cards" });
  const orders = {
    number: (a, b) => a.number - b.number,
    size: (a, b) => b.size - a.size || a.number - b.number,
    confidence: (a, b) => b.confidence - a.confidence || a.number - b.number,
  };
  const sort = (key) => place.append(...[...used].sort(orders[key]).map((cluster) => cards.get(cluster.number)));
  sort("number");
  const options = [
    ["number", "Number"],
    ["size", "Largest first"],
    ["confidence", "Surest first"],
  ];
  return [
    el(
      "p",
      { class: "lead" },
      "What the run put together. The most typical images stand first; click one to see it and its neighbours.",
    ),
    used.length > 2 ? el("div", { class: "controls" }, choice("Sort cards by", options, "number", sort)) : null,
    place,
    emptyNote(),
  ];
}

function emptyNote() {
  const empty = clusters.filter((cluster) => !cluster.size).map((cluster) => cluster.number);
  if (!empty.length) return null;
  const named = empty.length > 30 ? `${empty.slice(0, 30).join(", ")} and ${empty.length - 30} more` : empty.join(", ");
  return el(
    "p",
    { class: "notice" },
    empty.length === 1 ? `Cluster ${named} is empty.` : `${empty.length} clusters are empty: ${named}.`,
  );
}

function card(cluster) {
  const { number, size } = cluster;
  const title = `cluster-${number}-name`;
  const shown = cluster.typical.slice(0, CARD_TILES);
  const few = largeAt.size || (sprites?.tile ?? 64) >= 48;
  const tiles = el("div", { class: `card-tiles ${few ? "few" : "many"}`, style: { "--shown": shown.length } });
  whenSeen(tiles, () =>
    tiles.replaceChildren(
      grid(
        shown.map((image) =>
          tile(image, ordered(number, "typical"), `cluster ${number}, most typical first`, { big: true }),
        ),
        `Most typical of cluster ${number}`,
        "card-grid",
      ),
    ),
  );
  return el(
    "article",
    { class: "card", id: `cluster-${number}`, tabindex: "-1", "aria-labelledby": title },
    el(
      "header",
      {},
      el("h3", { id: title }, clusterMark(number), clusterName(number)),
      el("p", { class: "quiet" }, `${counted(size, "image")}, ${share(size / run.n_images)} of all`),
    ),
    sureBar(cluster.confidence),
    tiles,
    contents(cluster),
    el(
      "footer",
      {},
      button(size === 1 ? "The image" : `All ${counted(size, "image")}`, () => openCluster(number), {
        class: "all",
        "aria-label": `All images of cluster ${number}`,
      }),
      nearest(cluster),
    ),
  );
}

function sureBar(confidence) {
  if (confidence === null) return null;
  return el(
    "p",
    { class: "sure" },
    el(
      "span",
      { class: "bar-ground", "aria-hidden": "true" },
      el("span", { style: { width: `${100 * confidence}%` } }),
    ),
    `${percent(confidence)} sure`,
  );
}

function nearest({ near }) {
  const real = near.filter((one) => clusterOf.get(one.number)?.size);
  if (!real.length) return null;
  return el(
    "p",
    { class: "nearest" },
    el("span", { class: "quiet" }, "Nearest"),
    real.map((one) =>
      el(
        "a",
        {
          href: `#cluster-${one.number}`,
          class: "cluster-link",
          title: `similarity ${one.similarity.toFixed(2)}`,
          "aria-label": `${clusterName(one.number)}, similarity ${one.similarity.toFixed(2)}`,
        },
        clusterMark(one.number),
        clusterOf.get(one.number).name ?? one.number,
      ),
    ),
  );
}

// What is inside by label: a bar, and the same in words.
function contents({ labels }) {
  if (!labels?.length) return null;
  const total = labels.reduce((sum, one) => sum + one.count, 0);
  const first = labels.slice(0, 4);
  const rest = labels.slice(4);
  const parts = first.map(({ code, count: size }) => ({ code, size, words: labelName(code) }));
  if (rest.length)
    parts.push({
      code: null,
      size: rest.reduce((sum, one) => sum + one.count, 0),
      words: counted(rest.length, "other"),
    });
  const bar = parts.map((part, i) =>
    el("span", {
      style: { width: `${(100 * part.size) / total}%`, background: `var(--part-${part.code === null ? 4 : i})` },
    }),
  );
  const words = parts
    .slice(0, 3)
    .map((part, i) =>
      el(
        "span",
        {},
        el("i", { "aria-hidden": "true", style: { background: `var(--part-${part.code === null ? 4 : i})` } }),
        el("bdi", {}, part.words),
        ` ${share(part.size / total)}`,
      ),
    );
  const left = parts.slice(3).reduce((sum, part) => sum + part.size, 0);
  return el(
    "div",
    { class: "contents" },
    el("div", { class: "stack", "aria-hidden": "true" }, bar),
    el(
      "p",
      {},
      el("span", { class: "unseen" }, "Labels inside: "),
      words,
      left ? el("span", { class: "quiet" }, `rest ${share(left / total)}`) : null,
    ),
  );
}

// Surest and least sure.

function confidenceSection() {
  const used = clusters.filter((cluster) => cluster.size);
  if (!used.length || !data.confidence) return null;
  const { edges, counts, reliability } = data.confidence;
  const charts = el(
    "div",
    { class: "panels" },
    histogram({
      title: "How sure the run is",
      edges,
      counts,
      xTitle: "confidence (probability of the own cluster)",
      yTitle: "images",
    }),
    reliability ? reliabilityChart(reliability) : null,
  );
  return [
    el("p", { class: "lead" }, "Where the run is sure, and where to look twice."),
    charts,
    el("h3", {}, "Surest and least sure images of each cluster"),
    sureRows(used),
  ];
}

function sureRows(used) {
  const first = 10;
  const rows = el("div", { class: "sure-rows" }, used.slice(0, first).map(sureRow));
  if (used.length <= first) return rows;
  const more = button(`Show all ${used.length} clusters`, () => {
    const added = used.slice(first).map(sureRow);
    more.replaceWith();
    rows.append(...added);
    added[0].tabIndex = -1;
    added[0].focus();
  });
  return [rows, more];
}

function sureRow(cluster) {
  const place = el("div", { class: "sure-tiles" });
  const small = cluster.size <= ROW_TILES;
  const best = cluster.typical.slice(0, ROW_TILES);
  const worst = small ? [] : cluster.uncertain.filter((image) => !best.includes(image)).slice(0, ROW_TILES);
  const tiles = (list, label, about) =>
    el(
      "div",
      {},
      el("h5", {}, label),
      grid(
        list.map((image) =>
          tile(image, list, about, {
            caption: percent(images.confidence[image]),
          }),
        ),
        `${label} of cluster ${cluster.number}`,
        "row-grid",
      ),
    );
  whenSeen(place, () =>
    place.replaceChildren(
      ...[
        tiles(best, small ? "All" : "Surest", `surest of cluster ${cluster.number}`),
        worst.length ? tiles(worst, "Least sure", `least sure of cluster ${cluster.number}`) : null,
      ].filter(Boolean),
    ),
  );
  return el("div", { class: "sure-row" }, el("h4", {}, clusterLink(cluster.number)), place);
}
