// Points on a canvas, drawn by writing pixels: as fast on a machine without a graphics card, and the same everywhere.

// The pixels of a shape as offsets and coverage (0 to 256); half a device pixel of radius makes a new stamp.
const stamps = new Map();

function stamp(shape, radius) {
  const size = Math.round(radius * 2) / 2;
  const key = shape * 1000 + size * 2;
  if (!stamps.has(key)) stamps.set(key, makeStamp(shape, size));
  return stamps.get(key);
}

function makeStamp(shape, radius) {
  const reach = Math.ceil(radius * 1.35) + 1;
  const side = 2 * reach + 1;
  const pen = el("canvas", { width: side, height: side }).getContext("2d");
  pen.translate(reach + 0.5, reach + 0.5);
  pen.scale(radius, radius);
  pen.fill(new Path2D(SHAPES[shape]));
  const { data: pixels } = pen.getImageData(0, 0, side, side);
  const dots = [];
  for (let i = 0; i < side * side; i++) {
    const cover = Math.round((pixels[4 * i + 3] / 255) * 256);
    if (cover) dots.push([(i % side) - reach, Math.floor(i / side) - reach, cover]);
  }
  return {
    reach,
    dx: Int16Array.from(dots, ([dx]) => dx),
    dy: Int16Array.from(dots, ([, dy]) => dy),
    cover: Uint16Array.from(dots, ([, , cover]) => cover),
  };
}

function packed([r, g, b]) {
  return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
}

function blend(under, over, cover) {
  const rest = 256 - cover;
  const redBlue = ((over & 0xff00ff) * cover + (under & 0xff00ff) * rest) >>> 8;
  const green = ((over & 0xff00) * cover + (under & 0xff00) * rest) >>> 8;
  return 0xff000000 | (redBlue & 0xff00ff) | (green & 0xff00);
}

// An even shuffle that is the same each time, so that no cluster lies on top because of its number.
function shuffled(length) {
  const order = Uint32Array.from({ length }, (_, i) => i);
  let state = 12345;
  for (let i = length - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = state % (i + 1);
    [order[i], order[other]] = [order[other], order[i]];
  }
  return order;
}

// Draws `points` ({xs, ys, order, kinds}) into ImageData. A point's pixel is (x * scale + left, y * scale + top).
// `looks[kind]` is {colour, shape}; with `bright`, the points that are not are drawn first, in the colour `faint`.
function paintDots(image, points, { scale, left, top }, { looks, radius, ground, bright = null, faint = 0 }) {
  const pixels = new Uint32Array(image.data.buffer);
  pixels.fill(ground);
  const inks = looks.map(({ colour, shape }) => ({ colour, stamp: stamp(shape, radius) }));
  const pale = looks.map(({ shape }) => ({ colour: faint, stamp: stamp(shape, radius * 0.85) }));
  if (bright) paintPass(image, pixels, points, { scale, left, top }, pale, (i) => !bright[i]);
  paintPass(image, pixels, points, { scale, left, top }, inks, bright && ((i) => bright[i]));
}

function paintPass({ width, height }, pixels, { xs, ys, order, kinds }, { scale, left, top }, inks, wanted) {
  for (let at = 0; at < order.length; at++) {
    const i = order[at];
    if (wanted && !wanted(i)) continue;
    const x = Math.round(xs[i] * scale + left);
    const y = Math.round(ys[i] * scale + top);
    const {
      colour,
      stamp: { reach, dx, dy, cover },
    } = inks[kinds[i]];
    if (x < -reach || y < -reach || x >= width + reach || y >= height + reach) continue;
    const inside = x >= reach && y >= reach && x < width - reach && y < height - reach;
    for (let j = 0; j < dx.length; j++) {
      const px = x + dx[j];
      const py = y + dy[j];
      if (!inside && (px < 0 || py < 0 || px >= width || py >= height)) continue;
      const pixel = py * width + px;
      pixels[pixel] = cover[j] === 256 ? colour : blend(pixels[pixel], colour, cover[j]);
    }
  }
}

// A square index over points in the unit square, for what lies near a place.
function makeIndex(xs, ys) {
  const side = Math.max(1, Math.min(256, Math.ceil(Math.sqrt(xs.length / 4))));
  const place = (value) => Math.min(side - 1, Math.max(0, Math.floor(value * side)));
  const starts = new Uint32Array(side * side + 1);
  for (let i = 0; i < xs.length; i++) starts[place(ys[i]) * side + place(xs[i]) + 1]++;
  for (let i = 0; i < side * side; i++) starts[i + 1] += starts[i];
  const items = new Uint32Array(xs.length);
  const next = starts.slice();
  for (let i = 0; i < xs.length; i++) items[next[place(ys[i]) * side + place(xs[i])]++] = i;
  return { side, place, starts, items };
}

function eachWithin({ side, place, starts, items }, x0, y0, x1, y1, visit) {
  for (let row = place(y0); row <= place(y1); row++) {
    const from = starts[row * side + place(x0)];
    const to = starts[row * side + place(x1) + 1];
    for (let at = from; at < to; at++) visit(items[at]);
  }
}
