// Additions for browsers with JavaScript. Every page works without it.
"use strict";

const say = (text) => {
  const region = document.getElementById("announcements");
  if (region) region.textContent = text;
};

// Times in the browser's own time zone. The title keeps them in UTC.
const localTimes = (root) => {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  for (const element of root.querySelectorAll("time[datetime]:not([title])")) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    element.title = element.textContent;
    element.textContent = format.format(at);
  }
};

// Copy buttons are hidden until they can work.
const copyButtons = (root) => {
  if (!navigator.clipboard) return;
  for (const button of root.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
  }
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  event.preventDefault();
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
    say("Copied");
  } catch {
    button.textContent = "Not copied";
    say("Not copied. Select the text and copy it.");
  }
  setTimeout(() => { button.textContent = label; }, 2000);
});

// An addition for forms that need no question page of their own.
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

// Loads the page again, and takes the new state of one element.
const refresh = async (element) => {
  if (document.hidden || element.contains(document.activeElement)) return;
  const response = await fetch(location.href, { credentials: "same-origin", headers: { Accept: "text/html" } });
  if (response.redirected) {
    location.reload();
    return;
  }
  if (!response.ok) return;
  const next = new DOMParser().parseFromString(await response.text(), "text/html").getElementById(element.id);
  if (!next) return;
  element.replaceChildren(...next.childNodes);
  prepare(element);
};

const keepFresh = () => {
  for (const element of document.querySelectorAll("[data-refresh][id]")) {
    const seconds = Math.max(5, Number(element.dataset.refresh) || 30);
    // A failure is temporary. The numbers stay as they are.
    setInterval(() => refresh(element).catch(() => {}), seconds * 1000);
  }
};

// A search through many installations looks at some of them for each page. While it has found nothing, it goes on by itself.
const searchOn = () => {
  const link = document.querySelector("a[data-continue]");
  if (!link) return;
  say("The search goes on");
  setTimeout(() => location.replace(link.href), 200);
};

const prepare = (root) => {
  localTimes(root);
  copyButtons(root);
};

prepare(document);
keepFresh();
searchOn();
