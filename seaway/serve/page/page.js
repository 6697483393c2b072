// The page: polls the served models, shows them, and passes the chosen version to the classifier or the form.

import { classifier } from "./classify.js";
import { form, tableRow } from "./form.js";
import { imageOf } from "./ink.js";
import { showCall } from "./panel.js";
import { about, path } from "./server.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 2000, RETRY_MS = 1000, HIDDEN_MS = 20_000; // polling intervals

let text = null, models = [], waiting = ""; // from the last /page/about; `waiting`: why the server is not ready
let choice = choiceIn(location.hash); // {model, version} or {model, label} or {model}, as for server.path
let current = null; // {model, version, identity} that last responded, as far as the page knows
let poll = 0;
const errors = { server: null, request: null };

const draw = classifier({ onError: (error) => setError("request", error), onResponse, onCall: showCall });
const fields = form({ onResponse, onCall: showCall });

// ---- served models

async function refresh() {
  clearTimeout(poll);
  try {
    const now = await about();
    errors.server = null;
    if (now !== text) take(now);
  } catch (error) {
    if (error.status === undefined) throw error; // a bug in this page
    errors.server = error;
  }
  banner();
  clearTimeout(poll);
  poll = setTimeout(refresh, document.hidden ? HIDDEN_MS : errors.server ? RETRY_MS : POLL_MS);
}

function take(now) {
  const about = JSON.parse(now);
  text = now;
  models = about.models;
  waiting = about.why_not_ready;
  $("server").textContent = about.server;
  $("main").hidden = !models.length;
  $("served").replaceChildren(...models.flatMap(servedRows));
  if (!models.length) return draw.serve(null);
  if (!models.some(({ name }) => name === choice.model)) choose({ model: models[0].name });
  serve();
}

// The version that a choice refers to now, in any state; undefined if there is none.
function versionOf({ model, version, label }) {
  const entry = models.find(({ name }) => name === model);
  const number = version ?? (label === undefined ? entry?.default : entry?.labels[label]);
  return entry?.versions.find((each) => each.version === number);
}

const isAvailable = (version) => version?.state === "AVAILABLE";
const gone = (version) => !version || version.state === "END" || version.state === "UNLOADING";

function serve() {
  const { model } = choice;
  const chosen = choice.label ?? (choice.version === undefined ? "" : `version ${choice.version}`);
  const lost = chosen && gone(versionOf(choice)) && isAvailable(versionOf({ model }));
  if (lost) {
    choose({ model });
    notice(`${chosen} is not served any more; this page now uses the default version.`);
  }
  pickers();
  $("title").textContent = model;
  document.title = `${model} · Seaway`;
  const version = versionOf(choice);
  if (!isAvailable(version)) return; // the page stays until the version recovers or is replaced
  if (!lost && current?.model === model && current.version !== version.version) {
    notice(`This page now uses version ${version.version} instead of version ${current.version}.`);
  }
  current = { model, version: version.version, identity: version.identity };
  const target = { ...choice }, { signatures, labels } = version;
  const image = imageOf(signatures.serving_default);
  $("subtitle").textContent = subtitle(version, image);
  $("classifier").hidden = !image;
  $("form").hidden = image !== null;
  draw.serve(image && { target, image, labels, readsPng: "from_png" in signatures });
  fields.serve(image ? null : { target, signatures, labels });
}

function subtitle({ version, signatures, labels, training_data }, image) {
  const count = Object.keys(signatures).length;
  const classes = labels.length || (image && signatures.serving_default.outputs[0].shape[1]);
  const takes = image
    ? `images of ${image.width}×${image.height}${image.channels === 3 ? " in colour" : ""}`
    : `${count} signature${count === 1 ? "" : "s"}`;
  const origin = training_data && `learned from ${training_data}`;
  return [`version ${version}`, classes && `${classes} classes`, takes, origin].filter(Boolean).join(" · ");
}

function servedRows(model) {
  return model.versions.map(({ version, state, error, identity }) => {
    const labels = Object.keys(model.labels).filter((label) => model.labels[label] === version);
    if (model.default === version) labels.unshift("(default)");
    const digest = identity.split("@")[1] ?? "";
    const row = tableRow([model.name, version, state, labels.join(", "), digest.slice(0, 12)]);
    row.cells[2].className = `lamp ${state.toLowerCase()}`;
    row.cells[4].title = digest;
    if (error) row.cells[2].append(Object.assign(document.createElement("small"), { textContent: error }));
    return row;
  });
}

// An unexpected version in a response means that the served versions have changed.
function onResponse(identity) {
  if (identity && identity !== current?.identity) refresh();
}

// ---- the choice, kept in the address, as in #characters/labels/stable

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
    current = null; // no notice for the user's own choice
    $("notice").hidden = true;
    serve();
    banner();
  });
}

// ---- status and errors

function setError(where, error) {
  errors[where] = error;
  banner();
}

const RETRYING = "This page retries automatically and keeps your input.";

// [state of the lamp, title, words]; without a title there is no banner
function situation() {
  const error = errors.server ?? errors.request;
  if (error?.status === 0) {
    return ["gone", "The server does not respond.", `It may be restarting (${error.message}). ${RETRYING}`];
  }
  if (text && !models.length) {
    return ["waiting", "Nothing is served yet.", waiting || "A published version appears here automatically."];
  }
  if (text && !isAvailable(versionOf(choice))) {
    return ["waiting", "Not ready yet.", `${waiting || `${choice.model} has no available version`}. ${RETRYING}`];
  }
  if (error?.retryAfter) {
    return ["waiting", `The server is temporarily unavailable (${error.status}).`, `Its message: ${error.message}. ${RETRYING}`];
  }
  if (error?.status) return ["refused", `The server rejected the request (${error.status}).`, error.message];
  if (error) return ["refused", "This page cannot read the response.", error.message];
  return text ? ["serving", "", ""] : ["connecting", "", ""];
}

function banner() {
  const [state, title, words] = situation();
  const texts = { state, "banner-title": title, "banner-text": words };
  for (const [id, said] of Object.entries(texts)) {
    if ($(id).textContent !== said) $(id).textContent = said; // on a change only, for screen readers
  }
  $("state").dataset.state = $("banner").dataset.state = state;
  $("banner").hidden = !title;
}

function notice(words) {
  $("notice").textContent = words;
  $("notice").hidden = false;
}

document.addEventListener("visibilitychange", () => document.hidden || refresh());
refresh();
