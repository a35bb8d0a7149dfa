// Work that waits until its place comes into view; printing does all of it.

/** @type {Map<Element, () => void>} */
const waiting = new Map();
const watcher = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => start(entry.target)),
  { rootMargin: "500px" },
);

/** @param {Element} node */
function start(node) {
  watcher.unobserve(node);
  const work = waiting.get(node);
  waiting.delete(node);
  work?.();
}

/**
 * Calls `work` once, as soon as `node` is within 500 pixels of the window.
 * @param {Element} node
 * @param {() => void} work
 */
export function whenSeen(node, work) {
  waiting.set(node, work);
  watcher.observe(node);
}

addEventListener("beforeprint", () => [...waiting.keys()].forEach(start));
