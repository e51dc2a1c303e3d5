// Keeps a page up to date: the server renders it anew, and what has changed is put in its place.
"use strict";

(() => {
  const { stream, poll } = document.body.dataset;
  let isLoading = false;
  let isStale = false;

  const isBusy = (part) =>
    part.contains(document.activeElement) && document.activeElement.matches("input, textarea, select");

  const replace = (part, fresh) => {
    if (part.innerHTML === fresh.innerHTML || isBusy(part)) return;
    const open = new Set([...part.querySelectorAll("details[open]")].map((it) => it.id));
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && [...part.querySelectorAll("*")].indexOf(focused);
    part.innerHTML = fresh.innerHTML;
    for (const it of part.querySelectorAll("details")) it.open = open.has(it.id);
    if (focused) part.querySelectorAll("*")[place]?.focus();
  };

  const refresh = async () => {
    if (isLoading) {
      isStale = true;
      return;
    }
    isLoading = true;
    try {
      do {
        isStale = false;
        const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
        if (!answer.ok || answer.redirected) return;
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of document.querySelectorAll("[data-live]")) {
          const fresh = page.querySelector(`[data-live="${part.dataset.live}"]`);
          if (fresh) replace(part, fresh);
        }
        await new Promise((done) => setTimeout(done, 150));
      } while (isStale);
    } catch {
      // The server is away; whatever asks next may find it again.
    } finally {
      isLoading = false;
    }
  };

  if (stream) {
    const source = new EventSource(stream);
    source.addEventListener("run", refresh);
    source.addEventListener("node", refresh);
    source.addEventListener("end", () => {
      source.close();
      refresh();
    });
  }
  if (poll) {
    setInterval(() => document.visibilityState === "visible" && refresh(), Number(poll));
  }
})();
