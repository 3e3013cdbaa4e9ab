// The menu of types, for a stretch of text that is to be marked, or for a span that is to be changed.

import { byId, make } from "./dom.js";
import { attributes, types } from "./work.js";

const MOST_SHOWN = 60; // characters of a mention in the title
let back = null;

export const isOpen = () => !byId("menu").hidden;

/**
 * Open it beside a place.
 *
 * `choose(label)` is called with a type, `say(name, value)` with an attribute and its value or nothing, `remove` with nothing;
 * `others` are { label, open } for more spans at the place.
 */
export function openMenu({ mention, current, score, said, place, colours, choose, say, remove, others = [] }) {
  const menu = byId("menu");
  byId("tip").hidden = true;
  back = document.activeElement;
  const kinds = types();
  const title = make("p", { className: "mention" });
  title.append(make("bdi", {}, mention.length > MOST_SHOWN ? `${mention.slice(0, MOST_SHOWN)}…` : mention));
  if (score !== null && score !== undefined) title.append(make("span", { className: "quiet" }, ` score ${score.toFixed(2)}`));
  const buttons = kinds.map((label, number) => {
    const button = make("button", { type: "button", className: "type", "aria-pressed": String(label === current) });
    button.style.setProperty("--colour", colours.of(label));
    button.append(make("span", { className: "name" }, label));
    if (number < 9) button.append(make("kbd", {}, String(number + 1)));
    button.addEventListener("click", () => finish(() => choose(label)));
    return button;
  });
  const parts = [title, make("div", { className: "types" }, ...buttons), another(choose)];
  if (say) for (const [name, values] of attributes()) parts.push(attribute(name, [...values], said[name], say));
  if (remove) parts.push(action("Delete", "Del", "delete", () => finish(remove)));
  for (const other of others) parts.push(action(`Here too: ${other.label}`, "", "other", () => finish(other.open)));
  menu.replaceChildren(...parts);
  menu.hidden = false;
  put(menu, place);
  (buttons.find((button) => button.ariaPressed === "true") ?? buttons[0] ?? menu.querySelector("input")).focus({ preventScroll: true });
}

export function closeMenu() {
  if (!isOpen()) return;
  byId("menu").hidden = true;
  back?.focus({ preventScroll: true });
}

function finish(act) {
  closeMenu();
  act();
}

function action(text, key, name, act) {
  const button = make("button", { type: "button", className: `action ${name}` }, text);
  if (key) button.append(" ", make("kbd", {}, key));
  button.addEventListener("click", act);
  return button;
}

/** The attributes of a span: a box to check for one without values, or else a choice of values. */
function attribute(name, values, now, say) {
  if (values.every((value) => value === true)) {
    const box = make("input", { type: "checkbox", checked: now === true });
    box.addEventListener("change", () => say(name, box.checked));
    return make("label", { className: "field attribute" }, `${name} `, box);
  }
  const options = values.map((value, place) => make("option", { value: String(place), selected: value === now }, value === true ? "yes" : value));
  const choice = make("select", {}, make("option", { value: "" }, "–"), ...options);
  choice.addEventListener("change", () => say(name, choice.value && values[choice.value]));
  return make("label", { className: "field attribute" }, `${name} `, choice);
}

/** A field for a type that no model has. */
function another(choose) {
  const field = make("input", { type: "text", maxLength: 100, autocomplete: "off", spellcheck: false });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    const label = field.value.trim().replace(/\s+/g, "_");
    if (label) finish(() => choose(label));
  });
  return make("label", { className: "field" }, "Another type ", field);
}

/** Below a place, or above it where there is no room, and inside of the window. */
function put(menu, place) {
  const room = document.documentElement.clientWidth, { width, height } = menu.getBoundingClientRect();
  const left = Math.max(8, Math.min(place.left, room - width - 8));
  const below = place.bottom + 6 + height <= window.innerHeight || place.top < height;
  const top = below ? place.bottom + 6 : place.top - height - 6;
  menu.style.left = `${left + window.scrollX}px`;
  menu.style.top = `${top + window.scrollY}px`;
}

export function connectMenu() {
  const menu = byId("menu");
  menu.addEventListener("keydown", (event) => {
    const buttons = [...menu.querySelectorAll("button, input, select")], place = buttons.indexOf(document.activeElement);
    const typing = event.target.matches("input, select");
    if (event.key === "Escape") closeMenu();
    else if (event.target.matches("select") && event.key !== "Tab") return;
    else if (event.key === "ArrowDown" || (event.key === "Tab" && !event.shiftKey)) buttons[(place + 1) % buttons.length].focus();
    else if (event.key === "ArrowUp" || event.key === "Tab") buttons.at(place - 1).focus();
    else if (!typing && /^[1-9]$/.test(event.key)) menu.querySelectorAll(".type")[event.key - 1]?.click();
    else if (!typing && ["Delete", "Backspace"].includes(event.key)) menu.querySelector(".delete")?.click();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  document.addEventListener("pointerdown", (event) => {
    if (isOpen() && !menu.contains(event.target)) menu.hidden = true;
  });
}
