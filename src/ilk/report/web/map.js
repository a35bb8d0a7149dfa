// The map: every image a point, near means alike.

let mapView = null;

const WORLD = 65535;
const CLICK = 4; // css pixels a pointer may move and still click
const REACH = 14; // css pixels within which a point is pointed at
const DEEPEST = 24; // css pixels between two neighbouring whole coordinates, at most
const THUMB = [34, 84]; // css pixels of a picture on the map when it first appears, and at most

class MapView {
  constructor() {
    this.xs = Float32Array.from(images.x, (x) => x / WORLD);
    this.ys = Float32Array.from(images.y, (y) => y / WORLD);
    this.order = shuffled(count);
    this.index = makeIndex(this.xs, this.ys);
    this.box = this.bounds();
    this.levels = new Map(); // zoom level -> which images have a picture
    this.pictureMode = "zoomed";
    this.colouring = "cluster";
    this.lit = new Set(); // kinds chosen in the legend
    this.hoverKind = null;
    this.chosen = [];
    this.lassoing = false;
    this.pointers = new Map();
    this.armed = false;
    this.drawn = [];
    this.gliding = 0;
    this.pointed = null;
    this.build();
    this.listen();
    this.recolour();
  }

  build() {
    const help = "arrow keys move, plus and minus zoom, 0 shows all, Enter opens the image in the middle";
    this.canvas = el("canvas", {
      class: "map-canvas",
      tabindex: "0",
      role: "application",
      "aria-label": `Map of ${counted(count, "image")}: ${help}`,
    });
    this.pen = this.canvas.getContext("2d", { alpha: false });
    this.ring = svg("circle", { class: "ring", r: 9, visibility: "hidden" });
    this.loop = svg("path", { class: "loop" });
    this.cross = svg("path", { class: "cross", d: "M-12 0H-4M4 0H12M0-12V-4M0 4V12" });
    this.tip = el("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.hint = el(
      "p",
      { class: "map-hint", hidden: true },
      "Move the pointer over the map, then turn the wheel to zoom.",
    );
    this.legend = el("div", { class: "legend" });
    this.chosenBox = el("div", { class: "chosen" });
    this.stage = el(
      "div",
      { class: "stage" },
      this.canvas,
      svg("svg", { class: "overlay", "aria-hidden": "true" }, this.loop, this.ring, this.cross),
      this.tip,
      this.hint,
      this.zoomButtons(),
    );
    this.node = el(
      "div",
      { class: "map" },
      this.toolbar(),
      el("div", { class: "map-body" }, this.stage, el("div", { class: "map-side" }, this.chosenBox, this.legend)),
    );
    this.showChosen();
  }

  toolbar() {
    const colours = [
      ["cluster", "Cluster"],
      ["confidence", "Confidence"],
    ];
    if (images.label) colours.push(["label", "Label"]);
    if (tree) colours.push(["level", "Level of the tree"]);
    this.levelBox = tree && el("div", { hidden: true }, levelControl());
    const shows = [
      ["zoomed", "When zoomed in"],
      ["always", "Always"],
      ["never", "Never"],
    ];
    this.lassoButton = button("Lasso", () => this.setLasso(!this.lassoing), {
      class: "small",
      "aria-pressed": "false",
      title: "Draw around images (or hold Shift and drag)",
    });
    return el(
      "div",
      { class: "controls" },
      choice("Colour by", colours, "cluster", (value) => {
        this.colouring = value;
        this.lit.clear();
        if (tree) this.levelBox.hidden = value !== "level";
        this.recolour();
      }),
      this.levelBox,
      sprites &&
        choice("Pictures", shows, "zoomed", (value) => {
          this.pictureMode = value;
          this.queue();
        }),
      el(
        "div",
        { class: "actions" },
        this.lassoButton,
        button("Choose all in view", () => this.chooseInView(), { class: "small" }),
      ),
    );
  }

