// The bar on top says where the reader is.

import { byId, calm } from "./lib/dom.js";

/** Marks the link of the last section whose head is above the upper third of the window. */
export function followReading() {
  const bar = byId("nav");
  const links = [...bar.querySelectorAll("a")];
  const sections = links.map((link) => byId(link.hash.slice(1)));
  let current = -2;
  const follow = () => {
    const line = innerHeight / 3;
    const now = sections.findLastIndex((section) => section.getBoundingClientRect().top <= line);
    if (now === current) return;
    current = now;
    links.forEach((link, i) => {
      if (i === now) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
    const link = links[Math.max(now, 0)];
    bar.scrollTo({
      left: link.offsetLeft - (bar.clientWidth - link.offsetWidth) / 2,
      behavior: calm.matches ? "auto" : "smooth",
    });
  };
  let queued = false;
  const queue = () => {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      follow();
    });
  };
  addEventListener("scroll", queue, { passive: true });
  follow();
}
