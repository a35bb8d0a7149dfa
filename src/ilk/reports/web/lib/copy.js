// Buttons that copy text to the clipboard.

import { button, el, say } from "./dom.js";

/**
 * @param {string} text
 * @param {string} what
 */
async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied ${what}.`);
    return true;
  } catch {
    return copyBySelection(text, what);
  }
}

/**
 * For browsers that give the clipboard interface to https pages only.
 * @param {string} text
 * @param {string} what
 */
function copyBySelection(text, what) {
  const field = el("textarea", { class: "unseen", "aria-hidden": "true" });
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  (focused?.closest("dialog") ?? document.body).append(field);
  field.value = text;
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  focused?.focus();
  say(done ? `Copied ${what}.` : "The browser does not allow copying.");
  return done;
}

/**
 * @param {string | (() => string)} text what is copied, or a function that makes it when the button is pressed
 * @param {string} what names it, such as "the command"
 * @param {string} [words] on the button
 */
export function copyButton(text, what, words = "Copy") {
  const press = async () => {
    const done = await copy(typeof text === "function" ? text() : text, what);
    made.textContent = done ? "Copied" : "Not allowed";
    setTimeout(() => (made.textContent = words), 1500);
  };
  const made = button(words, press, { class: "small", "aria-label": words === "Copy" ? `Copy ${what}` : words });
  return made;
}
