// The page: opens notes, shows what models find, and saves what a person accepts.

import * as api from "./api.js";
import { announce, byId, make, oneTabStop, showMessage } from "./dom.js";
import { connectDialogs, freeName, showHelp } from "./dialogs.js";
import { Colours, draw } from "./drawing.js";
import { connectEditing, travel } from "./editing.js";
import { connectList, drawList, drawRow, neighbour } from "./list.js";
import { closeMenu, connectMenu } from "./menu.js";
import { drawColumns, drawCompare, drawEntities, drawLegend } from "./side.js";
import { atLeast, bare, inOrder, keyOf } from "./spans.js";
import { connectTip } from "./tip.js";
import { CAME_WITH, isDraft, OpenNote, state } from "./work.js";

const colours = new Colours();
const pasted = new Map(); // notes that only this page has
let opening = 0;

// Drawing -------------------------------------------------------------------------------------------------------------

/** Draw what depends on the spans of the open note. */
function refresh() {
  drawNote(state.open);
  drawRow(openNote);
}

/** Draw everything. */
function refreshAll() {
  const note = state.open;
  byId("start").hidden = Boolean(note);
  byId("note").hidden = byId("entities").hidden = !note;
  if (note) drawNote(note);
  drawList(openNote);
}

function drawNote(note) {
  const sources = drawCompare(compare);
  const shared = new Set(sources.flatMap((source) => note.beside(source)).map(keyOf));
  const special = (span) => (span === note.active ? "active" : sources.length && !shared.has(keyOf(span)) ? "only" : "");
  draw(byId("text"), note.text, note.drawn, colours, special);
  drawLegend(colours, refresh);
  drawColumns(sources, colours, refresh);
  drawEntities(sources, refresh);
  byId("title").textContent = note.id;
  byId("state").textContent = note.edited ? "changed, not accepted" : note.saved ? "✓ accepted" : "";
  byId("left-out").textContent = note.leftOut ? `${note.leftOut} left out` : "";
  byId("undo").disabled = !note.history.past.length;
  byId("redo").disabled = !note.history.future.length;
  byId("previous").disabled = !neighbour(-1);
  byId("next").disabled = !neighbour(1);
  byId("accept").hidden = !state.workspace.corrections;
  byId("accept").disabled = Boolean(note.saved) && !note.edited;
  byId("withdraw").hidden = !note.saved;
}

// Opening -------------------------------------------------------------------------------------------------------------

async function openNote(id) {
  const turn = (opening += 1);
  closeMenu();
  try {
    const own = pasted.get(id), note = own ?? new OpenNote(await api.note(id), false);
    await find(note);
    if (turn !== opening) return; // another note was asked for meanwhile
    if (!note.history) note.begin();
    const wasOpen = Boolean(state.open);
    state.open = note;
    history.replaceState(null, "", `#note=${encodeURIComponent(id)}`);
    showMessage("");
    refreshAll();
    scrollTo(0, 0);
    if (wasOpen) byId("text").focus({ preventScroll: true });
    announce(`${id}: ${note.drawn.length} entities`);
  } catch (error) {
    if (turn === opening) showMessage(`${id} cannot be opened: ${error.message}`);
  }
}

/** Have every model that is shown tag a note. */
async function find(note) {
  const names = [state.model, ...state.compare].filter((name) => name !== CAME_WITH && !note.found.has(name));
  const answers = await Promise.all(names.map((name) => api.predict(note.text, name)));
  names.forEach((name, place) => {
    const { digest, spans } = answers[place];
    note.found.set(name, { digest, spans: inOrder(spans.map((span) => ({ ...span, fragments: [] }))) });
  });
}

function openText(id, text) {
  const name = freeName(id);
  pasted.set(name, new OpenNote({ id: name, text, annotations: [], saved: null }, true));
  state.notes.push({ id: name, characters: [...text].length, annotations: 0, accepted: false, order: null });
  return openNote(name);
}

/** Open files exactly as they are: no newline and no byte order mark is changed. */
async function openFiles(files) {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  for (const file of files) {
    let text;
    try {
      text = decoder.decode(await file.arrayBuffer());
    } catch {
      showMessage(`${file.name} is not text in UTF-8: convert it first`);
      continue;
    }
    await openText(file.name.replace(/\.txt$/i, ""), text);
  }
}

async function compare() {
  try {
    await find(state.open);
    refresh();
  } catch (error) {
    showMessage(`Another model cannot be shown: ${error.message}`);
  }
}

// Saving --------------------------------------------------------------------------------------------------------------

async function accept() {
  const note = state.open, spans = note.spans;
  if (!note || byId("accept").hidden || byId("accept").disabled) return;
  byId("accept").disabled = true;
  const next = neighbour(1, true), turn = opening;
  try {
    note.saved = await api.correct({
      note: note.id,
      text: note.text,
      spans: bare(spans),
      before: bare(atLeast(note.proposal, state.threshold)),
      model: state.model,
      digest: note.found.get(state.model)?.digest ?? null,
      user: byId("user").value.trim(),
      replaces: note.saved?.revision ?? null,
    });
    note.change(note.proposal);
    listedNote(note.id).accepted = true;
    showMessage("");
    announce(`${note.id} is accepted`);
    if (next && turn === opening) return await openNote(next.id); // unless another one was asked for meanwhile
  } catch (error) {
    if (error.status === 409) await showOther(note, "saved");
    else showMessage(`${note.id} is not saved: ${error.message}`);
  }
  refreshAll();
}

