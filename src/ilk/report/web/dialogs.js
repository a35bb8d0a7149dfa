// Two windows over the page: one image with its neighbours, and all images of a cluster.

function decoded(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

const neighbours = data.neighbours && {
  ranks: data.neighbours.ranks,
  index: new (data.neighbours.dtype === "uint32" ? Uint32Array : Uint16Array)(decoded(data.neighbours.data).buffer),
  similarity: decoded(data.neighbours.similarity),
};

// The neighbours of an image as {rank, image, similarity}, nearest first.
function neighboursOf(image) {
  if (!neighbours) return [];
  return neighbours.ranks.map((rank, place) => {
    const at = image * neighbours.ranks.length + place;
    return { rank, image: neighbours.index[at], similarity: (neighbours.similarity[at] / 255) * 2 - 1 };
  });
}

// A native dialog keeps the focus inside, closes on Escape and gives the focus back.
function makeDialog(kind) {
  const dialog = el("dialog", { class: kind, "aria-labelledby": `${kind}-title` });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog && !within(event, dialog)) dialog.close();
  });
  document.body.append(dialog);
  return dialog;
}

function within(event, node) {
  const box = node.getBoundingClientRect();
  return (
    event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom
  );
}

function closeAll() {
  document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
}

function stepButton(words, sign, step, disabled) {
  return button(sign, step, { class: "icon", "aria-label": words, title: words, disabled });
}

function clusterLink(number, after = null) {
  if (!clusterOf.get(number)?.size) return el("span", {}, clusterMark(number), clusterName(number), after);
  return el(
    "a",
    { href: `#cluster-${number}`, class: "cluster-link", click: closeAll },
    clusterMark(number),
    clusterName(number),
    after,
  );
}

// One image.

const seen = { list: [], place: 0, about: "", dialog: null };

function openImage(image, list = [image], about = "") {
  Object.assign(seen, { list, about, place: Math.max(0, list.indexOf(image)) });
  if (!seen.dialog) {
    seen.dialog = makeDialog("image");
    seen.dialog.addEventListener("keydown", stepByKey);
  }
  showImage(image);
  if (!seen.dialog.open) seen.dialog.showModal();
}

function stepByKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowLeft") stepImage(-1);
  else if (event.key === "ArrowRight") stepImage(1);
  else return;
  event.preventDefault();
}

function stepImage(step) {
  const place = seen.place + step;
  if (place < 0 || place >= seen.list.length) return;
  seen.place = place;
  showImage(seen.list[place]);
  say(describe(seen.list[place]));
}

function showImage(image) {
  const held = seen.dialog.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  const id = images.id[image];
  seen.dialog.replaceChildren(
    el(
      "header",
      {},
      el("h2", { id: "image-title", title: id }, name(id)),
      imageSteps(),
      stepButton("Close", "\u00d7", () => seen.dialog.close()),
    ),
    el(
      "div",
      { class: "image-body" },
      el("div", { class: "image-large" }, picture(image, true, describe(image))),
      el("div", {}, imageFacts(image), imageActions(image)),
    ),
    nearList(image),
  );
  const same =
    held &&
    [...seen.dialog.querySelectorAll("header button")].find(
      (one) => one.getAttribute("aria-label") === held && !one.disabled,
    );
  if (seen.dialog.open) (same ?? seen.dialog.querySelector("header button:not(:disabled)")).focus();
}

function imageSteps() {
  const { list, place, about } = seen;
  if (list.length < 2) return null;
  return el(
    "div",
    { class: "steps" },
    stepButton("Previous image (left arrow)", "\u2190", () => stepImage(-1), place === 0),
    el("span", { title: about }, `${whole.format(place + 1)} of ${whole.format(list.length)}`),
    stepButton("Next image (right arrow)", "\u2192", () => stepImage(1), place === list.length - 1),
  );
}

function facts(pairs, kind = "facts") {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined);
  return el(
    "dl",
    { class: kind },
    known.map(([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, value))),
  );
}

function imageFacts(image) {
  const label = labelOf(image);
  const second = images.second[image];
  return facts([
    ["Cluster", clusterLink(images.cluster[image])],
    ["Confidence", `${percent(images.confidence[image])} sure`],
    ["Second choice", second >= 0 && clusters.length > 1 ? clusterLink(second) : null],
    ["Ahead of it by", clusters.length > 1 ? percent(images.margin[image]) : null],
    ["Label", label === null ? null : el("bdi", {}, label)],
    ["Image of the run", `${whole.format(images.row[image] + 1)} of ${whole.format(run.n_images)}`],
  ]);
}

function imageActions(image) {
  return el(
    "div",
    { class: "actions" },
    copyButton(images.id[image], "the id", "Copy id"),
    mapView &&
      button(
        "Show on the map",
        () => {
          closeAll();
          mapView.show(image);
        },
        { class: "small" },
      ),
  );
}

