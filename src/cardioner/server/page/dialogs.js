// Help, pasting, training again, taking corrections along.

import * as api from "./api.js";
import { byId, showMessage } from "./dom.js";
import { state } from "./work.js";

export function connectDialogs({ openText }) {
  byId("show-help").addEventListener("click", showHelp);
  byId("show-paste").addEventListener("click", () => {
    byId("paste-name").value = freeName("pasted-1");
    byId("paste").showModal();
  });
  byId("paste").addEventListener("close", () => {
    const text = byId("paste-text"), dialog = byId("paste");
    if (dialog.returnValue === "open" && text.value) openText(byId("paste-name").value, text.value);
    text.value = "";
    dialog.returnValue = "";
  });
  byId("show-training").addEventListener("click", showTraining);
  byId("learned-from").addEventListener("input", drawCommand);
  byId("copy").addEventListener("click", copyCommand);
  for (const format of ["brat", "jsonl"]) byId(`export-${format}`).addEventListener("click", () => save(format));
}

export function showHelp() {
  byId("help").showModal();
}

/** A name that no note has, and that a file can have: this one, or one like it. */
export function freeName(wanted) {
  const folded = (name) => name.normalize().toLowerCase();
  const taken = new Set(state.notes.map((note) => folded(note.id)));
  let name = wanted.replace(/\p{C}|\p{Zl}|\p{Zp}|(?! )\p{Zs}|[\\/:]/gu, "-").replace(/^[.\s]+|[.\s]+$/g, "") || "pasted-1";
  while (taken.has(folded(name))) name = name.replace(/(?:-(\d+))?$/, (_, number) => `-${Number(number ?? 1) + 1}`);
  return name;
}

async function save(format) {
  try {
    const url = URL.createObjectURL(await api.download(format));
    const link = Object.assign(document.createElement("a"), { href: url });
    link.download = format === "brat" ? "corrections.zip" : "corrections.jsonl";
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  } catch (error) {
    showMessage(`Not exported: ${error.message}`);
  }
}

// Training ------------------------------------------------------------------------------------------------------------

let words = [];

async function showTraining() {
  try {
    const found = await api.training(state.model);
    words = found.command;
    const notes = found.accepted === 1 ? "1 note is" : `${found.accepted} notes are`;
    byId("training-count").textContent = found.accepted
      ? `${notes} accepted. This command trains ${state.model} further on them:`
      : "No note is accepted yet. When some are, this command trains on them:";
    const missing = byId("training-missing");
    missing.hidden = !found.missing.length || !found.accepted;
    missing.textContent = `No accepted note has ${found.missing.join(", ")}: trained on these alone, the new model would not know it.`;
    drawCommand();
    byId("training").showModal();
  } catch (error) {
    showMessage(`The command cannot be shown: ${error.message}`);
  }
}

/** The command, with the earlier notes before the corrected ones. */
function drawCommand() {
  const earlier = byId("learned-from").value.trim(), place = words.indexOf("--train");
  const all = earlier ? [...words.slice(0, place), "--train", earlier, ...words.slice(place)] : words;
  byId("command").textContent = all.map(quoted).join(" ");
  byId("training-missing").classList.toggle("out-of-sight", Boolean(earlier));
}

const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\"'\"'")}'`);

async function copyCommand() {
  const command = byId("command");
  try {
    await navigator.clipboard.writeText(command.textContent);
    byId("copy").textContent = "Copied";
    setTimeout(() => {
      byId("copy").textContent = "Copy";
    }, 2000);
  } catch {
    getSelection().selectAllChildren(command); // to be copied by hand
  }
}