/** Somebody else changed the note meanwhile: show theirs beside what is here, which is kept. */
async function showOther(note, what) {
  const nothing = { text: note.text, saved: null }; // of a pasted note, once its correction is withdrawn
  const theirs = await api.note(note.id).catch((error) => (error.status === 404 ? nothing : null));
  if (!theirs) return showMessage(`${note.id} is not ${what}, and the server does not answer: try again`);
  const { text, saved } = theirs;
  if (text !== note.text) return showMessage(`${note.id} has another text on the server: copy what you need, and reload this page`);
  const own = note.history.now;
  note.saved = saved ?? null;
  listedNote(note.id).accepted = Boolean(saved);
  note.change(note.proposal);
  note.change(own);
  return showMessage(
    `${note.id} is not ${what}: somebody else changed it meanwhile. Undo shows their version, redo yours. Accept the one that is right.`,
  );
}

async function withdraw() {
  const note = state.open;
  try {
    await api.withdraw({ note: note.id, user: byId("user").value.trim(), replaces: note.saved.revision });
    const kept = note.spans;
    note.saved = null;
    note.change(kept);
    listedNote(note.id).accepted = false;
    announce(`${note.id} is not accepted any more`);
  } catch (error) {
    if (error.status === 409 || error.status === 404) await showOther(note, "withdrawn"); // 404: there is none any more
    else showMessage(`${note.id} is not withdrawn: ${error.message}`);
  }
  refreshAll();
}

const listedNote = (id) => state.notes.find((note) => note.id === id);

// The start -----------------------------------------------------------------------------------------------------------

const actions = {
  a: accept,
  "?": showHelp,
  N: () => goTo(1),
  P: () => goTo(-1),
};

function goTo(by) {
  const next = neighbour(by);
  if (next) openNote(next.id);
}

function connect() {
  connectMenu();
  connectDialogs({ openText });
  connectEditing(refresh, colours, actions);
  connectList(openNote);
  connectTip();
  oneTabStop(byId("spans"));
  const clicks = { undo: () => travel(true), redo: () => travel(false), accept, withdraw, previous: () => goTo(-1), next: () => goTo(1) };
  for (const [id, act] of Object.entries(clicks)) byId(id).addEventListener("click", act);
  byId("open-files").addEventListener("click", () => byId("files").click());
  byId("files").addEventListener("change", async (event) => {
    await openFiles([...event.target.files]);
    event.target.value = "";
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    openFiles([...event.dataTransfer.files]);
  });
  byId("threshold").addEventListener("input", setThreshold);
  byId("model").addEventListener("change", chooseModel);
  addEventListener("hashchange", openNamed);
  addEventListener("beforeunload", (event) => {
    const lost = [...pasted.values()].some((note) => note.history && note.edited);
    if (lost || state.notes.some((note) => isDraft(note.id))) event.preventDefault();
  });
}

function setThreshold() {
  state.threshold = Number(byId("threshold").value);
  byId("threshold-value").textContent = state.threshold.toFixed(2);
  if (state.open) state.open.active = null;
  if (state.open) refresh();
}

async function chooseModel() {
  state.model = byId("model").value;
  state.compare.delete(state.model);
  if (!state.open) return;
  await compare();
  state.open.changeModel();
  refresh();
}

function connectTheme() {
  const button = byId("theme"), dark = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    const chosen = localStorage.getItem("cardioner-theme");
    if (chosen) document.documentElement.dataset.theme = chosen;
    button.ariaPressed = String((chosen ?? (dark.matches ? "dark" : "light")) === "dark");
  };
  button.addEventListener("click", () => {
    localStorage.setItem("cardioner-theme", button.ariaPressed === "true" ? "light" : "dark");
    show();
  });
  dark.addEventListener("change", show);
  show();
}

function connectUser() {
  const field = byId("user");
  field.value = localStorage.getItem("cardioner-user") ?? "";
  field.addEventListener("change", () => localStorage.setItem("cardioner-user", field.value.trim()));
}

/** The note that the address names, or else the first one to do. */
function openNamed() {
  const named = new URLSearchParams(location.hash.slice(1)).get("note");
  if (named && named === state.open?.id) return;
  const note = state.notes.find((one) => one.id === named) ?? state.notes.find((one) => !one.accepted) ?? state.notes[0];
  if (note) openNote(note.id);
}

async function start() {
  connectTheme();
  connectUser();
  if (matchMedia("(max-width: 55rem)").matches) byId("notes").open = byId("entities").open = false;
  try {
    [state.workspace, state.models, state.notes] = await Promise.all([api.workspace(), api.models(), api.notes()]);
  } catch (error) {
    showMessage(error.message);
    return;
  }
  state.model = state.models[0].name;
  for (const model of state.models) for (const label of Object.keys(model.types)) colours.of(label);
  byId("model").replaceChildren(...state.models.map(({ name }) => make("option", { value: name }, name)));
  const { corrections } = state.workspace;
  byId("corrections").hidden = false;
  byId("saved-where").textContent = corrections
    ? `Accepted notes are saved in ${corrections}.`
    : "Nothing is saved: start the server with --corrections FOLDER to keep what you correct.";
  for (const id of ["export-brat", "export-jsonl", "show-training", "user-field"]) byId(id).hidden = !corrections;
  connect();
  refreshAll();
  openNamed();
}

start();
