// Duplicates in groups, and images that look blank or broken.

const FIRST_GROUPS = 8;
const FIRST_FLAGS = 24;

function oddSection() {
  const { odd } = data;
  if (!odd) return null;
  const tables = [odd.n_groups && "duplicates.csv", odd.n_flags && "flags.csv"].filter(Boolean).join(" and ");
  return [
    el(
      "p",
      { class: "lead" },
      `What to look at before counting on sizes and scores. Nothing was left out; ${tables} in the run folder `,
      odd.n_groups && odd.n_flags ? "name all of them." : "names all of them.",
    ),
    duplicateGroups(odd),
    flaggedImages(odd),
  ];
}

function duplicateGroups({ groups, n_groups: total, n_copies: copies }) {
  if (!total) return null;
  return [
    el("h3", {}, `${counted(total, "group")} of duplicates, ${counted(copies, "image")}`),
    el(
      "p",
      { class: "quiet" },
      "The first image of a group is the one to keep; below the others stands how alike their pixels are to its own.",
    ),
    inParts("div", "sure-rows", groups, FIRST_GROUPS, duplicateRow, "groups"),
    groups.length < total ? el("p", { class: "quiet" }, `Shown are ${groups.length} of them.`) : null,
  ];
}

function duplicateRow({ size, index, exact, similarity, first }, place) {
  const all = exact.every(Boolean);
  const words = `group ${place + 1} of duplicates`;
  const near = (value) => (value > 0.99 ? "> 0.99" : value.toFixed(2));
  const caption = (i) => (i === 0 && first ? "first" : exact[i] ? "exact" : near(similarity[i]));
  const tiles = el("div", { class: "odd-tiles" });
  reserveRows(tiles, index.length, "1.125rem");
  whenSeen(tiles, () =>
    tiles.replaceChildren(
      grid(
        index.map((image, i) => tile(image, index, words, { caption: caption(i) })),
        `Group ${place + 1} of duplicates`,
        "row-grid",
      ),
    ),
  );
  return el(
    "div",
    { class: "sure-row" },
    el(
      "div",
      {},
      el("h4", {}, `Group ${place + 1}`),
      el("p", { class: "quiet" }, `${counted(size, "image")}, ${all ? "exact copies" : "near-duplicates"}`),
      index.length < size ? el("p", { class: "quiet" }, `${index.length} shown`) : null,
    ),
    tiles,
  );
}

function flaggedImages({ flags, n_flags: total }) {
  if (!total) return null;
  const list = flags.map(({ index }) => index);
  const row = ({ index, text }) =>
    el(
      "li",
      {},
      tile(index, list, "images that look odd"),
      el("div", {}, el("p", {}, name(images.id[index])), el("p", { class: "quiet" }, el("bdi", {}, text))),
    );
  return [
    el("h3", {}, total === 1 ? "1 image looks odd" : `${whole.format(total)} images look odd`),
    inParts("ul", "odd-list", flags, FIRST_FLAGS, row, "images"),
    flags.length < total ? el("p", { class: "quiet" }, `Shown are ${flags.length} of them.`) : null,
  ];
}

// The first ones, and a button that adds the others and goes to the first of these.
function inParts(tag, kind, all, first, make, noun) {
  const place = el(tag, { class: kind }, all.slice(0, first).map(make));
  if (all.length <= first) return place;
  const more = button(`Show all ${all.length} ${noun}`, () => {
    const added = all.slice(first).map((one, i) => make(one, first + i));
    more.remove();
    place.append(...added);
    added[0].tabIndex = -1;
    added[0].focus();
  });
  return [place, more];
}
