"use strict";
// Which spans and notes are shown. Without this script the page is whole, and its controls stay hidden.
(() => {
  const controls = document.getElementById("filters");
  if (!controls) return;
  const boxes = (name) => [...controls.querySelectorAll(`input[name=${name}]`)];
  const types = boxes("type"), kinds = boxes("kind");
  const errorsOnly = document.getElementById("errors-only"), wanted = document.getElementById("wanted");
  const shown = document.getElementById("shown");

  // A mark's classes: t3 its type, p5 the type of its counterpart if another one, k1 its kind of error.
  const numbered = (classes, letter, otherwise) => {
    const found = classes.find((name) => name[0] === letter && /^\d+$/.test(name.slice(1)));
    return found ? Number(found.slice(1)) : otherwise;
  };
  const read = (node) => {
    const classes = [...node.classList], type = numbered(classes, "t", -1);
    return { node, type, other: numbered(classes, "p", type), kind: numbered(classes, "k", 0), off: false };
  };
  const notes = [...document.querySelectorAll(".pair")].map((node) => ({
    node,
    id: node.querySelector(".id").textContent.toLowerCase(),
    marks: [...node.querySelectorAll(".note i, .lines tbody tr")].map(read),
  }));

  const sift = (note, typeOn, kindOn) => {
    let any = false, wrong = false;
    for (const mark of note.marks) {
      const on = kindOn[mark.kind] && (typeOn[mark.type] || typeOn[mark.other]);
      if (on) { any = true; wrong = wrong || mark.kind > 0; }
      if (on === mark.off) { mark.off = !on; mark.node.classList.toggle("off", !on); }
    }
    return { any, wrong };
  };
  const update = () => {
    const typeOn = types.map((box) => box.checked), kindOn = kinds.map((box) => box.checked);
    const everything = typeOn.every(Boolean) && kindOn.every(Boolean);
    const id = wanted.value.trim().toLowerCase();
    let count = 0;
    for (const note of notes) {
      const { any, wrong } = sift(note, typeOn, kindOn);
      const show = note.id.includes(id) && (everything || any) && (!errorsOnly.checked || wrong);
      if (note.node.hidden === show) note.node.hidden = !show;
      count += show;
    }
    shown.textContent = `${count} of ${notes.length} notes shown`;
  };
  const reset = () => {
    for (const box of [...types, ...kinds]) box.checked = true;
    errorsOnly.checked = false;
    wanted.value = "";
    update();
  };
  const follow = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (target && (target.closest("[hidden]") || target.matches(".off"))) { reset(); target.scrollIntoView(); }
  };

  controls.addEventListener("input", update);
  controls.addEventListener("click", (event) => {
    const { all } = event.target.dataset, { none } = event.target.dataset;
    if (all || none) {
      for (const box of boxes(all || none)) box.checked = Boolean(all);
      update();
    }
    if (event.target.id === "reset") reset();
  });
  addEventListener("hashchange", follow);
  controls.hidden = false;
  update();
})();
