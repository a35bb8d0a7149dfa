// Elements of the page. Strings become text nodes: no value is ever read as HTML.

/** @import { Attributes, Child } from "../types.js" */

/**
 * `node` with attributes and children added. A function is a listener of the event of that name; null, undefined and
 * false leave an attribute or a child out.
 * @template {Element & ElementCSSInlineStyle} T
 * @param {T} node
 * @param {Attributes} attributes
 * @param {Child[]} children
 * @returns {T}
 */
export function fill(node, attributes, children) {
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(attribute, value);
    else if (typeof value === "object")
      for (const [property, text] of Object.entries(value)) node.style.setProperty(property, String(text));
    else node.setAttribute(attribute, value === true ? "" : String(value));
  }
  node.append(...nodesOf(children));
  return node;
}

/**
 * @param {readonly Child[]} children
 * @returns {(Node | string)[]}
 */
function nodesOf(children) {
  return children.flatMap((child) => {
    if (child === null || child === undefined || child === false) return [];
    if (child instanceof Node) return [child];
    return typeof child === "object" ? nodesOf(child) : [String(child)];
  });
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Attributes} [attributes]
 * @param {Child[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/**
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} tag
 * @param {Attributes} [attributes]
 * @param {Child[]} children
 * @returns {SVGElementTagNameMap[K]}
 */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

/**
 * @param {string} text
 * @param {() => void} click
 * @param {Attributes} [attributes]
 */
export function button(text, click, attributes = {}) {
  return el("button", { type: "button", click, ...attributes }, text);
}

/**
 * A square button with a sign on it and its meaning in words.
 * @param {string} words
 * @param {string} sign
 * @param {() => void} click
 * @param {boolean} [disabled]
 */
export function iconButton(words, sign, click, disabled = false) {
  return button(sign, click, { class: "icon", "aria-label": words, title: words, disabled });
}

/**
 * A name from the user's files. It may be long or written from right to left; neither disturbs the text around it.
 * @param {string | null} text
 */
export function nameOf(text) {
  return el("bdi", { class: "name" }, text);
}

/**
 * The element of that id, which report.html or a section has made.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`The page has no element '${id}'.`);
  return node;
}

/**
 * Tells screen readers what just happened.
 * @param {string} text
 */
export function say(text) {
  byId("status").textContent = text;
}

/** Whether the reader asked the system for less motion. */
export const calm = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * @param {Element} node
 */
export function scrollTo(node) {
  node.scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" });
}
