// Requests to the server that this page comes from, with its token if it asks for one.

import { byId } from "./dom.js";

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const TOKEN = "cardioner-token";

async function request(method, path, body) {
  const headers = {}, token = sessionStorage.getItem(TOKEN);
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Refused(0, "the server does not answer: is it still running?");
  }
  if (answer.status === 401) {
    if (sessionStorage.getItem(TOKEN) === token) await askForToken(Boolean(token)); // else another request asked
    return request(method, path, body);
  }
  if (!answer.ok) throw new Refused(answer.status, await problem(answer));
  return answer;
}

async function problem(answer) {
  try {
    return (await answer.json()).detail;
  } catch {
    return `the server answered ${answer.status}`;
  }
}

let asking = null;

/** Ask once, however many requests were refused. */
function askForToken(wasWrong) {
  asking ??= new Promise((resolve) => {
    const dialog = byId("ask-token"), field = byId("token");
    byId("token-problem").textContent = wasWrong ? "The server did not take that token." : "This server asks for a token.";
    field.value = "";
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(TOKEN, field.validity.valid ? field.value.trim() : ""); // no header holds any other token
      field.value = "";
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

const query = (path, parameters) => `${path}?${new URLSearchParams(parameters)}`;
const json = async (answer) => (await answer).json();

export const workspace = () => json(request("GET", "/workspace"));
export const models = () => json(request("GET", "/models"));
export const notes = () => json(request("GET", "/notes"));
export const note = (id) => json(request("GET", query("/note", { note: id, offsets: "utf-16" })));
export const training = (model) => json(request("GET", query("/training", { model })));
export const correct = (message) => json(request("PUT", "/corrections", { ...message, offsets: "utf-16" }));
export const withdraw = (message) => request("DELETE", "/corrections", message);
export const download = async (format) => (await request("GET", query("/export", { format }))).blob();

/** The spans that a model finds, and the digest of the model. */
export async function predict(text, model) {
  const answer = await json(request("POST", "/predict", { text, model, offsets: "utf-16" }));
  return { digest: answer.digest, spans: answer.results[0].spans };
}
