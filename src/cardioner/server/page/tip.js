// What a mark means, beside the pointer or the span that keys act on.

import { byId, make } from "./dom.js";
import { spansAt } from "./drawing.js";
import { isOpen } from "./menu.js";

const tip = byId("tip");

export function showTip(spans, place) {
  tip.hidden = !spans.length || isOpen();
  if (tip.hidden) return;
  tip.replaceChildren(...spans.flatMap((span) => [make("div", {}, make("b", {}, span.label), ` ${scoreOf(span)}`), ...said(span)]));
  const { width, height } = tip.getBoundingClientRect(), room = document.documentElement.clientWidth;
  tip.style.left = `${Math.max(4, Math.min(place.left, room - width - 4)) + scrollX}px`;
  tip.style.top = `${place.top - height - 4 + scrollY}px`;
}

const scoreOf = (span) => (span.score === null ? "marked by a person" : `score ${span.score.toFixed(2)}`);

/** A line for each attribute, with its score if a model said it. */
function said(span) {
  return Object.entries(span.attributes ?? {}).sort().map(([name, value]) => {
    const score = span.attribute_scores?.[name];
    return make("div", {}, value === true ? name : `${name}: ${value}`, score === undefined ? "" : ` ${score.toFixed(2)}`);
  });
}

function hide() {
  tip.hidden = true;
}

export function connectTip() {
  const columns = byId("columns");
  columns.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch") return;
    const box = event.target.closest(".text");
    showTip(box ? spansAt(box, event.target) : [], event.target.getBoundingClientRect());
  });
  columns.addEventListener("pointerleave", hide);
  for (const name of ["keydown", "pointerdown"]) document.addEventListener(name, hide, true); // before it is shown again
}
