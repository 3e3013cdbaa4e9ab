// The list of notes.

import { byId, make, oneTabStop, reachable } from "./dom.js";
import { isDraft, state } from "./work.js";

const numbers = new Intl.NumberFormat("en");

/** The notes that are shown, in the order that was chosen. */
export function listed() {
  const wanted = byId("find").value.trim().toLowerCase(), which = byId("which").value;
  const found = state.notes.filter(
    (note) => note.id.toLowerCase().includes(wanted) && (which === "all" || note.accepted === (which === "accepted")),
  );
  if (byId("order").value === "name") found.sort((a, b) => (a.id < b.id ? -1 : 1));
  return found;
}

export function drawList(open) {
  const list = byId("list"), shown = listed();
  const focused = list.contains(document.activeElement);
  list.replaceChildren(...shown.map((note) => make("li", {}, row(note, open))));
  const current = list.querySelector("[aria-current]") ?? list.querySelector("button");
  reachable(list, current);
  if (focused) current?.focus();
  current?.scrollIntoView({ block: "nearest" });
  const accepted = state.notes.filter((note) => note.accepted).length;
  byId("progress").textContent = state.notes.length ? `${accepted} of ${state.notes.length} accepted` : "";
  byId("finding").hidden = state.notes.length < 2;
  byId("order-field").hidden = !state.notes.some((note) => note.order !== null);
}

/** Draw the row of the open note alone. */
export function drawRow(open) {
  const old = byId("list").querySelector("[aria-current]"), note = state.notes.find((one) => one.id === state.open.id);
  if (!old || !note) return;
  const made = row(note, open);
  made.tabIndex = old.tabIndex;
  old.replaceWith(made);
}

function row(note, open) {
  const current = note.id === state.open?.id, edited = current ? state.open.edited : isDraft(note.id);
  const [sign, meaning] = edited ? ["●", "changed, not accepted"] : note.accepted ? ["✓", "accepted"] : ["", "to do"];
  const button = make(
    "button",
    { type: "button" },
    make("bdi", { className: "id" }, note.id),
    make("span", { className: `sign ${edited ? "edited" : ""}`, "aria-hidden": "true" }, sign),
    make("span", { className: "size" }, `${numbers.format(note.characters)} characters`),
    make("span", { className: "out-of-sight" }, `, ${meaning}`),
  );
  if (current) button.setAttribute("aria-current", "true");
  button.addEventListener("click", () => open(note.id));
  return button;
}

/** The note before or after the open one; with `toDo`, the next that is not accepted. */
export function neighbour(by, toDo = false) {
  const shown = listed(), place = shown.findIndex((note) => note.id === state.open?.id);
  const ahead = by > 0 ? [...shown.slice(place + 1), ...shown.slice(0, Math.max(place, 0))] : shown.slice(0, Math.max(place, 0)).reverse();
  return (toDo ? ahead.find((note) => !note.accepted) : (ahead.length && (by < 0 || place + 1 < shown.length) ? ahead[0] : null)) ?? null;
}

export function connectList(open) {
  oneTabStop(byId("list"));
  for (const id of ["find", "which", "order"]) byId(id).addEventListener("input", () => drawList(open));
}
