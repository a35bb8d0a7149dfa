// Pictures of images: cells of the sprite sheets, larger ones where there are some, and grids of them.

const { sprites, large } = data;
const largeAt = new Map((large?.index ?? []).map((image, place) => [image, place]));
const tiny = Boolean(sprites) && sprites.tile < 24;
const sheetStyle = new CSSStyleSheet();
const styledSheets = new Set();
const sheetImages = new Map();

function hasPicture(image) {
  return Boolean(sprites) && image < (sprites.count ?? count);
}

function cell(image) {
  const inSheet = image % sprites.per_sheet;
  return {
    sheet: Math.floor(image / sprites.per_sheet),
    column: inSheet % sprites.columns,
    row: Math.floor(inSheet / sprites.columns),
  };
}

// One style rule a sheet, so that its data stands in the page once and is decoded once.
function sheetClass(sheet) {
  if (!styledSheets.has(sheet)) {
    styledSheets.add(sheet);
    sheetStyle.insertRule(`.sheet-${sheet} { background-image: url("${sprites.sheets[sheet]}"); }`);
  }
  return `sheet-${sheet}`;
}

function startPictures() {
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheetStyle];
  document.documentElement.classList.toggle("tiny", tiny);
  if (sprites) document.documentElement.style.setProperty("--columns", sprites.columns);
}

// The sheet as something a canvas can draw, or null while it is being decoded; then `ready` is called.
function sheetImage(sheet, ready) {
  const known = sheetImages.get(sheet);
  if (known) return known.done ? known.image : null;
  const entry = { image: new Image(), done: false };
  sheetImages.set(sheet, entry);
  entry.image.src = sprites.sheets[sheet];
  entry.image.decode().then(
    () => {
      entry.done = true;
      ready();
    },
    () => {},
  );
  return null;
}

function labelOf(image) {
  return images.label && images.label[image] >= 0 ? labelName(images.label[image]) : null;
}

function describe(image) {
  const label = labelOf(image);
  const sure = percent(images.confidence[image]).replace("\u00a0", " ");
  const known = `image '${images.id[image]}', cluster ${images.cluster[image]}, ${sure} sure`;
  return label === null ? known : `${known}, label ${label}`;
}

// `big`: the larger picture is worth its bytes here.
function picture(image, big = false, alt = "") {
  if (big && largeAt.has(image)) {
    return el("img", { class: "thumb", src: large.images[largeAt.get(image)], alt, decoding: "async" });
  }
  const role = alt ? { role: "img", "aria-label": alt } : {};
  if (!hasPicture(image))
    return el("span", { class: "thumb blank", dir: "auto", ...role }, images.id[image].split("/").pop());
  const { sheet, column, row } = cell(image);
  return el("span", { class: `thumb ${sheetClass(sheet)}`, style: { "--column": column, "--row": row }, ...role });
}

// A picture that opens; `list` is what the arrow keys go through, `about` says what the list is.
function tile(image, list, about, { big = false, note = null, caption = null } = {}) {
  return el(
    "button",
    {
      type: "button",
      class: note ? "tile noted" : "tile",
      title: images.id[image],
      "aria-label": note ? `${describe(image)}, ${note}` : describe(image),
      "data-image": image,
      click: () => openImage(image, list, about),
    },
    picture(image, big),
    caption ? el("span", { class: "caption" }, caption) : null,
  );
}

// A grid is one stop of the tab key; inside it the arrow keys move.
function grid(tiles, label, kind) {
  const made = el("div", { class: `grid ${kind}`, role: "group", "aria-label": `${label}; arrow keys move` }, tiles);
  tiles.forEach((one, place) => (one.tabIndex = place ? -1 : 0));
  made.addEventListener("keydown", (event) => moveInGrid(event, made));
  made.addEventListener("focusin", (event) => {
    for (const one of made.children) one.tabIndex = one === event.target ? 0 : -1;
  });
  return el("div", { class: "tiles" }, made);
}

// Keeps the room that a grid of `row-grid` will fill, so that nothing moves when it comes. `under`: room for captions.
function reserveRows(node, length, under = "0rem") {
  node.classList.add("reserved");
  const rows = { "--rows-of-4": Math.ceil(length / 4), "--rows-of-8": Math.ceil(length / 8) };
  fill(node, { style: { ...rows, "--under": under } }, []);
}

function moveInGrid(event, container) {
  const all = [...container.children];
  const now = all.indexOf(document.activeElement);
  const columns = all.findIndex((one) => one.offsetTop > all[0].offsetTop);
  const line = columns < 1 ? all.length : columns;
  const steps = {
    ArrowLeft: -1,
    ArrowRight: 1,
    ArrowUp: -line,
    ArrowDown: line,
    Home: -now,
    End: all.length - 1 - now,
  };
  if (now < 0 || !(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  event.stopPropagation();
  all[Math.min(Math.max(now + steps[event.key], 0), all.length - 1)].focus();
}

// A list of images in pages. `noted`: those marked as among the least certain.
function pages(list, label, { size = 60, kind = "wide", noted = new Set() } = {}) {
  const last = Math.max(0, Math.ceil(list.length / size) - 1);
  const place = el("div");
  const words = el("span", { "aria-live": "polite" });
  const before = button("Previous", () => show(page - 1), { class: "small" });
  const after = button("Next", () => show(page + 1), { class: "small" });
  let page = 0;
  function show(wanted) {
    page = Math.min(Math.max(wanted, 0), last);
    const shown = list.slice(page * size, (page + 1) * size);
    const note = (image) => (noted.has(image) ? "among the least certain" : null);
    place.replaceChildren(
      grid(
        shown.map((image) => tile(image, list, label, { note: note(image) })),
        label,
        kind,
      ),
    );
    words.textContent = `Page ${page + 1} of ${last + 1}`;
    before.disabled = page === 0;
    after.disabled = page === last;
  }
  show(0);
  const turn = el("div", { class: "turn", role: "group", "aria-label": "Pages" }, before, words, after);
  return el("div", { class: "pages" }, place, last ? turn : null);
}
