// How the run was made, and what to do with it next.

import { data } from "../data.js";
import { scrollBox, table } from "../lib/controls.js";
import { copyButton } from "../lib/copy.js";
import { el } from "../lib/dom.js";

/**
 * A command with a button that copies it; two spaces end the command and begin a remark.
 * @param {string} text
 */
export function commandLine(text) {
  // A line may break between the words of a command, not at the hyphens in them.
  const words = text.split(/( +)/).map((part) => (part.trim() ? el("span", {}, part) : part));
  const copied = copyButton(text.split(/ {2,}/)[0], "the command");
  return el("div", { class: "command" }, el("code", { dir: "ltr" }, words), copied);
}

export function madeSection() {
  const { settings, versions, command, notes, cite } = data.made;
  const reasons = notes?.map((note) => el("li", {}, note)) ?? [];
  return [
    command ? [el("h3", {}, "Command"), commandLine(command)] : null,
    reasons.length ? [el("h3", {}, "Why so"), el("ul", { class: "notes" }, reasons)] : null,
    el(
      "div",
      { class: "columns" },
      settingsPart("Settings", settings, "Every setting of this run"),
      settingsPart("Versions", versions, "Versions of what was used"),
    ),
    cite ? [el("h3", {}, "How to cite the method"), citation(cite)] : null,
  ];
}

/** @param {string} bibtex */
function citation(bibtex) {
  const text = el("pre", { tabindex: "0", "aria-label": "BibTeX" }, bibtex);
  return el("div", { class: "cite" }, text, copyButton(bibtex, "the BibTeX entry"));
}

/**
 * @param {string} title
 * @param {Record<string, unknown>} settings
 * @param {string} caption
 */
function settingsPart(title, settings, caption) {
  const rows = Object.entries(settings ?? {}).map(([key, value]) => [key, el("bdi", {}, valueWords(value))]);
  if (!rows.length) return null;
  const made = table(caption, ["name", "value"], rows, { rowHeads: true });
  return el("div", {}, el("h3", {}, title), scrollBox(title, made, "scroll tall"));
}

/** @param {unknown} value */
function valueWords(value) {
  if (value === null || value === undefined) return "\u2013";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

export function nextSection() {
  if (!data.next.length) return null;
  return [
    el("p", { class: "lead" }, "Commands for this run; run them where the report was made."),
    data.next.map(commandLine),
  ];
}
