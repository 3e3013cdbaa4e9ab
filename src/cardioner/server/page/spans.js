// Spans and their history. A span is { start, end, label, score, fragments }; offsets are UTF-16 units, the score of what a
// person marked is null. Lists of spans are never changed, only replaced.

export const keyOf = (span) => `${span.start}-${span.end}-${span.label}-${JSON.stringify(span.fragments ?? [])}`;
export const pieces = (span) => (span.fragments?.length ? span.fragments : [[span.start, span.end]]);

export function inOrder(spans) {
  return [...spans].sort((a, b) => a.start - b.start || b.end - a.end || (a.label < b.label ? -1 : 1));
}

export const sameSpans = (some, others) =>
  some.length === others.length && some.map(keyOf).sort().join() === others.map(keyOf).sort().join();

/** The list with one span replaced; by null, removed. Another that says the same would be twice. */
export function replaced(spans, old, made) {
  const others = spans.filter((span) => span !== old && !(made && keyOf(span) === keyOf(made)));
  return inOrder(made ? [...others, made] : others);
}

export const atLeast = (spans, threshold) => spans.filter((span) => span.score === null || span.score >= threshold);

/** As the server takes them. */
export const bare = (spans) =>
  spans.map(({ start, end, label, fragments }) => ({ start, end, label, fragments: fragments ?? [] }));

/** What can be undone and redone. */
export class History {
  constructor(spans) {
    this.past = [];
    this.now = inOrder(spans);
    this.future = [];
  }

  change(spans) {
    this.past.push(this.now);
    this.now = spans;
    this.future = [];
  }

  undo() {
    if (!this.past.length) return false;
    this.future.push(this.now);
    this.now = this.past.pop();
    return true;
  }

  redo() {
    if (!this.future.length) return false;
    this.past.push(this.now);
    this.now = this.future.pop();
    return true;
  }
}
