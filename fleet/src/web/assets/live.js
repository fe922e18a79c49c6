// Keeps an open page up to date. Without this script the page reloads itself.
//
// A part of a page has data-topics, what it is about, and data-part, where it is read anew. A grid
// has data-cells, the number of its rollout: its cells are changed in place, found by their links.
"use strict";
(() => {
  const PAUSE_MS = 1500; // between two reads of the same page's parts
  const WHOLE_MS = 60000; // after which all parts are read, as times pass without an event
  const RETRY_MS = 10000; // after which a refused stream is tried again
  const NEWS_MS = 10000; // for which it is said what has changed

  const banner = document.getElementById("banner");
  const news = document.getElementById("news");
  let due = new Set();
  let timer = 0;
  let readAt = 0;
  let newsTimer = 0;
  let known = Number(document.body.dataset.after);

  const say = (words) => {
    if (banner.textContent !== words) banner.textContent = words;
  };

  const tell = (words) => {
    news.textContent = words;
    clearTimeout(newsTimer);
    newsTimer = setTimeout(() => (news.textContent = ""), NEWS_MS);
  };

  const listen = () => {
    const stream = new EventSource("/live?after=" + known);
    stream.addEventListener("open", () => say(""));
    stream.addEventListener("news", (event) => {
      known = Number(event.lastEventId);
      const told = JSON.parse(event.data);
      told.cells.forEach(change);
      wake(told.topics);
    });
    stream.addEventListener("reset", (event) => {
      known = Number(event.lastEventId);
      wake(["all", "everything"]);
    });
    stream.addEventListener("away", () => say("The store is away: what is shown may be old."));
    stream.addEventListener("back", () => {
      say("");
      wake(["everything"]);
    });
    stream.addEventListener("error", () => {
      say("The connection is lost: what is shown may be old. It is tried again.");
      if (stream.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_MS);
    });
  };

  const change = (cell) => {
    const grid = document.querySelector(`[data-cells="${cell.rollout}"]`);
    // Links are percent-encoded: no quote stands in them.
    const link = grid && grid.querySelector(`a[href="${cell.href}"]`);
    if (!link) return;
    link.className = cell.class;
    link.textContent = cell.letter;
    link.setAttribute("aria-label", `${cell.host}: ${cell.words}`);
  };

  const wake = (topics) => {
    topics.forEach((topic) => due.add(topic));
    if (timer || document.hidden) return;
    const wait = Math.max(0, readAt + PAUSE_MS - Date.now());
    timer = setTimeout(() => {
      timer = 0;
      const topics = due;
      due = new Set();
      readAt = Date.now();
      document.querySelectorAll("[data-part]").forEach((part) => {
        const about = part.dataset.topics.split(" ");
        if (topics.has("everything") || about.some((topic) => topics.has(topic))) read(part);
      });
    }, wait);
  };

  const read = async (part) => {
    try {
      const answer = await fetch(part.dataset.part);
      if (!answer.ok) return;
      const text = await answer.text();
      const focused = part.contains(document.activeElement) && document.activeElement;
      const place = focused && (focused.id ? "#" + focused.id : `[href="${focused.getAttribute("href")}"]`);
      const before = part.querySelector("[data-say]");
      part.innerHTML = text;
      const after = part.querySelector("[data-say]");
      if (before && after && before.dataset.say !== after.dataset.say) tell(after.dataset.say);
      const again = place && part.querySelector(place);
      if (again) again.focus({ preventScroll: true });
    } catch {
      // The stream says that the connection is lost; the next news read the part again.
    }
  };

  // Arrow keys lead through the cells of a grid, besides Tab.
  document.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const cell = event.target.closest && event.target.closest("[data-cells] .cells a");
    if (!step || !cell || event.ctrlKey || event.altKey || event.metaKey) return;
    const cells = [...cell.closest("[data-cells]").querySelectorAll(".cells a")];
    const next = cells[cells.indexOf(cell) + step];
    if (next) {
      next.focus();
      event.preventDefault();
    }
  });

  document.addEventListener("visibilitychange", () => wake([]));
  setInterval(() => wake(["everything"]), WHOLE_MS);
  listen();
})();
