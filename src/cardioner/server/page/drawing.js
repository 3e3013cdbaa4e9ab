// A note as elements: pieces of text, each with the offset where it begins, and lines below it for the spans.

import { make } from "./dom.js";
import { saidOf } from "./spans.js";
import { cut } from "./text.js";

const COLOURS = 10, GAP = 4, LINE = 2; // colours of the palette, and pixels between lines and of a line

/** The colour of each type, in their order. */
export class Colours {
  constructor() {
    this.numbers = new Map();
  }

  of(label) {
    if (!this.numbers.has(label)) this.numbers.set(label, this.numbers.size);
    return `var(--c${this.numbers.get(label) % COLOURS})`;
  }
}

/**
 * Draw a text and its spans into an element.
 *
 * `special(span)` names a class for all pieces of a span, such as the one that is being changed.
 */
export function draw(box, text, spans, colours, special = () => "") {
  const drawn = document.createDocumentFragment(), owners = new Map();
  const returns = [...text.matchAll(/\r(?!\n)/g)].map(({ index }) => index + 1); // newlines that browsers do not show
  for (const { start, end, marks } of cut(text.length, spans, returns)) {
    const piece = make("span", { data: { from: start } }, text.slice(start, end));
    if (marks.length) {
      mark(piece, marks, colours, special);
      owners.set(piece, marks.map(({ span }) => span));
    }
    drawn.append(piece);
    const closing = marks.filter(({ closes }) => closes).reverse(), around = marks.filter(({ closes }) => !closes);
    for (const { span } of closing) {
      const node = tag(span, end, colours);
      if (around.length) mark(node, around, colours, special);
      owners.set(node, [span, ...around.map((other) => other.span)]);
      drawn.append(node);
    }
    if (returns.length && returns[0] === end) drawn.append(make("span", { className: "newline", data: { from: returns.shift() } }));
  }
  box.replaceChildren(drawn);
  box.owners = owners;
}

function mark(piece, marks, colours, special) {
  const deepest = Math.max(...marks.map(({ lane }) => lane));
  const lines = marks.map(({ span, lane }) => {
    const colour = colours.of(span.label), above = (deepest - lane) * GAP;
    return `linear-gradient(${colour}, ${colour}) 0 calc(100% - ${above}px) / 100% ${LINE}px no-repeat`;
  });
  piece.classList.add("mark");
  if (marks.some(({ span }) => saidOf(span).length)) piece.classList.add("said");
  for (const { span } of marks) {
    const name = special(span);
    if (name) piece.classList.add(name);
    if (name) piece.style.setProperty("--special", colours.of(span.label));
  }
  piece.style.setProperty("--tint", colours.of(marks[0].span.label));
  piece.style.setProperty("--lines", lines.join(", "));
  piece.style.setProperty("--depth", `${deepest * GAP + LINE + 1}px`);
}

/** The name of a type behind its span, and the span's attributes; it is no text of the note, so it is neither selected nor copied. */
function tag(span, end, colours) {
  const node = make("span", { className: "tag", data: { label: [span.label, ...saidOf(span)].join(" · "), from: end } });
  node.style.setProperty("--colour", colours.of(span.label));
  return node;
}

/** The spans that cover a piece, the shortest first. */
export const spansAt = (box, node) => box.owners?.get(node) ?? [];

/** The offset into the text of a place in the drawn elements; null outside. */
export function offsetOf(box, node, offset) {
  if (!box.contains(node)) return null;
  if (node === box) {
    const child = box.children[offset];
    return child ? Number(child.dataset.from) : endOf(box);
  }
  const piece = node.nodeType === Node.TEXT_NODE ? node.parentNode : node;
  const within = node.nodeType === Node.TEXT_NODE ? offset : offset && piece.textContent.length;
  return Number(piece.dataset.from) + within;
}

function endOf(box) {
  const last = box.lastElementChild;
  return last ? Number(last.dataset.from) + last.textContent.length : 0;
}

/** The place in the drawn elements of an offset into the text. */
export function placeOf(box, offset) {
  let low = 0, high = box.children.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (Number(box.children[middle].dataset.from) <= offset) low = middle;
    else high = middle - 1;
  }
  while (low && !box.children[low].firstChild) low -= 1; // a tag has no text
  const piece = box.children[low];
  if (!piece?.firstChild) return [box, 0];
  return [piece.firstChild, Math.min(offset - Number(piece.dataset.from), piece.textContent.length)];
}