  zoomButtons() {
    const zoom = (factor) => () => this.zoomBy(factor);
    return el(
      "div",
      { class: "zoom", role: "group", "aria-label": "Zoom" },
      stepButton("Zoom in", "+", zoom(1.6)),
      stepButton("Zoom out", "\u2212", zoom(1 / 1.6)),
      stepButton("Show all", "\u2922", () => this.glide(this.home())),
    );
  }

  listen() {
    const on = (type, act, options) => this.canvas.addEventListener(type, act.bind(this), options);
    on("pointerdown", this.press);
    on("pointermove", this.move);
    on("pointerup", this.release);
    on("pointercancel", this.release);
    on("pointerleave", () => this.point(null));
    on("wheel", this.wheel, { passive: false });
    on("dblclick", (event) => this.zoomAt(2, event.offsetX, event.offsetY));
    on("keydown", this.key);
    on("blur", () => this.point(null));
    // While the page scrolls past under a resting pointer, the wheel belongs to the page.
    addEventListener("scroll", () => (this.armed = false), { passive: true });
    new ResizeObserver(() => this.resize()).observe(this.stage);
    onTheme(() => this.recolour());
    if (tree) onLook(() => this.colouring === "level" && this.newLevel());
  }

  // Size and view. `view` is {x, y, scale}: the middle of the stage in the unit square, css pixels a unit.

