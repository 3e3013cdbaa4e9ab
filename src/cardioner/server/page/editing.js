// What the mouse, a finger and the keys do to the spans of the open note.

import { announce, byId } from "./dom.js";
import { offsetOf, placeOf, spansAt } from "./drawing.js";
import { closeMenu, isOpen, openMenu } from "./menu.js";
import { keyOf, pieces, replaced, saidOf, saying } from "./spans.js";
import { isRightToLeft, step, trimmed, wordAt, wordsOf } from "./text.js";
import { showTip } from "./tip.js";
import { state, types } from "./work.js";

const EDGE = 90; // pixels from the edge of the window at which the text is scrolled on
const text = byId("text");
let refresh, colours, touched = false;

// Changes -------------------------------------------------------------------------------------------------------------

export function mark(range, label) {
  const span = { ...range, label, score: null, fragments: [], attributes: {} }, note = state.open;
  const there = note.spans.find((one) => keyOf(one) === keyOf(span));
  getSelection().removeAllRanges();
  if (there) note.active = there;
  else note.change(replaced(note.history.now, null, span), span);
  refresh();
  announce(`${there ? "already marked" : "marked"}: ${describe(span)}`);
}

export function retype(span, label) {
  if (span.label !== label) replace(span, { ...span, label, score: null }, "changed");
}

export function remove(span) {
  const note = state.open, spans = note.drawn;
  const next = spans[spans.indexOf(span) + 1] ?? spans[spans.indexOf(span) - 1] ?? null;
  note.change(replaced(note.history.now, span, null), next);
  refresh();
  announce(`deleted: ${describe(span)}`);
}

function replace(span, made, what) {
  state.open.change(replaced(state.open.history.now, span, made), made);
  refresh();
  announce(`${what}: ${describe(made)}`);
}

export function describe(span) {
  const score = span.score === null ? "" : `, score ${span.score.toFixed(2)}`;
  return [`${span.label} “${mention(span)}”${score}`, ...saidOf(span)].join(", ");
}

export const mention = (span) => pieces(span).map(([start, end]) => state.open.text.slice(start, end)).join(" … ");

export function travel(back) {
  const note = state.open;
  if (!(back ? note.history.undo() : note.history.redo())) return;
  note.active = null;
  note.keepDraft();
  refresh();
  announce(back ? "undone" : "redone");
}

/** Have keys act on a span. */
export function activate(span) {
  state.open.active = span;
  getSelection().removeAllRanges();
  refresh();
  const piece = text.querySelector(".active");
  piece?.scrollIntoView({ block: "nearest" });
  if (piece) showTip([span], piece.getBoundingClientRect());
  if (span) announce(describe(span));
}

// Selections ----------------------------------------------------------------------------------------------------------

/** The selected range of the note; null for none. */
function selected() {
  const selection = getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return null;
  const range = selection.getRangeAt(0);
  if (!range.intersectsNode(text)) return null;
  const start = offsetOf(text, range.startContainer, range.startOffset);
  const end = offsetOf(text, range.endContainer, range.endOffset);
  if (start === null && end === null) return null;
  return trimmed(state.open.text, start ?? 0, end ?? state.open.text.length);
}

function select({ start, end }) {
  state.open.active = null;
  for (const piece of text.querySelectorAll(".active")) piece.classList.remove("active");
  getSelection().setBaseAndExtent(...placeOf(text, start), ...placeOf(text, end));
  scrollTo(rangeRect(start, end));
  announce(state.open.text.slice(start, end));
}

function rangeRect(start, end) {
  const range = document.createRange();
  range.setStart(...placeOf(text, start));
  range.setEnd(...placeOf(text, end));
  return range.getClientRects()[0] ?? range.getBoundingClientRect();
}

function scrollTo({ top, bottom }) {
  if (top < EDGE) scrollBy(0, top - EDGE);
  else if (bottom > innerHeight - EDGE) scrollBy(0, bottom - innerHeight + EDGE);
}

function typesFor(range) {
  openMenu({
    mention: state.open.text.slice(range.start, range.end),
    current: null,
    place: rangeRect(range.start, range.end),
    colours,
    choose: (label) => mark(range, label),
  });
}

export function menuFor(span, place, others = []) {
  activate(span);
  place ??= text.querySelector(".active")?.getBoundingClientRect() ?? text.getBoundingClientRect();
  text.focus({ preventScroll: true });
  let now = span;
  openMenu({
    mention: mention(span),
    current: span.label,
    score: span.score,
    said: span.attributes ?? {},
    place,
    colours,
    choose: (label) => retype(now, label),
    say: (name, value) => {
      const made = saying(now, name, value);
      replace(now, made, "changed");
      now = made;
    },
    remove: () => remove(now),
    others: others
      .filter((other) => other !== span)
      .map((other) => ({ label: other.label, open: () => menuFor(other, place, others) })),
  });
}

// Keys ----------------------------------------------------------------------------------------------------------------

/** The words of the note, found once. */
function words() {
  state.open.words ??= wordsOf(state.open.text);
  return state.open.words;
}

