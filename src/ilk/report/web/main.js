// Puts the page together.

const SECTIONS = [
  ["overview", null, "Overview", overview],
  ["clusters", "Clusters", "Clusters", clusterSection],
  ["how-many", "How many clusters", "How many", howManySection],
  ["map", "Map", "Map", mapSection],
  ["confidence", "Confident and unconfident", "Confidence", confidenceSection],
  ["training", "Training", "Training", trainingSection],
  ["affinity", "Affinity", "Affinity", affinitySection],
  ["neighbours", "Neighbours", "Neighbours", neighbourSection],
  ["confusion", "Confusion matrix", "Confusion", confusionSection],
  ["odd", "Duplicates and odd images", "Duplicates", oddSection],
  ["bad-files", "Files that could not be read", "Bad files", badSection],
  ["made", "How it was made", "How", madeSection],
  ["next", "What to do next", "Next", nextSection],
];

function section([id, title, inNav, make]) {
  const body = make();
  if (!body) return;
  const heading = title ? el("h2", { id: `${id}-title` }, title) : null;
  const made = el(
    "section",
    { id, ...(heading ? { "aria-labelledby": `${id}-title` } : { "aria-label": inNav }) },
    heading,
    body,
  );
  document.getElementById("main").append(made);
  document.getElementById("nav").append(el("li", {}, el("a", { href: `#${id}` }, inNav)));
}

// The navigation says where the reader is: the last section whose head is above the upper third of the window.
function followReading() {
  const links = [...document.querySelectorAll("#nav a")];
  const targets = links.map((link) => document.querySelector(link.hash));
  let current = null;
  const follow = () => {
    const line = innerHeight / 3;
    const now = targets.findLastIndex((target) => target.getBoundingClientRect().top <= line);
    if (now === current) return;
    current = now;
    links.forEach((link, i) =>
      i === now ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current"),
    );
    const bar = document.querySelector("nav ul#nav");
    const link = links[Math.max(now, 0)];
    bar.scrollTo({
      left: link.offsetLeft - (bar.clientWidth - link.offsetWidth) / 2,
      behavior: calm.matches ? "auto" : "smooth",
    });
  };
  let queued = false;
  addEventListener(
    "scroll",
    () => {
      if (queued) return;
      queued = true;
      requestAnimationFrame(() => {
        queued = false;
        follow();
      });
    },
    { passive: true },
  );
  follow();
}

startTheme();
startPictures();
SECTIONS.forEach(section);
followReading();
if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
