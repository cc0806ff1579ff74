// Keeps the page true: asks the hub again every two seconds, and says so when it does not answer.
"use strict";
(() => {
  const EVERY_MS = 2000, STALE_AFTER_MS = 5000, GIVE_UP_MS = 4000;
  const body = document.body;
  if (!document.querySelector("[data-live]")) return;
  const banner = document.getElementById("stale");
  let heardAt = performance.now(), asking = false;

  const keepPlace = (before, after) => {
    for (const open of before.querySelectorAll("details[open][id]")) {
      const twin = after.querySelector(`details#${open.id}`);
      if (twin) twin.open = true;
    }
    const focused = before.contains(document.activeElement) ? document.activeElement : null;
    const home = focused && focused.closest("[id]");
    if (!home) return () => {};
    const places = "a[href], button, summary, input, select, textarea";
    const index = [...home.querySelectorAll(places)].indexOf(focused);
    return () => {
      const place = document.getElementById(home.id);
      const twin = place && (index < 0 ? place : place.querySelectorAll(places)[index]);
      if (twin) twin.focus({ preventScroll: true });
    };
  };

  // The screen is a list of parts; when other parts belong on it, or in another order, it is replaced as a whole.
  const sameParts = (shown, news) => [...shown.children].map((part) => part.id).join() === [...news.children].map((part) => part.id).join();

  const bringUpToDate = (fresh) => {
    for (const screen of document.querySelectorAll("[data-parts]")) {
      const news = fresh.getElementById(screen.id);
      if (news && !sameParts(screen, news)) {
        const copy = news.cloneNode(true);
        const refocus = keepPlace(screen, copy);
        screen.replaceChildren(...copy.childNodes);
        refocus();
      }
    }
    for (const part of document.querySelectorAll("[data-live]")) {
      const news = fresh.getElementById(part.id);
      if (!news) continue;
      for (const name of ["class", "aria-live"]) {
        if (news.hasAttribute(name) && part.getAttribute(name) !== news.getAttribute(name)) part.setAttribute(name, news.getAttribute(name));
      }
      const shown = part.cloneNode(true);
      for (const open of shown.querySelectorAll("details[open]")) open.open = false;
      if (shown.innerHTML === news.innerHTML) continue;
      const refocus = keepPlace(part, news);
      part.replaceChildren(...news.childNodes);
      refocus();
    }
    body.dataset.at = fresh.body.dataset.at;
    document.title = fresh.title;
  };

  const ask = async () => {
    if (asking || document.hidden) return;
    asking = true;
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), GIVE_UP_MS);
    try {
      const answer = await fetch(location.href, { signal: stop.signal, cache: "no-store", headers: { accept: "text/html" } });
      if (answer.redirected) { location.assign(answer.url); return; }
      if (!answer.ok) return;
      bringUpToDate(new DOMParser().parseFromString(await answer.text(), "text/html"));
      heardAt = performance.now();
    } catch { /* no news: the banner says so */ } finally {
      clearTimeout(timer);
      asking = false;
      tell();
    }
  };

  const inWords = (seconds) => {
    const minutes = Math.floor(seconds / 60), hour = banner.querySelector("[data-age]").dataset.hour;
    if (seconds < 60) return `${seconds} s`;
    return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} ${hour} ${String(minutes % 60).padStart(2, "0")}`;
  };

  const tell = () => {
    const age = performance.now() - heardAt;
    const stale = age > STALE_AFTER_MS;
    body.classList.toggle("stale", stale);
    if (!stale) { banner.hidden = true; return; }
    banner.querySelector("[data-age]").textContent = inWords(Math.round(age / 1000));
    banner.querySelector("[data-time]").textContent = body.dataset.at;
    banner.hidden = false;
  };

  setInterval(ask, EVERY_MS);
  setInterval(tell, 1000);
  document.addEventListener("visibilitychange", ask);
})();
