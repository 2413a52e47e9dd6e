"use strict";
// The pages work without this. It shows times in the reader's zone, keeps figures up to date, copies.
(() => {
  const root = document.documentElement;
  const all = (query, from = document) => [...from.querySelectorAll(query)];
  root.classList.add("js");

  // The reader's time zone, unless the address names one.
  const here = new URL(location.href);
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const shown = document.body.dataset.zone;
  if (shown && zone && zone !== shown && !("chosen" in document.body.dataset)) {
    here.searchParams.set("tz", zone);
    location.replace(here);
    return;
  }
  // A test email was opened by this load; loading again is not to open it again.
  if (here.searchParams.has("try")) {
    here.searchParams.delete("try");
    history.replaceState(null, "", here);
  }

  // Commands can be copied.
  const copy = async (pre) => {
    try {
      await navigator.clipboard.writeText(pre.innerText);
      return true;
    } catch { // only https and localhost have a clipboard
      getSelection().selectAllChildren(pre);
      return document.execCommand("copy");
    }
  };
  for (const box of all(".command")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      button.textContent = (await copy(box.querySelector("pre"))) ? "Copied" : "Selected";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
    box.append(button);
    box.classList.add("copies");
  }

  // A menu of dates closes with Escape and when the reader goes elsewhere.
  for (const menu of all("details.dates")) {
    menu.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && menu.open) {
        menu.open = false;
        menu.querySelector("summary").focus();
      }
    });
    document.addEventListener("click", (event) => {
      if (!menu.contains(event.target)) menu.open = false;
    });
  }

  // Change `now` into `next`, node by node: what stays keeps focus, scroll and what is unfolded.
  const key = (node) => node.id || (node.dataset && node.dataset.key) || "";
  const same = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && key(a) === key(b);
  const morph = (now, next) => {
    if (now.isEqualNode(next)) return;
    if (now.nodeType !== Node.ELEMENT_NODE) {
      now.nodeValue = next.nodeValue;
      return;
    }
    for (const { name } of [...now.attributes]) {
      if (!next.hasAttribute(name) && name !== "open") now.removeAttribute(name);
    }
    for (const { name, value } of next.attributes) {
      if (now.getAttribute(name) !== value) now.setAttribute(name, value);
    }
    let at = now.firstChild;
    for (const child of [...next.childNodes]) {
      let found = at;
      while (found && !same(found, child)) found = found.nextSibling;
      if (found && (found === at || key(child))) {
        while (at !== found) {
          const gone = at;
          at = at.nextSibling;
          gone.remove();
        }
        at = found.nextSibling;
        morph(found, child);
      } else {
        const made = document.importNode(child, true);
        now.insertBefore(made, at);
        if (made.id && made.classList) made.classList.add("fresh");
      }
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  };

  const area = document.querySelector("[data-live]");
  const bar = document.querySelector(".live[data-every]");
  if (!area || !bar) return;
  const ago = bar.querySelector("[data-ago]");
  const pause = bar.querySelector("[data-pause]");
  const say = bar.querySelector("[data-say]");
  const every = 1000 * bar.dataset.every;
  let etag = null;
  let updated = Date.now();
  let paused = false;
  let failures = 0;
  let timer = 0;
  let busy = false;
  let spoken = 0;
  let unsaid = 0;
  bar.hidden = false;

  const tell = () => {
    const seconds = Math.round((Date.now() - updated) / 1000);
    const text = seconds < 100 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`;
    const word = paused ? "Paused, updated" : failures ? "No connection, updated" : "Live, updated";
    ago.textContent = `${word} ${text}`;
    bar.classList.toggle("paused", paused);
    bar.classList.toggle("lost", failures > 0);
  };
  const rows = () => new Set(all("[data-part] [id^=e]").map((row) => row.id).filter((id) => /^e\d+$/.test(id)));
  const speak = (fresh) => { // at most twice a minute
    unsaid += fresh;
    if (unsaid && Date.now() - spoken > 30000) {
      say.textContent = unsaid === 1 ? "1 new event" : `${unsaid} new events`;
      spoken = Date.now();
      unsaid = 0;
    }
  };
  const show = (text) => {
    const before = rows();
    const next = new DOMParser().parseFromString(text, "text/html");
    for (const part of all("[data-part]", area)) {
      const other = next.querySelector(`[data-part="${part.dataset.part}"]`);
      const focused = part.contains(document.activeElement) && key(document.activeElement);
      if (other) morph(part, document.importNode(other, true));
      if (focused && !part.contains(document.activeElement)) part.querySelector("a")?.focus({ preventScroll: true });
    }
    speak([...rows()].filter((id) => !before.has(id)).length);
  };
  const refresh = async () => {
    clearTimeout(timer);
    if (busy || paused || document.hidden) return;
    busy = true;
    try {
      const headers = etag ? { "If-None-Match": etag } : {};
      const answer = await fetch(area.dataset.live, { headers, cache: "no-store", signal: AbortSignal.timeout(20000) });
      if (answer.redirected) { // the session is over: the page asks for a key
        location.reload();
        return;
      }
      if (answer.status === 200) {
        const text = await answer.text();
        if (!paused) {
          show(text);
          etag = answer.headers.get("ETag");
        }
      } else if (answer.status !== 304) {
        throw new Error(answer.status);
      }
      failures = 0;
      updated = Date.now();
    } catch {
      failures += 1;
    }
    busy = false;
    tell();
    timer = setTimeout(refresh, Math.min(every * 2 ** failures, 60000));
  };

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    say.textContent = paused ? "Paused" : "Live again";
    tell();
    refresh();
  });
  document.addEventListener("visibilitychange", refresh);
  setInterval(tell, 1000);
  tell();
  timer = setTimeout(refresh, Math.min(every, 1500));
})();
