"""JavaScript that opens what is folded, looks for text of too little contrast, and measures overflow."""

from __future__ import annotations

UNFOLD = "document.querySelectorAll('details').forEach((node) => (node.open = true))"
OVERFLOW = "document.documentElement.scrollWidth - innerWidth"
CONTRAST = """
(() => {
  const luminance = (colour) => {
    const linear = (v) => (v <= 10 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const groundOf = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!/, 0\\)|transparent/.test(colour)) return colour;
    }
  };
  const bad = [];
  for (const node of document.querySelectorAll("body *")) {
    if (![...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())) continue;
    if (!node.checkVisibility() || node.closest(":disabled, script, title, desc, .thumb")) continue;
    const style = getComputedStyle(node);
    const ink = node instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [luminance(ink), luminance(groundOf(node))].sort((p, q) => q - p);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push([node.textContent.slice(0, 30), ink, groundOf(node)]);
  }
  return bad;
})()
"""
