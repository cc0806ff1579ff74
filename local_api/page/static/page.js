// Keeps the page true: asks the hub again when it has news and every two seconds, and says so when it does not answer.
"use strict";
(() => {
  const EVERY_MS = 2000, STALE_AFTER_MS = 5000, GIVE_UP_MS = 4000, NEWS_WITHIN_MS = 25000, NEWS_APART_MS = 300;
  const body = document.body;
  if (!document.querySelector("[data-live]")) return;
  const banner = document.getElementById("stale");
  let heardAt = performance.now(), asking = false;

  const keepPlace = (before, after) => {
    for (const open of before.querySelectorAll("details[open][id]")) {
      const twin = after.querySelector(`details#${open.id}`);
      if (twin) twin.open = true;
    }
    // What a person has typed or chosen and not sent yet stays.
    for (const field of before.querySelectorAll("input[id], select[id]")) {
      const twin = after.querySelector(`#${CSS.escape(field.id)}`);
      const chosenAtFirst = field.options && Math.max(0, [...field.options].findIndex((one) => one.defaultSelected));
      const changed = field.options ? field.selectedIndex !== chosenAtFirst : field.value !== field.defaultValue;
      if (twin && changed) twin.value = field.value;
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
    if (fresh.body.dataset.newsAfter) body.dataset.newsAfter = fresh.body.dataset.newsAfter;
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

  // The hub answers when something has happened after what the page shows. A busy shop is asked three times a second.
  const follow = async () => {
    const pause = (ms) => new Promise((done) => setTimeout(done, ms));
    while (body.dataset.newsAfter) {
      try {
        const signal = AbortSignal.timeout(NEWS_WITHIN_MS);
        const answer = await fetch(`/news?after=${body.dataset.newsAfter}`, { signal, cache: "no-store" });
        if (answer.redirected || !answer.ok) await pause(STALE_AFTER_MS);
        else if (!document.hidden) await ask();
      } catch { await pause(EVERY_MS); }
      await pause(NEWS_APART_MS);
      while (document.hidden) await pause(EVERY_MS);
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

  follow();
  setInterval(ask, EVERY_MS);
  setInterval(tell, 1000);
  document.addEventListener("visibilitychange", ask);
})();
