// The page: asks every few seconds what is served, shows it, and hands the chosen version to what can call it.

import { classifier } from "./classify.js";
import { form } from "./form.js";
import { imageOf } from "./ink.js";
import { showCall } from "./panel.js";
import { about, path } from "./server.js";

const $ = (id) => document.getElementById(id);
const POLL = 2000, RETRY = 1000, HIDDEN = 20_000; // milliseconds

let text = null, models = [], waiting = ""; // as /page/about last said; `waiting`: why nothing answers
let choice = choiceIn(location.hash); // {model, version} or {model, label} or {model}, as for server.path
let answering = null; // {model, version, identity} that the page last knew to answer
let poll = 0;
const troubles = { server: null, request: null };

const draw = classifier({ trouble: (error) => trouble("request", error), answered, drawn: showCall });
const fields = form({ answered, drawn: showCall });

// ---- what is served

async function look() {
  clearTimeout(poll);
  try {
    const now = await about();
    troubles.server = null;
    if (now !== text) take(now);
  } catch (error) {
    if (error.status === undefined) throw error; // a mistake of this page's own
    troubles.server = error;
  }
  banner();
  clearTimeout(poll);
  poll = setTimeout(look, document.hidden ? HIDDEN : troubles.server ? RETRY : POLL);
}

function take(now) {
  const said = JSON.parse(now);
  text = now;
  models = said.models;
  waiting = said.why_not_ready;
  $("server").textContent = said.server;
  $("main").hidden = !models.length;
  $("served").replaceChildren(...models.flatMap(servedRows));
  if (!models.length) return draw.serve(null);
  if (!models.some(({ name }) => name === choice.model)) choose({ model: models[0].name });
  serve();
}

// The version that a choice means now, in whatever state; undefined where there is none.
function meant({ model, version, label }) {
  const found = models.find(({ name }) => name === model);
  const number = version ?? (label === undefined ? found?.default : found?.labels[label]);
  return found?.versions.find((each) => each.version === number);
}

const answers = (version) => version?.state === "AVAILABLE";
const over = (version) => !version || version.state === "END" || version.state === "UNLOADING";

function serve() {
  const { model } = choice;
  const chosen = choice.label ?? (choice.version === undefined ? "" : `version ${choice.version}`);
  const lost = chosen && over(meant(choice)) && answers(meant({ model }));
  if (lost) {
    choose({ model });
    notice(`${chosen} is not served any more; the default version answers now.`);
  }
  pickers();
  $("title").textContent = model;
  document.title = `${model} · Seaway`;
  const version = meant(choice);
  if (!answers(version)) return; // what is on the page stays: it answers again, or is replaced
  if (!lost && answering?.model === model && answering.version !== version.version) {
    notice(`Version ${version.version} answers now; before it was version ${answering.version}.`);
  }
  answering = { model, version: version.version, identity: version.identity };
  const target = { ...choice }, { signatures, labels } = version;
  const image = imageOf(signatures.serving_default);
  $("subtitle").textContent = subtitle(version, image);
  $("classifier").hidden = !image;
  $("form").hidden = image !== null;
  draw.serve(image && { target, image, labels, readsPng: "from_png" in signatures });
  fields.serve(image ? null : { target, signatures });
}

function subtitle({ version, signatures, labels }, image) {
  const count = Object.keys(signatures).length;
  if (!image) return `version ${version} · ${count} ${count === 1 ? "signature" : "signatures"}`;
  const classes = labels.length || signatures.serving_default.outputs[0].shape[1];
  const size = `pictures of ${image.width}×${image.height}${image.channels === 3 ? " in colour" : ""}`;
  return [`version ${version}`, classes && `${classes} classes`, size].filter(Boolean).join(" · ");
}

