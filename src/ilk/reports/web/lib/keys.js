// Keys that act on a part of the page.

/**
 * Calls `acts[key]` when a key is pressed inside `node` without Ctrl, Meta or Alt.
 * @param {HTMLElement} node
 * @param {Record<string, (event: KeyboardEvent) => void>} acts by the event's `key`
 * @param {{ stop?: boolean, when?: (event: KeyboardEvent) => boolean }} [options] `stop`: parts around `node` do not
 *   hear the key; `when`: says whether the keys act now
 */
export function onKeys(node, acts, { stop = false, when = () => true } = {}) {
  node.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!Object.hasOwn(acts, event.key) || !when(event)) return;
    event.preventDefault();
    if (stop) event.stopPropagation();
    acts[event.key](event);
  });
}