  resize() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (!width || !height) return;
    const before = this.size;
    const atHome = !before || this.isHome();
    this.ratio = Math.min(devicePixelRatio || 1, 2);
    this.size = { width, height };
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
    this.image = this.pen.createImageData(this.canvas.width, this.canvas.height);
    this.cross.setAttribute("transform", `translate(${width / 2} ${height / 2})`);
    if (atHome) this.view = this.home();
    this.draw();
  }

  // The corners of what there is: least x, most x, least y, most y.
  bounds() {
    const box = [1, 0, 1, 0];
    for (let i = 0; i < count; i++) {
      box[0] = Math.min(box[0], this.xs[i]);
      box[1] = Math.max(box[1], this.xs[i]);
      box[2] = Math.min(box[2], this.ys[i]);
      box[3] = Math.max(box[3], this.ys[i]);
    }
    return box;
  }

  home() {
    const [x0, x1, y0, y1] = this.box;
    const { width, height } = this.size;
    const pad = Math.min(48, width / 8);
    const across = (width - 2 * pad) / Math.max(x1 - x0, 0.01);
    const down = (height - 2 * pad) / Math.max(y1 - y0, 0.01);
    return { x: (x0 + x1) / 2, y: (y0 + y1) / 2, scale: Math.min(across, down) };
  }

  isHome() {
    const home = this.home();
    return (
      Math.abs(home.scale - this.view.scale) < 1e-6 * home.scale && home.x === this.view.x && home.y === this.view.y
    );
  }

  toScreen(i) {
    return [
      (this.xs[i] - this.view.x) * this.view.scale + this.size.width / 2,
      (this.ys[i] - this.view.y) * this.view.scale + this.size.height / 2,
    ];
  }

  toWorld(x, y) {
    return [
      (x - this.size.width / 2) / this.view.scale + this.view.x,
      (y - this.size.height / 2) / this.view.scale + this.view.y,
    ];
  }

  // The middle of the stage stays among the points, so that they cannot be lost.
  set(view) {
    const [x0, x1, y0, y1] = this.box;
    const home = this.home().scale;
    const scale = Math.min(Math.max(view.scale, home / 1.6), Math.max(2 * home, WORLD * DEEPEST));
    const between = (value, low, high) => Math.min(Math.max(value, low), high);
    this.view = { x: between(view.x, x0, x1), y: between(view.y, y0, y1), scale };
    this.queue();
  }

  zoomAt(factor, x, y) {
    const [wx, wy] = this.toWorld(x, y);
    const scale = this.view.scale * factor;
    this.set({ scale, x: wx - (x - this.size.width / 2) / scale, y: wy - (y - this.size.height / 2) / scale });
  }

  zoomBy(factor) {
    this.glide({ ...this.view, scale: this.view.scale * factor });
  }

  pan(dx, dy) {
    this.set({ ...this.view, x: this.view.x - dx / this.view.scale, y: this.view.y - dy / this.view.scale });
  }

  glide(to) {
    const from = this.view;
    const start = performance.now();
    const turn = ++this.gliding;
    if (calm.matches) return this.set(to);
    const step = (now) => {
      if (turn !== this.gliding) return;
      const part = Math.min(1, (now - start) / 220);
      const eased = 1 - (1 - part) ** 3;
      const between = (key) => from[key] + (to[key] - from[key]) * eased;
      this.set({ x: between("x"), y: between("y"), scale: from.scale * (to.scale / from.scale) ** eased });
      if (part < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  show(i) {
    const pause = calm.matches ? "auto" : "smooth";
    this.node.closest("section").scrollIntoView({ behavior: pause });
    this.canvas.focus({ preventScroll: true });
    if (!this.size) this.resize();
    this.glide({ x: this.xs[i], y: this.ys[i], scale: Math.max(this.view.scale, this.home().scale * 6) });
    this.kept = i;
    say(`The map shows ${describe(i)} in the middle.`);
  }

  // Colours.

  newLevel() {
    this.lit.clear();
    this.recolour();
  }

  // Colours the map by the level of the tree that is looked at; cluster `number` of it stands out.
  showLevel(number = null) {
    this.node.querySelector("input[value=level]").click();
    this.lit = new Set(number === null ? [] : [number]);
    this.recolour();
    this.node.closest("section").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" });
    this.canvas.focus({ preventScroll: true });
    say(`The map is coloured by the tree at ${counted(looked.k, "cluster")}.`);
  }

  recolour() {
    const kinds = this.kindsOf();
    this.kinds = kinds.of;
    this.looks = kinds.looks;
    this.ground = packed(themeColour("--surface"));
    this.faint = packed(themeColour("--faint"));
    this.legend.replaceChildren(...kinds.legend());
    this.brighten();
  }

  kindsOf() {
    if (this.colouring === "confidence") return this.confidenceKinds();
    if (this.colouring === "level") return this.levelKinds();
    const byLabel = this.colouring === "label";
    const names = byLabel ? [...data.label_names, "no label"] : clusters.map((cluster) => clusterName(cluster.number));
    const kind = byLabel
      ? (i) => (images.label[i] < 0 ? names.length - 1 : images.label[i])
      : (i) => clusterOf.get(images.cluster[i])?.place ?? 0;
    const of = Uint16Array.from({ length: count }, (_, i) => kind(i));
    const sizes = new Uint32Array(names.length);
    of.forEach((one) => sizes[one]++);
    return {
      of,
      looks: this.looksOf(names.length),
      legend: () => this.kindLegend(names, sizes, byLabel ? "label" : "cluster"),
    };
  }

  levelKinds() {
    const of = numbersAt(looked.k);
    const sizes = new Uint32Array(looked.k);
    of.forEach((one) => sizes[one]++);
    const names = Array.from(sizes, (_, number) => `Tree cluster ${number}`);
    return { of, looks: this.looksOf(looked.k), legend: () => this.kindLegend(names, sizes, "level") };
  }

  looksOf(length) {
    return Array.from({ length }, (_, place) => ({ colour: packed(placeColour(place)), shape: look(place).shape }));
  }

  confidenceKinds() {
    const steps = 64;
    const of = Uint16Array.from(images.confidence, (sure) =>
      Math.min(steps - 1, Math.max(0, Math.floor(sure * steps))),
    );
    const looks = ramp(SURE, steps).map((colour) => ({ colour: packed(colour), shape: 0 }));
    return {
      of,
      looks,
      legend: () => [
        el("h3", {}, "Confidence"),
        el(
          "p",
          { class: "scale-bar" },
          percent(0),
          el("span", { class: "scale-sure", "aria-hidden": "true" }),
          percent(1),
        ),
        el("p", { class: "quiet" }, "The probability the run gives to an image's own cluster."),
      ],
    };
  }

  kindLegend(names, sizes, noun) {
    const entry = (text, kind) => {
      const pressed = () => String(this.lit.has(kind));
      const made = el(
        "button",
        {
          type: "button",
          "aria-pressed": pressed(),
          title: text,
          click: () => {
            if (!this.lit.delete(kind)) this.lit.add(kind);
            made.setAttribute("aria-pressed", pressed());
            this.brighten();
          },
          pointerenter: () => this.hoverLegend(kind),
          pointerleave: () => this.hoverLegend(null),
        },
        mark(kind),
        el("bdi", {}, noun === "label" ? text : text.replace(/^(Tree c|C)luster /, "")),
        el("span", { class: "quiet" }, whole.format(sizes[kind])),
      );
      return sizes[kind] ? el("li", {}, made) : null;
    };
    const clear = button(
      "Clear",
      () => {
        this.lit.clear();
        this.legend.querySelectorAll("[aria-pressed]").forEach((one) => one.setAttribute("aria-pressed", "false"));
        this.brighten();
      },
      { class: "small" },
    );
    const heading = { cluster: "Clusters", label: "Labels", level: `Tree at ${counted(names.length, "cluster")}` };
    const plain = noun === "level" || (noun === "cluster" && !clusters.some((one) => one.name));
    return [
      el("div", { class: "legend-head" }, el("h3", {}, heading[noun]), clear),
      el("ul", { class: plain ? "compact" : "" }, names.map(entry)),
    ];
  }

  hoverLegend(kind) {
    this.hoverKind = kind;
    this.brighten();
  }

  // Which points stand out: those of the legend's kinds, or the chosen ones; null when all are alike.
  brighten() {
    const kinds = this.hoverKind === null ? this.lit : new Set([this.hoverKind]);
    this.bright = null;
    if (kinds.size) this.bright = Uint8Array.from(this.kinds, (kind) => (kinds.has(kind) ? 1 : 0));
    else if (this.chosen.length) {
      this.bright = new Uint8Array(count);
      for (const i of this.chosen) this.bright[i] = 1;
    }
    this.levels.clear();
    this.queue();
  }

  // Drawing.

  queue() {
    if (this.queued || !this.size) return;
    this.queued = true;
    requestAnimationFrame(() => {
      this.queued = false;
      this.draw();
    });
  }

  radius() {
    const zoom = this.view.scale / this.home().scale;
    const room = Math.sqrt((this.size.width * this.size.height) / Math.max(1, count));
    return Math.min(7, Math.min(5, Math.max(1.5, room * 0.22)) * Math.max(1, zoom) ** 0.3);
  }

  draw() {
    const { width, height } = this.size;
    const scale = this.view.scale * this.ratio;
    const place = {
      scale,
      left: (width / 2) * this.ratio - this.view.x * scale,
      top: (height / 2) * this.ratio - this.view.y * scale,
    };
    paintDots(this.image, this, place, {
      looks: this.looks,
      radius: this.radius() * this.ratio,
      ground: this.ground,
      bright: this.bright,
      faint: this.faint,
    });
    this.pen.putImageData(this.image, 0, 0);
    this.drawPictures();
    this.placeRing();
  }

  withPictures() {
    if (!sprites || this.pictureMode === "never") return false;
    return this.pictureMode === "always" || count <= 60 || this.view.scale > 2.4 * this.home().scale;
  }

  drawPictures() {
    this.drawn = [];
    if (!this.withPictures()) return;
    const zoom = this.view.scale / this.home().scale;
    const wanted = count <= 60 ? 56 : Math.min(THUMB[1], THUMB[0] * Math.max(1, zoom / 2.4) ** 0.35);
    const step = Math.floor(2 * Math.log2(this.view.scale / wanted));
    const grown = this.view.scale / wanted / 2 ** (step / 2); // 1 to 1.41 between two levels
    const side = Math.round((wanted - 4) * grown);
    const has = this.level(step);
    const reach = side / this.view.scale;
    const [x0, y0] = this.toWorld(0, 0);
    const [x1, y1] = this.toWorld(this.size.width, this.size.height);
    eachWithin(this.index, x0 - reach, y0 - reach, x1 + reach, y1 + reach, (i) => has[i] && this.drawPicture(i, side));
  }

  drawPicture(i, side) {
    const [x, y] = this.toScreen(i);
    if (x < -side || y < -side || x > this.size.width + side || y > this.size.height + side) return;
    if (!hasPicture(i)) return;
    const { sheet, column, row } = cell(i);
    const source = sheetImage(sheet, () => this.queue());
    const edge = Math.round(side * this.ratio);
    const left = Math.round((x - side / 2) * this.ratio);
    const top = Math.round((y - side / 2) * this.ratio);
    const { colour } = this.looks[this.kinds[i]];
    const border = Math.round(2 * this.ratio);
    this.pen.fillStyle = `rgb(${colour & 255} ${(colour >> 8) & 255} ${(colour >> 16) & 255})`;
    this.pen.fillRect(left - border, top - border, edge + 2 * border, edge + 2 * border);
    if (!source) return;
    this.pen.imageSmoothingEnabled = !tiny;
    this.pen.drawImage(
      source,
      column * sprites.tile,
      row * sprites.tile,
      sprites.tile,
      sprites.tile,
      left,
      top,
      edge,
      edge,
    );
    this.drawn.push([i, x, y, side / 2 + 2]);
  }

  // The images that have a picture at a zoom level: as many as fit without covering each other, always the same ones.
  level(step) {
    if (this.levels.has(step)) return this.levels.get(step);
    const has = new Uint8Array(count);
    const side = 1 / 2 ** (step / 2); // the width of a picture in the unit square
    const taken = new Map();
    const key = (x, y) => (x << 15) | y; // DEEPEST keeps both below 2 ** 15
    for (const i of this.order) {
      if (this.bright && !this.bright[i]) continue;
      const x = Math.floor(this.xs[i] / side);
      const y = Math.floor(this.ys[i] / side);
      let free = true;
      for (let dx = -1; dx <= 1 && free; dx++) {
        for (let dy = -1; dy <= 1 && free; dy++) {
          const other = taken.get(key(x + dx, y + dy));
          free =
            other === undefined ||
            Math.abs(this.xs[other] - this.xs[i]) >= side ||
            Math.abs(this.ys[other] - this.ys[i]) >= side;
        }
      }
      if (!free) continue;
      taken.set(key(x, y), i);
      has[i] = 1;
    }
    this.levels.set(step, has);
    return has;
  }

  // Pointing.

  at(x, y) {
    for (let k = this.drawn.length - 1; k >= 0; k--) {
      const [i, px, py, half] = this.drawn[k];
      if (Math.abs(px - x) <= half && Math.abs(py - y) <= half) return i;
    }
    const [wx, wy] = this.toWorld(x, y);
    const reach = REACH / this.view.scale;
    let best = null;
    let near = reach;
    eachWithin(this.index, wx - reach, wy - reach, wx + reach, wy + reach, (i) => {
      if (this.bright && !this.bright[i]) return;
      const far = Math.hypot(this.xs[i] - wx, this.ys[i] - wy);
      if (far < near) [best, near] = [i, far];
    });
    return best;
  }

  point(i) {
    if (i !== null) this.kept = null;
    if (this.pointed === i) return;
    this.pointed = i;
    this.canvas.style.cursor = i === null ? "" : "pointer";
    this.tip.hidden = i === null;
    if (i !== null) this.tip.replaceChildren(picture(i, true), this.tipWords(i));
    this.placeRing();
  }

  tipWords(i) {
    const label = labelOf(i);
    return el(
      "div",
      {},
      el("b", {}, name(images.id[i])),
      el(
        "span",
        {},
        clusterMark(images.cluster[i]),
        `${clusterName(images.cluster[i])}, ${percent(images.confidence[i])} sure`,
      ),
      label === null ? null : el("span", {}, "label ", el("bdi", {}, label)),
    );
  }

  placeRing() {
    const i = this.pointed ?? this.kept ?? null;
    this.ring.setAttribute("visibility", i === null ? "hidden" : "visible");
    if (i === null) return;
    const [x, y] = this.toScreen(i);
    this.ring.setAttribute("cx", x);
    this.ring.setAttribute("cy", y);
    if (this.tip.hidden) return;
    const { offsetWidth: wide, offsetHeight: high } = this.tip;
    const left = x + 18 + wide > this.size.width ? x - 18 - wide : x + 18;
    this.tip.style.left = `${Math.min(Math.max(left, 4), Math.max(4, this.size.width - wide - 4))}px`;
    this.tip.style.top = `${Math.min(Math.max(y - high / 2, 4), Math.max(4, this.size.height - high - 4))}px`;
  }

  // Pointers: one drags or draws the lasso, two pinch.

  press(event) {
    if (event.button) return;
    this.armed = true;
    this.gliding += 1; // what is under way stops
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.moved = 0;
    const draws = this.pointers.size === 1 && (this.lassoing || event.shiftKey);
    this.trail = draws ? [[event.offsetX, event.offsetY]] : null;
    if (event.shiftKey) event.preventDefault();
  }

  move(event) {
    const { offsetX: x, offsetY: y } = event;
    if (event.movementX || event.movementY) this.armed = true;
    const before = this.pointers.get(event.pointerId);
    if (!before) return event.pointerType === "touch" ? undefined : this.point(this.at(x, y));
    const [dx, dy] = [x - before[0], y - before[1]];
    this.moved += Math.abs(dx) + Math.abs(dy);
    if (this.pointers.size === 2) this.pinch(event, before);
    else if (this.trail) {
      this.point(null);
      this.drawLoop(x, y);
    } else if (this.moved > CLICK) {
      this.point(null);
      this.pan(dx, dy);
    }
    this.pointers.set(event.pointerId, [x, y]);
  }

  pinch(event, before) {
    const [[, other]] = [...this.pointers].filter(([id]) => id !== event.pointerId);
    const now = [event.offsetX, event.offsetY];
    const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
    const middle = (a, b) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    const [x0, y0] = middle(before, other);
    const [x1, y1] = middle(now, other);
    this.trail = null;
    this.pan(x1 - x0, y1 - y0);
    this.zoomAt(far(now, other) / far(before, other), x1, y1);
  }

  drawLoop(x, y) {
    this.trail.push([x, y]);
    this.loop.setAttribute("d", `M${this.trail.map((point) => point.join(" ")).join("L")}Z`);
  }

  release(event) {
    if (!this.pointers.delete(event.pointerId) || event.type === "pointercancel") return;
    if (this.trail && this.trail.length > 2) this.choose(this.inside(this.trail));
    else if (this.moved <= CLICK) this.click(event);
    this.trail = null;
    this.loop.removeAttribute("d");
  }

  click(event) {
    const i = this.at(event.offsetX, event.offsetY);
    if (i !== null) openImage(i, this.chosen.includes(i) ? this.chosen : [i], "map");
    else if (this.chosen.length) this.choose([]);
  }

  wheel(event) {
    if (!this.armed && !event.ctrlKey) {
      this.hint.hidden = false;
      clearTimeout(this.hinted);
      this.hinted = setTimeout(() => (this.hint.hidden = true), 1200);
      return;
    }
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    const amount = Math.min(Math.max(event.deltaY * lines, -240), 240);
    this.zoomAt(Math.exp(-amount * (event.ctrlKey ? 0.01 : 0.0022)), event.offsetX, event.offsetY);
    this.point(this.at(event.offsetX, event.offsetY));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { width, height } = this.size;
    const acts = {
      ArrowLeft: () => this.pan(80, 0),
      ArrowRight: () => this.pan(-80, 0),
      ArrowUp: () => this.pan(0, 80),
      ArrowDown: () => this.pan(0, -80),
      "+": () => this.zoomBy(1.6),
      "=": () => this.zoomBy(1.6),
      "-": () => this.zoomBy(1 / 1.6),
      0: () => this.glide(this.home()),
      Enter: () => this.openMiddle(width / 2, height / 2),
      Escape: () => (this.lassoing ? this.setLasso(false) : this.choose([])),
    };
    if (!(event.key in acts)) return;
    event.preventDefault();
    acts[event.key]();
  }

  // The image nearest the middle, however far it is.
  openMiddle(x, y) {
    const [wx, wy] = this.toWorld(x, y);
    let best = 0;
    for (let i = 1; i < count; i++) {
      if (Math.hypot(this.xs[i] - wx, this.ys[i] - wy) < Math.hypot(this.xs[best] - wx, this.ys[best] - wy)) best = i;
    }
    openImage(best, [best], "map");
  }

  // Choosing.

  setLasso(on) {
    this.lassoing = on;
    this.lassoButton.setAttribute("aria-pressed", String(on));
    this.stage.classList.toggle("lassoing", on);
  }

  inside(trail) {
    const loop = trail.map(([x, y]) => this.toWorld(x, y));
    const xs = loop.map(([x]) => x);
    const ys = loop.map(([, y]) => y);
    const found = [];
    eachWithin(this.index, Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys), (i) => {
      if (isInside(loop, this.xs[i], this.ys[i])) found.push(i);
    });
    return found;
  }

  chooseInView() {
    const { width, height } = this.size;
    this.choose(
      this.inside([
        [0, 0],
        [width, 0],
        [width, height],
        [0, height],
      ]),
    );
  }

  choose(found) {
    this.chosen = found.sort(
      (a, b) => images.cluster[a] - images.cluster[b] || images.confidence[b] - images.confidence[a],
    );
    this.setLasso(false);
    this.showChosen();
    this.brighten();
    say(found.length ? `${counted(found.length, "image")} chosen.` : "Nothing is chosen.");
  }

  showChosen() {
    const { chosen } = this;
    if (!chosen.length) {
      this.chosenBox.replaceChildren(
        el(
          "p",
          { class: "quiet" },
          "Hold ",
          el("kbd", {}, "Shift"),
          " and drag around points, or press Lasso: the images you choose are listed here.",
        ),
      );
      return;
    }
    const many = counted(chosen.length, "image");
    this.chosenBox.replaceChildren(
      el(
        "div",
        { class: "legend-head" },
        el("h3", {}, `${many} chosen`),
        button("Clear", () => this.choose([]), { class: "small" }),
      ),
      el("p", { class: "quiet" }, this.makeUp()),
      el(
        "div",
        { class: "actions" },
        copyButton(() => chosen.map((i) => images.id[i]).join("\n"), `the ids of ${many}`, "Copy ids"),
      ),
      pages(chosen, "Chosen images", { size: 30, kind: "side" }),
    );
  }

  makeUp() {
    const sizes = new Map();
    for (const i of this.chosen) sizes.set(images.cluster[i], (sizes.get(images.cluster[i]) ?? 0) + 1);
    const found = [...sizes].sort((a, b) => b[1] - a[1]);
    const named = found
      .slice(0, 4)
      .map(([number, size]) => `${whole.format(size)} in ${clusterName(number).replace("Cluster", "cluster")}`);
    return [
      ...named,
      found.length > 4 ? `${whole.format(found.slice(4).reduce((sum, [, size]) => sum + size, 0))} in others` : null,
    ]
      .filter(Boolean)
      .join(", ");
  }
}

// Even-odd rule.
function isInside(loop, x, y) {
  let inside = false;
  for (let i = 0, j = loop.length - 1; i < loop.length; j = i++) {
    const [xi, yi] = loop[i];
    const [xj, yj] = loop[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}

function mapSection() {
  if (!count || !images.x) return null;
  mapView = new MapView();
  return [
    el("p", { class: "lead" }, "Every image is a point; near means alike. Point at one to see it, click to open it."),
    el("p", { class: "quiet" }, [data.map?.method, data.map?.note].filter(Boolean).join(": ")),
    mapView.node,
  ];
}