function servedRows(model) {
  const newestFirst = [...model.versions].sort((a, b) => b.version - a.version);
  return newestFirst.map(({ version, state, error, identity }) => {
    const labels = Object.keys(model.labels).filter((label) => model.labels[label] === version);
    if (model.default === version) labels.unshift("default");
    const digest = identity.split("@")[1] ?? "";
    const row = document.createElement("tr");
    for (const words of [model.name, version, state, labels.join(", "), digest.slice(0, 12)]) {
      row.insertCell().textContent = words;
    }
    row.cells[2].className = `lamp ${state.toLowerCase()}`;
    row.cells[4].title = digest;
    if (error) row.cells[2].append(Object.assign(document.createElement("small"), { textContent: error }));
    return row;
  });
}

// An answer names who gave it: another one than expected means that the server has moved on.
function answered(identity) {
  if (identity && identity !== answering?.identity) look();
}

// ---- choosing; the address keeps it, as in #characters/labels/stable

function choiceIn(hash) {
  try {
    const [model, kind, which] = hash.slice(1).split("/").map(decodeURIComponent);
    if (kind === "versions" && /^\d+$/.test(which)) return { model, version: Number(which) };
    return kind === "labels" && which ? { model, label: which } : { model };
  } catch {
    return { model: "" };
  }
}

function choose(next) {
  choice = next;
  history.replaceState(null, "", `#${path(next)}`);
}

function pickers() {
  const model = models.find(({ name }) => name === choice.model);
  const available = model.versions.filter(({ state }) => state === "AVAILABLE").map(({ version }) => version);
  const labels = Object.entries(model.labels).filter(([, version]) => available.includes(version));
  fill($("model"), models.map(({ name }) => [name, { model: name }]));
  fill($("version"), [
    [`default (${model.default ?? "none"})`, { model: model.name }],
    ...labels.map(([label, version]) => [`${label} (${version})`, { model: model.name, label }]),
    ...available.map((version) => [`version ${version}`, { model: model.name, version }]),
  ]);
  $("pick-model").hidden = models.length < 2;
  $("pick-version").hidden = available.length < 2;
}

// Each option's value is the path of its choice.
function fill(select, options) {
  const current = select.id === "model" ? path({ model: choice.model }) : path(choice);
  select.replaceChildren(...options.map(([shown, option]) => {
    return new Option(shown, path(option), false, path(option) === current);
  }));
}

for (const id of ["model", "version"]) {
  $(id).addEventListener("change", () => {
    choose(choiceIn(`#${$(id).value}`));
    answering = null; // a person's own choice is no news
    $("notice").hidden = true;
    serve();
    banner();
  });
}

// ---- what the person is told

function trouble(where, error) {
  troubles[where] = error;
  banner();
}

const ON = "This page asks again and goes on by itself; what you drew or wrote stays.";

// [what the lamp says, title, words]; no title, no banner
function situation() {
  const error = troubles.server ?? troubles.request;
  if (error?.status === 0) {
    return ["gone", "The server does not answer.", `It may be restarting (${error.message}). ${ON}`];
  }
  if (text && !models.length) {
    return ["waiting", "Nothing is served yet.", waiting || "Publish a version, and it appears here by itself."];
  }
  if (text && !answers(meant(choice))) {
    return ["waiting", "Not ready yet.", `${waiting || `${choice.model} has no version that answers`}. ${ON}`];
  }
  if (error?.after) {
    return ["waiting", `The server cannot answer just now (${error.status}).`, `It says: ${error.message}. ${ON}`];
  }
  if (error?.status) return ["refused", `The server refused this (${error.status}).`, error.message];
  if (error) return ["refused", "This page does not understand the answer.", error.message];
  return text ? ["serving", "", ""] : ["connecting", "", ""];
}

function banner() {
  const [state, title, words] = situation();
  const told = { state, "banner-title": title, "banner-text": words };
  for (const [id, said] of Object.entries(told)) {
    if ($(id).textContent !== said) $(id).textContent = said; // said once, not at every look
  }
  $("state").dataset.state = $("banner").dataset.state = state;
  $("banner").hidden = !title;
}

function notice(words) {
  $("notice").textContent = words;
  $("notice").hidden = false;
}

document.addEventListener("visibilitychange", () => document.hidden || look());
look();