function nearList(image) {
  const near = neighboursOf(image);
  if (!near.length) return null;
  const list = near.map((one) => one.image);
  const about = `neighbours of ${images.id[image]}`;
  return el(
    "section",
    { class: "near", "aria-labelledby": "near-title" },
    el("h3", { id: "near-title" }, "Its neighbours"),
    el("p", { class: "quiet" }, "Other images by how alike their embeddings are (cosine similarity, 1 = the same)."),
    grid(
      near.map((one) => neighbourTile(one, image, list, about)),
      "Neighbours",
      "near-grid",
    ),
  );
}

function neighbourTile({ rank, image, similarity }, from, list, about) {
  const other = images.cluster[image] !== images.cluster[from];
  const words = [el("b", {}, ordinal(rank)), ` ${similarity.toFixed(2)}`];
  const made = tile(image, list, about, {
    big: true,
    caption: [
      el("span", {}, words),
      other ? el("span", { class: "other" }, clusterMark(images.cluster[image]), images.cluster[image]) : null,
    ],
  });
  made.setAttribute("aria-label", `${ordinal(rank)} nearest, similarity ${similarity.toFixed(2)}: ${describe(image)}`);
  return made;
}

// All images of a cluster.

const members = new Map(clusters.map((cluster) => [cluster.number, []]));
images.cluster.forEach((number, image) => members.get(number)?.push(image));

// The positions of a cluster's images in that order; the run's own ranking of the ends comes first.
function ordered(number, order) {
  const cluster = clusterOf.get(number);
  const first = order === "typical" ? cluster.typical : cluster.uncertain;
  const known = new Set(first);
  const rest = members.get(number).filter((image) => !known.has(image));
  const key = order === "typical" ? (image) => -images.confidence[image] : (image) => images.margin[image];
  return [...first, ...rest.sort((a, b) => key(a) - key(b))];
}

// The least certain tenth of a cluster's images.
function leastCertain(number) {
  const all = ordered(number, "uncertain");
  return new Set(all.slice(0, Math.ceil(all.length / 10)));
}

const browsing = { dialog: null, order: "typical" };

function openCluster(number) {
  browsing.dialog ??= makeDialog("cluster");
  showCluster(number);
  if (!browsing.dialog.open) browsing.dialog.showModal();
  browsing.dialog.scrollTop = 0;
}

function showCluster(number) {
  const cluster = clusterOf.get(number);
  const place = el("div");
  const show = (order) => {
    browsing.order = order;
    const label = `Images of cluster ${number}, ${order === "typical" ? "most typical" : "least certain"} first`;
    place.replaceChildren(pages(ordered(number, order), label, { noted: leastCertain(number) }));
  };
  show(browsing.order);
  browsing.dialog.replaceChildren(
    clusterHeader(cluster),
    el(
      "div",
      { class: "controls" },
      choice(
        "Order",
        [
          ["typical", "Most typical first"],
          ["uncertain", "Least certain first"],
        ],
        browsing.order,
        show,
      ),
      el(
        "p",
        { class: "quiet" },
        el("span", { class: "key-noted", "aria-hidden": "true" }, "?"),
        " marks the least certain tenth.",
      ),
    ),
    place,
  );
}

function clusterHeader(cluster) {
  const used = clusters.filter((one) => one.size);
  const at = used.findIndex((one) => one.number === cluster.number);
  const step = (by) => {
    showCluster(used[at + by].number);
    browsing.dialog.querySelector("header button:not(:disabled)").focus();
  };
  const here = members.get(cluster.number).length;
  const sizes =
    here < cluster.size
      ? `${whole.format(here)} of ${counted(cluster.size, "image")} (sample)`
      : counted(cluster.size, "image");
  return el(
    "header",
    {},
    el(
      "h2",
      { id: "cluster-title" },
      clusterMark(cluster.number),
      clusterName(cluster.number),
      el("span", { class: "quiet" }, ` ${sizes}, ${percent(cluster.confidence)} sure`),
    ),
    used.length > 1 &&
      el(
        "div",
        { class: "steps" },
        stepButton("Previous cluster", "\u2190", () => step(-1), at === 0),
        stepButton("Next cluster", "\u2192", () => step(1), at === used.length - 1),
      ),
    stepButton("Close", "\u00d7", () => browsing.dialog.close()),
  );
}

// A row of which one is chosen.
function choice(label, options, chosen, change) {
  const group = `choice-${label.toLowerCase().replace(/\W+/g, "-")}`;
  const items = options.map(([value, words]) =>
    el(
      "label",
      {},
      el("input", { type: "radio", name: group, value, checked: value === chosen, change: () => change(value) }),
      el("span", {}, words),
    ),
  );
  return el("fieldset", { class: "choice" }, el("legend", {}, label), el("div", {}, items));
}
