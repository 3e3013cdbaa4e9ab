// Where characters and words begin and end, and how a text is cut so that overlapping spans can be drawn.

import { pieces } from "./spans.js";

const MOST_LANES = 6;
const AROUND = 64; // UTF-16 units to look at for the borders of one character
const characters = new Intl.Segmenter(undefined, { granularity: "grapheme" });
const words = new Intl.Segmenter(undefined, { granularity: "word" });

/** The borders around an offset of what readers see as one character: [before or at, after or at]. */
function borders(text, offset) {
  let from = Math.max(0, offset - AROUND);
  if (from && isLowSurrogate(text, from)) from += 1;
  for (const { index, segment } of characters.segment(text.slice(from, offset + AROUND))) {
    const start = from + index, end = start + segment.length;
    if (start === offset) return [offset, offset];
    if (offset < end) return [start, end];
  }
  return [offset, offset];
}

const isLowSurrogate = (text, offset) => text.charCodeAt(offset) >= 0xdc00 && text.charCodeAt(offset) <= 0xdfff;

/** The nearest border of a character after an offset, or before it. */
export function step(text, offset, by) {
  if (by > 0) return offset >= text.length ? offset : borders(text, offset + 1)[1];
  return offset <= 0 ? offset : borders(text, offset - 1)[0];
}

/** A range without white space at its edges that divides no character; null if nothing is left. */
export function trimmed(text, start, end) {
  [start, end] = [borders(text, start)[0], borders(text, end)[1]];
  while (start < end && /\s/.test(text[start])) start += 1;
  while (start < end && /\s/.test(text[end - 1])) end -= 1;
  return start < end ? { start, end } : null;
}

/** Whether the line at an offset is read from the right: its first letter is of such a script (UAX #9, rule P2). */
export function isRightToLeft(text, offset) {
  const line = text.slice(text.lastIndexOf("\n", offset - 1) + 1).split("\n", 1)[0];
  return /^[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u.test(line.match(/\p{L}/u)?.[0] ?? "");
}

/** The words of a text, in order, as [start, end]. */
export function wordsOf(text) {
  const found = [];
  for (const { index, segment, isWordLike } of words.segment(text)) {
    if (isWordLike) found.push([index, index + segment.length]);
  }
  return found;
}

/** The first word that ends after an offset; the last one if none does. */
export function wordAt(found, offset) {
  let low = 0, high = found.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (found[middle][1] > offset) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * Cut a text at every border of its spans, and at some other offsets.
 *
 * Each piece has the spans that cover it as { span, lane, closes }, the shortest first; a lane is how far below the text
 * the line of a span is drawn.
 */
export function cut(length, spans, breaks = []) {
  const opening = new Map(), edges = new Set([0, length, ...breaks]);
  for (const { span, lane } of lanes(spans)) {
    for (const [start, end] of pieces(span)) {
      if (!opening.has(start)) opening.set(start, []);
      opening.get(start).push({ span, lane, end });
      edges.add(start).add(end);
    }
  }
  const found = [], sorted = [...edges].sort((a, b) => a - b);
  let active = [];
  for (let place = 0; place + 1 < sorted.length; place += 1) {
    const start = sorted[place], end = sorted[place + 1];
    active = active.filter((mark) => mark.end > start).concat(opening.get(start) ?? []);
    const marks = active.map((mark) => ({ span: mark.span, lane: mark.lane, closes: mark.span.end === end }));
    marks.sort((a, b) => a.span.end - a.span.start - (b.span.end - b.span.start));
    found.push({ start, end, marks });
  }
  return found;
}

/** Spans with the lowest lane that no overlapping one has; beyond the last lane they share it. */
function lanes(spans) {
  const freeFrom = [];
  return [...spans]
    .sort((a, b) => a.start - b.start || b.end - a.end || (a.label < b.label ? -1 : 1))
    .map((span) => {
      let lane = freeFrom.findIndex((free) => free <= span.start);
      if (lane < 0) lane = freeFrom.length;
      freeFrom[lane] = span.end;
      return { span, lane: Math.min(lane, MOST_LANES - 1) };
    });
}
