// Keeps the page of what happens now as it is at the server, by server-sent events. The page is whole without it.
"use strict";

(() => {
  const AGAIN = 5000;
  const part = document.getElementById("happening");
  const live = document.getElementById("live");
  const lost = document.getElementById("connection");
  let events = null;
  let timer = null;

  // What stays the same stays in place, so that nobody who points at it, selects it or has it read loses it.
  function become(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
      old.replaceWith(fresh);
    } else if (old.nodeType === Node.ELEMENT_NODE) {
      for (const { name } of [...old.attributes]) {
        if (!fresh.hasAttribute(name)) old.removeAttribute(name);
      }
      for (const { name, value } of fresh.attributes) {
        if (old.getAttribute(name) !== value) old.setAttribute(name, value);
      }
      fill(old, [...fresh.childNodes]);
    } else if (old.data !== fresh.data) {
      old.data = fresh.data;
    }
  }

  function fill(parent, nodes) {
    const known = new Map([...parent.children].filter((each) => each.id).map((each) => [each.id, each]));
    const wanted = new Set(nodes.map((each) => each.id).filter(Boolean));
    for (const [id, node] of known) {
      if (!wanted.has(id)) node.remove();
    }
    nodes.forEach((node, place) => {
      const same = node.id && known.get(node.id);
      if (same && parent.childNodes[place] !== same) parent.insertBefore(same, parent.childNodes[place] || null);
      const old = parent.childNodes[place];
      if (old) become(old, node);
      else parent.append(node);
    });
    while (parent.childNodes.length > nodes.length) parent.lastChild.remove();
  }

  function show(html) {
    const selection = getSelection();
    if (!selection.isCollapsed && part.contains(selection.anchorNode)) return;
    fill(part, [...new DOMParser().parseFromString(html, "text/html").body.childNodes]);
  }

  // Where there is no stream to be had, because too many listen, the page itself is asked for now and then.
  async function fetchOnce() {
    try {
      const answer = await fetch(location.href, { signal: AbortSignal.timeout(20000) });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      show(fresh.getElementById(part.id).innerHTML);
      lost.hidden = true;
    } catch (error) {
      lost.hidden = false;
    }
  }

  function listen() {
    stop();
    if (document.hidden) return;
    events = new EventSource(part.dataset.events);
    events.onmessage = (event) => {
      rest();
      live.hidden = false;
      lost.hidden = true;
      show(event.data);
    };
    // Each stream ends after a while, and the browser asks for the next by itself.
    events.onerror = () => {
      if (timer === null) timer = setTimeout(otherwise, AGAIN);
    };
  }

  async function otherwise() {
    live.hidden = true;
    await fetchOnce();
    listen();
  }

  function rest() {
    clearTimeout(timer);
    timer = null;
  }

  function stop() {
    rest();
    if (events) events.close();
    events = null;
    live.hidden = true;
  }

  document.addEventListener("visibilitychange", listen);
  addEventListener("pagehide", stop);
  addEventListener("pageshow", listen);
})();
