// Small helpers to build and find elements. Text only ever becomes text nodes, never markup.

export const byId = (id) => document.getElementById(id);

/** An element with properties, and children that are elements or text. */
export function make(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "data") Object.assign(node.dataset, value);
    else if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

/** Have a list of buttons be one stop of the Tab key, in which arrow keys move. */
export function oneTabStop(list) {
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.matches("button")) return;
    const buttons = [...list.querySelectorAll("button")];
    const next = buttons[buttons.indexOf(event.target) + step];
    if (next) focusIn(list, next);
    event.preventDefault();
  });
}

/** Make one button of such a list the one that Tab reaches. */
export function reachable(list, chosen) {
  for (const button of list.querySelectorAll("button")) button.tabIndex = button === chosen ? 0 : -1;
}

function focusIn(list, button) {
  reachable(list, button);
  button.focus();
}

/** Say something to those who listen to the page. */
export function announce(text) {
  byId("live").textContent = text;
}

export function showMessage(text) {
  const box = byId("message");
  box.textContent = text || "";
  box.hidden = !text;
}