function moveWord(by, extend) {
  const found = words(), now = selected() ?? state.open.active;
  if (!found.length) return;
  if (!now) return select(range(found, 0, 0));
  const first = wordAt(found, now.start), last = wordAt(found, now.end - 1);
  const within = (place) => Math.max(0, Math.min(found.length - 1, place));
  if (extend) select(range(found, first, Math.max(first, within(last + by))));
  else if (state.open.active && !selected()) select(range(found, first, last));
  else select(range(found, ...Array(2).fill(within(by > 0 ? last + by : first + by))));
}

const range = (found, first, last) => ({ start: found[first][0], end: found[last][1] });

/** Select the word a line further. */
function moveLine(by) {
  const now = selected() ?? state.open.active;
  if (!now) return moveWord(1, false);
  let rect = rangeRect(now.start, now.end);
  scrollTo({ top: rect.top + Math.min(by, 0) * EDGE, bottom: rect.bottom + Math.max(by, 0) * EDGE });
  rect = rangeRect(now.start, now.end);
  const height = parseFloat(getComputedStyle(text).lineHeight), found = words();
  for (let lines = 1; lines < 6; lines += 1) {
    const offset = offsetAt(rect.left + 1, (rect.top + rect.bottom) / 2 + by * lines * height);
    if (offset === null) continue;
    const place = wordAt(found, offset);
    if (found[place][0] !== now.start) return select(range(found, place, place));
  }
  moveWord(by, false);
}

function offsetAt(x, y) {
  if (document.caretPositionFromPoint) {
    const place = document.caretPositionFromPoint(x, y);
    return place && offsetOf(text, place.offsetNode, place.offset);
  }
  const place = document.caretRangeFromPoint(x, y);
  return place && offsetOf(text, place.startContainer, place.startOffset);
}

/** Move an edge of the selection, or of the span that keys act on, by one character. */
function moveEdge(by, atStart) {
  const whole = state.open.text, chosen = selected(), span = state.open.active, now = chosen ?? span;
  if (!now || (!chosen && span.fragments?.length)) return;
  const moved = {
    start: atStart ? step(whole, now.start, by) : now.start,
    end: atStart ? now.end : step(whole, now.end, by),
  };
  if (moved.start >= moved.end) return;
  if (chosen) select(moved);
  else replace(span, { ...span, ...moved, score: null }, "moved");
}

function moveSpan(by) {
  const spans = state.open.drawn, active = spans.indexOf(state.open.active), chosen = selected();
  if (!spans.length) return;
  if (active >= 0) return activate(spans[(active + by + spans.length) % spans.length]);
  const from = chosen?.start ?? (by > 0 ? -1 : Infinity);
  const next = by > 0 ? spans.find((span) => span.start >= from) : spans.findLast((span) => span.start <= from);
  activate(next ?? spans.at(by > 0 ? 0 : -1));
}

function choose(label) {
  const chosen = selected();
  if (!label) return;
  if (chosen) mark(chosen, label);
  else if (state.open.active) retype(state.open.active, label);
}

function onKey(event, actions) {
  const { key, altKey, shiftKey } = event, side = { ArrowRight: 1, ArrowLeft: -1 }[key], line = { ArrowDown: 1, ArrowUp: -1 }[key];
  if (event.ctrlKey || event.metaKey) return false;
  const place = (selected() ?? state.open.active)?.start ?? 0, turn = isRightToLeft(state.open.text, place) ? -1 : 1;
  if (side && altKey) moveEdge(side * turn, shiftKey);
  else if (side) moveWord(side * turn, shiftKey);
  else if (line && !shiftKey && !altKey) moveLine(line);
  else if (key === "n" || key === "p") moveSpan(key === "n" ? 1 : -1);
  else if (/^[1-9]$/.test(key)) choose(types()[key - 1]);
  else if (key === "Enter") openForKeys();
  else if (["Delete", "Backspace"].includes(key)) state.open.active && remove(state.open.active);
  else if (key === "Escape") activate(null);
  else if (key in actions) actions[key]();
  else return false;
  return true;
}

function openForKeys() {
  const chosen = selected();
  if (chosen) typesFor(chosen);
  else if (state.open.active) menuFor(state.open.active);
}

/** Connect the text. `actions` are called by keys that do not act on spans. */
export function connectEditing(refreshAll, palette, actions) {
  [refresh, colours] = [refreshAll, palette];
  text.addEventListener("keydown", (event) => {
    if (state.open && onKey(event, actions)) event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || !state.open || event.target.matches("input, textarea")) return;
    const key = event.key.toLowerCase();
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    closeMenu();
    travel(key === "z" && !event.shiftKey);
  });
  document.addEventListener("pointerdown", (event) => {
    touched = event.pointerType === "touch";
  });
  document.addEventListener("pointerup", (event) => {
    if (!touched && state.open && !byId("menu").contains(event.target)) setTimeout(offerTypes); // the selection comes later
  });
  let waiting = 0;
  document.addEventListener("selectionchange", () => {
    clearTimeout(waiting);
    if (touched && !isOpen()) waiting = setTimeout(offerTypes, 400); // until the finger rests
  });
  text.addEventListener("click", (event) => {
    const spans = spansAt(text, event.target);
    if (spans.length && !selected()) menuFor(spans[0], event.target.getBoundingClientRect(), spans);
    else if (!selected() && state.open.active) activate(null);
  });
}

function offerTypes() {
  const chosen = state.open && !isOpen() && !document.querySelector("dialog[open]") && selected();
  if (!chosen) return;
  state.open.active = null;
  typesFor(chosen);
}
