// All that pages do by script; every page works without it.
// 1. While somebody looks, a page that changes is fetched again, and what is different in it is put in its place.
// 2. A login link whose address ends in #go presses its own button.
"use strict";

const RETRY_SLOWER = 4;

function keepFresh(main) {
  const seconds = Number(main.dataset.live);
  let wait = seconds;
  const later = () => setTimeout(look, wait * 1000);
  async function look() {
    if (document.hidden || isBusy(main)) return later();
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error" });
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
      wait = Number(fresh.dataset.live) || 0;
      replaceParts(main, fresh);
      if (!wait) return;
    } catch {
      wait = seconds * RETRY_SLOWER;
    }
    later();
  }
  later();
}

// Nothing moves under somebody who types or selects.
function isBusy(main) {
  const focused = document.activeElement;
  const selected = getSelection();
  return (focused && focused.matches("input, select, textarea")) || (selected && !selected.isCollapsed && main.contains(selected.anchorNode));
}

// Part by part, so that the focus and what was scrolled stay where nothing changed.
function replaceParts(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  const same = old.children.length === fresh.children.length && old.children.length > 0
    && old.tagName === fresh.tagName && !hasText(old) && !hasText(fresh);
  if (!same) {
    const place = pathOf(document.activeElement, old);
    old.replaceChildren(...fresh.childNodes);
    for (const { name, value } of fresh.attributes) old.setAttribute(name, value);
    followPath(place, old)?.focus({ preventScroll: true });
    return;
  }
  for (const { name, value } of fresh.attributes) old.setAttribute(name, value);
  const pairs = [...old.children].map((child, index) => [child, fresh.children[index]]);
  for (const [child, other] of pairs) {
    if (child.tagName === other.tagName) replaceParts(child, other);
    else child.replaceWith(other);
  }
}

function hasText(node) {
  return [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim());
}

function pathOf(node, root) {
  if (!node || node === root || !root.contains(node)) return null;
  const path = [];
  for (; node !== root; node = node.parentElement) path.unshift([...node.parentElement.children].indexOf(node));
  return path;
}

function followPath(path, root) {
  return path && path.reduce((node, index) => node && node.children[index], root);
}

const main = document.getElementById("main");
if (main && main.dataset.live) keepFresh(main);
const link = document.querySelector("form[data-go]");
if (link && location.hash === "#go") link.requestSubmit();
