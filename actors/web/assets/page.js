// Keeps an open page true: replaces changed parts by id, lets ages count on, says when it is not live.
// One stream, one timer, no listener on anything that is replaced: a page may stay open for days.
"use strict";

(() => {
  const SILENT_MS = 15000; // the server speaks at least every five seconds
  const AGAIN_MS_MAX = 10000;
  const page = document.body.dataset.page;
  const shown = new Map(); // by id of a part: its text as it was sent
  let stream = null;
  let heardMs = 0;
  let waitMs = 500;
  let again = 0;
  let aheadMs = 0; // of the server's clock
  let state = "off";

  const ageOf = (then, now) => {
    const s = Math.max(0, Math.floor((now - then) / 1000));
    if (s < 120) return `${s}s`;
    if (s < 7200) return `${Math.floor(s / 60)}m`;
    return s < 172800 ? `${Math.floor(s / 3600)}h` : `${Math.floor(s / 86400)}d`;
  };

  const ages = () => {
    const now = Date.now() + aheadMs;
    for (const time of document.querySelectorAll("time.age")) {
      const text = ageOf(Date.parse(time.dateTime), now);
      if (time.textContent !== text) time.textContent = text;
    }
  };

  const say = (next, text) => {
    const mark = document.getElementById("connection");
    if (!mark || (state === next && next === "live")) return;
    state = next;
    mark.dataset.state = next;
    document.getElementById("connection-text").textContent = text;
  };

  const lost = () => {
    if (state !== "lost") say("lost", `Not live since ${new Date().toISOString().slice(11, 19)}, trying again`);
  };

  const replace = (id, text) => {
    const part = document.getElementById(`part-${id}`);
    if (!part || shown.get(id) === text) return;
    shown.set(id, text);
    const key = part.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    part.innerHTML = text;
    if (key !== undefined) {
      const same = [...part.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key);
      if (same) same.focus({ preventScroll: true });
    }
  };

  const hear = (event) => {
    heardMs = Date.now();
    const data = JSON.parse(event.data);
    aheadMs = Date.parse(data.now) - heardMs;
    say("live", "Live");
    waitMs = 500;
    return data;
  };

  const connect = () => {
    again = 0;
    if (stream) stream.close();
    heardMs = Date.now();
    stream = new EventSource(`/events?page=${encodeURIComponent(page)}`);
    stream.addEventListener("hello", (event) => {
      // Another program serves us now: its parts may not fit this page.
      if (hear(event).version !== document.body.dataset.version) location.reload();
    });
    stream.addEventListener("parts", (event) => {
      for (const [id, text] of Object.entries(hear(event).parts)) replace(id, text);
      ages();
    });
    stream.addEventListener("tick", hear);
    stream.addEventListener("error", () => {
      lost();
      later();
    });
  };

  const later = () => {
    if (stream) stream.close();
    stream = null;
    if (again) return;
    again = setTimeout(connect, waitMs);
    waitMs = Math.min(waitMs * 2, AGAIN_MS_MAX);
  };

  if (page) {
    connect();
    // Sent away into the browser's store of pages, a stream would still be held open.
    addEventListener("pagehide", () => stream && stream.close());
    addEventListener("pageshow", (event) => event.persisted && connect());
  }
  setInterval(() => {
    ages();
    if (page && stream && Date.now() - heardMs > SILENT_MS) {
      lost();
      later();
    }
  }, 1000);
})();
