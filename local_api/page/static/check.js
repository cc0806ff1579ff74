// Checks the browser it runs in as a till would use it, and shows what was found; every sentence stands in the page.
"use strict";
(() => {
  const GIVE_UP_MS = 8000, CLOCK_OFF_MS = 120000, EVENTS_WANTED = 2, LOCAL_NETWORK_SINCE = 142;
  const openedAt = Date.now(), checks = document.getElementById("checks"), { hosts, port, name, now, clock } = checks.dataset;
  const found = {};

  const show = (part, state) => {
    for (const line of part.querySelectorAll("[data-when]")) line.hidden = !line.dataset.when.split(" ").includes(state);
    part.dataset.state = state;
  };
  const tell = (what, state) => { found[what] = state; show(document.getElementById(`check-${what}`), state); };

  // Opaque on purpose: that an answer comes at all shows that the chain is trusted; its content is nobody's business.
  const reaches = async (place) => {
    const stop = new AbortController(), timer = setTimeout(() => stop.abort(), GIVE_UP_MS);
    try {
      await fetch(`https://${place}/healthz`, { mode: "no-cors", cache: "no-store", credentials: "omit", signal: stop.signal });
      return true;
    } catch { return false; } finally { clearTimeout(timer); }
  };

  const hearsEvents = (place) => new Promise((resolve) => {
    const source = new EventSource(`https://${place}/v1/browser-check`);
    const end = (heard) => { source.close(); clearTimeout(timer); resolve(heard); };
    const timer = setTimeout(() => end(false), GIVE_UP_MS);
    let count = 0;
    source.addEventListener("check", () => { if (++count >= EVENTS_WANTED) end(true); });
    source.onerror = () => end(false);
  });

  const keepsData = () => new Promise((resolve) => {
    try {
      const asked = indexedDB.open("hubd-check");
      asked.onerror = () => resolve(false);
      asked.onsuccess = () => { asked.result.close(); indexedDB.deleteDatabase("hubd-check"); resolve(true); };
    } catch { resolve(false); }
  });

  // The permission belongs to the till's own address. Here one sees at most whether it is refused to every page.
  const localNetwork = async () => {
    for (const permission of ["local-network-access", "local-network"]) {
      try {
        const { state } = await navigator.permissions.query({ name: permission });
        return state === "denied" ? "denied" : "asked";
      } catch { /* not known under this name, or not told to a page without HTTPS */ }
    }
    const version = /Chrom(?:e|ium)\/(\d+)/.exec(navigator.userAgent);
    return version && Number(version[1]) >= LOCAL_NETWORK_SINCE ? "asked" : "unknown";
  };

  const checkClock = () => {
    const off = openedAt - Number(now);
    if (clock !== "trusted") return tell("clock", "unsure");
    for (const place of document.querySelectorAll("[data-minutes]")) place.textContent = Math.round(Math.abs(off) / 60000);
    tell("clock", Math.abs(off) <= CLOCK_OFF_MS ? "good" : "care");
  };

  const verdict = () => {
    if (found.address === "stop") return "address";
    if (found.store === "stop") return "old";
    if (found.trust === "stop") return "trust";
    if (found.stream === "stop") return "stream";
    if (found.local === "denied") return "local";
    return found.clock === "care" ? "clock" : "good";
  };

  const check = async () => {
    const place = `${location.hostname}:${port}`;
    checkClock();
    tell("local", await localNetwork());
    tell("store", "EventSource" in window && await keepsData() ? "good" : "stop");
    tell("address", hosts.split(" ").includes(location.hostname) ? "good" : "stop");
    if (found.address === "good") {
      tell("trust", await reaches(place) ? "good" : "stop");
      tell("stream", found.trust !== "good" ? "later" : await hearsEvents(place) ? "good" : "stop");
    } else { tell("trust", "later"); tell("stream", "later"); }
    if (name) tell("name", found.trust !== "good" ? "later" : await reaches(name) ? "good" : "care");
    const end = verdict(), headline = document.getElementById("verdict");
    headline.className = `headline ${{ good: "good", clock: "care" }[end] || "stop"}`;
    show(headline, end);
    document.getElementById("help").hidden = end !== "trust" && end !== "clock";
  };
  check();
})();
