// Windows over the page. A native dialog keeps the focus inside, closes on Escape and gives the focus back.

import { el, iconButton } from "./dom.js";

/**
 * A closed dialog; the element with id `<kind>-title` inside it names it. A click beside it closes it.
 * @param {string} kind
 */
export function makeDialog(kind) {
  const dialog = el("dialog", { class: kind, "aria-labelledby": `${kind}-title` });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog && !isWithin(event, dialog)) dialog.close();
  });
  document.body.append(dialog);
  return dialog;
}

/**
 * @param {MouseEvent} event
 * @param {Element} node
 */
function isWithin(event, node) {
  const box = node.getBoundingClientRect();
  return (
    event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom
  );
}

export function closeDialogs() {
  document.querySelectorAll("dialog").forEach((dialog) => dialog.open && dialog.close());
}

/** @param {HTMLDialogElement} dialog */
export function closeButton(dialog) {
  return iconButton("Close", "\u00d7", () => dialog.close());
}

/**
 * Gives the focus to a button of the dialog's header: the one of that label if it can be pressed, else the first.
 * @param {HTMLDialogElement} dialog
 * @param {string | null} [label]
 */
export function focusHeader(dialog, label = null) {
  const buttons = [...dialog.querySelectorAll("button")].filter((node) => node.closest("header") && !node.disabled);
  (buttons.find((node) => label !== null && node.getAttribute("aria-label") === label) ?? buttons[0])?.focus();
}
