// Spans and their history. A span is { start, end, label, score, fragments, attributes, attribute_scores }; offsets are UTF-16
// units, the score of what a person marked is null. Lists of spans are never changed, only replaced.

export const keyOf = (span) => `${span.start}-${span.end}-${span.label}-${JSON.stringify(span.fragments ?? [])}`;
export const pieces = (span) => (span.fragments?.length ? span.fragments : [[span.start, span.end]]);

export function inOrder(spans) {
  return [...spans].sort((a, b) => a.start - b.start || b.end - a.end || (a.label < b.label ? -1 : 1));
}

/** The attributes of a span, for people. */
export const saidOf = (span) =>
  Object.entries(span.attributes ?? {})
    .map(([name, value]) => (value === true ? name : `${name}: ${value}`))
    .sort();

/** A person says something of a span; with nothing as the value, that it does not apply. */
export function saying(span, name, value) {
  const { [name]: _, ...attributes } = span.attributes ?? {}, { [name]: __, ...attribute_scores } = span.attribute_scores ?? {};
  return { ...span, score: null, attributes: value ? { ...attributes, [name]: value } : attributes, attribute_scores };
}

const wholeOf = (span) => `${keyOf(span)} ${JSON.stringify(saidOf(span))}`;

export const sameSpans = (some, others) =>
  some.length === others.length && some.map(wholeOf).sort().join() === others.map(wholeOf).sort().join();

/** The list with one span replaced; by null, removed. Another that says the same would be twice. */
export function replaced(spans, old, made) {
  const others = spans.filter((span) => span !== old && !(made && keyOf(span) === keyOf(made)));
  return inOrder(made ? [...others, made] : others);
}

export const atLeast = (spans, threshold) => spans.filter((span) => span.score === null || span.score >= threshold);

/** As the server takes them. */
export const bare = (spans) =>
  spans.map(({ start, end, label, fragments, attributes }) => ({ start, end, label, fragments: fragments ?? [], attributes: attributes ?? {} }));

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
