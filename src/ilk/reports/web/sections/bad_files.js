// Files that could not be read.

import { data, run } from "../data.js";
import { scrollBox, table } from "../lib/controls.js";
import { el, nameOf } from "../lib/dom.js";
import { whole } from "../lib/words.js";

export function badFilesSection() {
  const bad = data.bad_files;
  if (!bad.length) return null;
  const title = "Files that could not be read";
  const lead =
    (run.n_bad ?? 0) > bad.length
      ? `The first ${bad.length} of ${whole.format(run.n_bad ?? 0)}; bad_files.csv has all.`
      : "They were left out; nothing else was changed.";
  const rows = bad.map(({ id, reason }) => [nameOf(id), el("bdi", {}, reason)]);
  return [el("p", { class: "lead" }, lead), scrollBox(title, table(title, ["file", "reason"], rows))];
}
