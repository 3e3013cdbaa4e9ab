// The note that is open, the spans in it, and what of them is shown.

import { atLeast, History, inOrder, keyOf, sameSpans } from "./spans.js";

export const CAME_WITH = "annotations"; // what the notes' own annotations are called beside the models

export const state = {
  models: [], // as the server describes them
  model: null, // the name of the one whose spans are corrected
  compare: new Set(), // names of those beside
  workspace: null,
  notes: [], // { id, characters, annotations, accepted, order, edited }
  open: null, // an OpenNote
  threshold: 0,
  hidden: new Set(), // types that are not drawn
};

const draftOf = (id) => `cardioner-draft ${id}`;

export class OpenNote {
  constructor(note, pasted) {
    Object.assign(this, note); // id, text, annotations, saved
    this.pasted = pasted;
    this.found = new Map(); // model to { digest, spans }
    this.active = null; // the span that keys act on
    this.annotations = note.annotations.map((span) => ({ ...span, score: null }));
  }

  /** The spans to begin with: those that were accepted, or those that a model finds. */
  get proposal() {
    if (this.saved) return this.saved.spans.map((span) => ({ ...span, score: null }));
    return this.found.get(state.model)?.spans ?? [];
  }

  begin() {
    this.history = new History(this.proposal);
    const draft = this.pasted ? null : JSON.parse(sessionStorage.getItem(draftOf(this.id)));
    if (draft?.length === this.text.length) this.history.change(inOrder(draft.spans));
  }

  /** Begin with the spans of another model, unless there are changes to keep. */
  changeModel() {
    if (!this.saved && !this.history.past.length) this.history = new History(this.proposal);
    this.active = null;
  }

  get spans() {
    return atLeast(this.history.now, state.threshold);
  }

  get drawn() {
    return this.spans.filter((span) => !state.hidden.has(span.label));
  }

  get leftOut() {
    return this.history.now.length - this.spans.length;
  }

  get edited() {
    return !sameSpans(this.spans, atLeast(this.proposal, state.threshold));
  }

  change(spans, active = null) {
    this.history.change(spans);
    this.active = active;
    this.keepDraft();
  }

  /** Offsets and types, never text: what a reload of the page would lose. */
  keepDraft() {
    if (this.pasted) return;
    if (!this.edited) sessionStorage.removeItem(draftOf(this.id));
    else sessionStorage.setItem(draftOf(this.id), JSON.stringify({ length: this.text.length, spans: this.history.now }));
  }

  /** The spans of another model, or those that the note came with. */
  beside(name) {
    const spans = name === CAME_WITH ? this.annotations : (this.found.get(name)?.spans ?? []);
    return atLeast(inOrder(spans), state.threshold);
  }

  /** Of those, the ones that are not among the spans here. */
  onlyIn(name) {
    const own = new Set(this.spans.map(keyOf));
    return this.beside(name).filter((span) => !own.has(keyOf(span)) && !state.hidden.has(span.label));
  }
}

export const isDraft = (id) => sessionStorage.getItem(draftOf(id)) !== null;

/** The attributes that may be said of a span, with their values: those of the models first. */
export function attributes() {
  const found = new Map(), add = (name, value) => found.set(name, (found.get(name) ?? new Set()).add(value));
  for (const model of state.models) {
    for (const [name, values] of Object.entries(model.attributes)) for (const value of values) add(name, value);
  }
  for (const span of [...(state.open?.history?.now ?? []), ...(state.open?.annotations ?? [])]) {
    for (const [name, value] of Object.entries(span.attributes ?? {})) add(name, value);
  }
  return found;
}

/** All types that may be chosen: those of the models first. */
export function types() {
  const found = new Set(state.models.flatMap((model) => Object.keys(model.types)));
  for (const span of state.open?.history?.now ?? []) found.add(span.label);
  for (const span of state.open?.annotations ?? []) found.add(span.label);
  return [...found];
}
