// Renews what is marked data-live while the page is seen, and copies. Every page is whole without it.
"use strict";

const EVERY = 5000;
const connection = document.getElementById("connection");

async function renew() {
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(20000) });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of document.querySelectorAll("[data-live]")) {
      const one = fresh.getElementById(old.id);
      // What is being pointed at, is selected or has the focus stays as it is.
      if (one && one.innerHTML !== old.innerHTML && !old.querySelector(".step:hover") && !isHeld(old)) {
        old.replaceChildren(...one.childNodes);
      }
    }
    connection.hidden = true;
  } catch (error) {
    connection.hidden = false;
  }
}

function isHeld(part) {
  const selection = getSelection();
  return part.contains(document.activeElement) || (!selection.isCollapsed && part.contains(selection.anchorNode));
}

let timer;
async function go() {
  clearTimeout(timer);
  if (document.hidden) return;
  await renew();
  clearTimeout(timer);
  timer = setTimeout(go, EVERY);
}

if (document.querySelector("[data-live]")) {
  document.addEventListener("visibilitychange", go);
  timer = setTimeout(go, EVERY);
}

// The clipboard of browsers is for pages of HTTPS alone; elsewhere the old way still works.
async function copy(source) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(source.textContent);
    return;
  }
  const selection = getSelection();
  selection.selectAllChildren(source);
  const done = document.execCommand("copy");
  // What could not be copied stays selected, for the keyboard.
  if (!done) throw new Error("not copied");
  selection.removeAllRanges();
}

const told = document.getElementById("told");
for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    let word = "Copied";
    try {
      await copy(document.getElementById(button.dataset.copy));
    } catch (error) {
      word = "Not copied";
    }
    button.textContent = told.textContent = word;
    setTimeout(() => { button.textContent = "Copy"; told.textContent = ""; }, 2000);
  });
}
