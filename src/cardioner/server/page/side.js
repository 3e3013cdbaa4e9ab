// What stands around the text: legend, columns of other models, the list of entities.

import { byId, make, oneTabStop, reachable } from "./dom.js";
import { draw, spansAt } from "./drawing.js";
import { menuFor, mention } from "./editing.js";
import { replaced, saidOf } from "./spans.js";
import { CAME_WITH, state, types } from "./work.js";

const NAMES = { [CAME_WITH]: "annotations of the note" };
const nameOf = (source) => NAMES[source] ?? source;

export function drawLegend(colours, refresh) {
  const counts = Map.groupBy(state.open.spans, (span) => span.label), box = byId("legend");
  const focused = document.activeElement?.dataset?.type;
  const chips = types().map((label, number) => {
    const check = make("input", { type: "checkbox", checked: !state.hidden.has(label), data: { type: label } });
    check.addEventListener("change", () => {
      state.hidden[check.checked ? "delete" : "add"](label);
      refresh();
    });
    const chip = make("label", { className: "chip" }, check, make("span", { className: "name" }, label));
    chip.append(make("span", { className: "count" }, String(counts.get(label)?.length ?? 0)));
    if (number < 9) chip.append(make("kbd", {}, String(number + 1)));
    chip.style.setProperty("--colour", colours.of(label));
    return chip;
  });
  box.replaceChildren(box.firstElementChild, ...chips);
  if (focused) [...box.querySelectorAll("input")].find((check) => check.dataset.type === focused)?.focus();
}

export function drawCompare(refresh) {
  const sources = state.models.map((model) => model.name).filter((name) => name !== state.model);
  if (state.open.annotations.length) sources.push(CAME_WITH);
  const box = byId("compare");
  box.hidden = !sources.length;
  const focused = document.activeElement?.dataset?.source;
  const checks = sources.map((source) => {
    const check = make("input", { type: "checkbox", checked: state.compare.has(source), data: { source } });
    check.addEventListener("change", () => {
      state.compare[check.checked ? "add" : "delete"](source);
      refresh();
    });
    return make("label", { className: "chip" }, check, make("span", { className: "name" }, nameOf(source)));
  });
  box.replaceChildren(box.firstElementChild, ...checks);
  if (focused) [...box.querySelectorAll("input")].find((check) => check.dataset.source === focused)?.focus();
  return sources.filter((source) => state.compare.has(source));
}

/** A column for each source beside the text, in which what the text lacks stands out. */
export function drawColumns(sources, colours, refresh) {
  const box = byId("columns"), note = state.open;
  for (const column of box.querySelectorAll(".beside")) column.remove();
  byId("column-title").hidden = !sources.length;
  byId("column-title").textContent = note.saved ? "accepted" : state.model;
  for (const source of sources) {
    const only = new Set(note.onlyIn(source));
    const content = make("div", { className: "text" });
    const spans = note.beside(source).filter((span) => !state.hidden.has(span.label));
    draw(content, note.text, spans, colours, (span) => (only.has(span) ? "only" : ""));
    content.addEventListener("click", (event) => {
      const span = spansAt(content, event.target).find((one) => only.has(one));
      if (span && getSelection().isCollapsed) take([span], refresh);
    });
    const all = make("button", { type: "button", disabled: !only.size }, `Take over ${only.size}`);
    all.addEventListener("click", () => take([...only], refresh));
    const head = make("div", { className: "head" }, make("h3", {}, nameOf(source)), all);
    box.append(make("section", { className: "column beside" }, head, content));
  }
}

function take(spans, refresh) {
  let now = state.open.history.now;
  for (const span of spans) now = replaced(now, null, { ...span, score: null });
  state.open.change(now);
  refresh();
}

export function drawEntities(sources, refresh) {
  const list = byId("spans"), note = state.open;
  const focused = list.contains(document.activeElement);
  byId("entity-count").textContent = String(note.drawn.length);
  list.replaceChildren(...note.drawn.map((span) => make("li", {}, entity(span))));
  const current = list.querySelector("[aria-current]") ?? list.querySelector("button");
  reachable(list, current);
  if (focused) current?.focus({ preventScroll: true });
  byId("differences").replaceChildren(...sources.map((source) => difference(source, refresh)).filter(Boolean));
}

function entity(span) {
  const button = make("button", { type: "button" }, make("bdi", { className: "id" }, mention(span)));
  button.append(make("span", { className: "size" }, [span.label, ...saidOf(span)].join(" · ")));
  if (span.score !== null) button.append(make("span", { className: "score" }, span.score.toFixed(2)));
  if (span === state.open.active) button.setAttribute("aria-current", "true");
  button.addEventListener("click", () => menuFor(span));
  return button;
}

function difference(source, refresh) {
  const only = state.open.onlyIn(source);
  if (!only.length) return null;
  const list = make("ul", { "aria-label": `Only in ${nameOf(source)}` });
  for (const span of only) {
    const button = make("button", { type: "button", title: "Take over" }, make("bdi", { className: "id" }, mention(span)));
    button.append(make("span", { className: "size" }, span.label), make("span", { className: "score" }, "+"));
    button.addEventListener("click", () => take([span], refresh));
    list.append(make("li", {}, button));
  }
  reachable(list, list.querySelector("button"));
  oneTabStop(list);
  return make("div", {}, make("h3", {}, `Only in ${nameOf(source)}`), list);
}
