// /docs: renders /openapi.json, with a form to try each call. All text is inserted as text, never as HTML.

import { bodyOf, curl, layOut, readHex, showResponse } from "./docs_call.js";
import { example } from "./form.js";

// The address of the server, also behind a gateway that serves it at a path
const root = new URL(".", location.href).href.replace(/\/$/, "");
const METHODS = ["get", "post"];

let api;
let served = { models: [] };

// h("p", { class: "soft" }, "text", node, …): an element; properties that are functions are event handlers.
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== ""));
  return element;
}

// Resolves a {$ref}.
function resolve(thing) {
  return thing?.$ref ? thing.$ref.slice(2).split("/").reduce((at, part) => at[part], api) : thing;
}

const lastPart = (ref) => ref.slice(ref.lastIndexOf("/") + 1);

// ---- schemas

// A type in a few words; named schemas become links.
function typeOf(schema) {
  if (schema.$ref) return [h("a", { href: `#schema-${lastPart(schema.$ref)}` }, lastPart(schema.$ref))];
  if (schema.anyOf) return schema.anyOf.flatMap((one, i) => (i ? [" or ", ...typeOf(one)] : typeOf(one)));
  if (schema.enum) return [schema.enum.join(" | ")];
  if (schema.items) return ["list of ", ...typeOf(schema.items)];
  if (schema.additionalProperties?.constructor === Object) return ["map of ", ...typeOf(schema.additionalProperties)];
  return [[schema.type ?? "anything"].flat().join(" or ")];
}

function schemaList(schema) {
  const properties = Object.entries(schema.properties ?? {});
  if (!properties.length) return h("p", { class: "type" }, ...typeOf(schema));
  const required = schema.required ?? [];
  return h("ul", { class: "schema" }, properties.map(([name, part]) => {
    const deeper = part.properties ? part : part.items?.properties ? part.items : null;
    return h("li", {},
      h("span", { class: "name" }, name), " ",
      h("span", { class: "type" }, ...typeOf(part)), " ",
      required.includes(name) ? h("span", { class: "must" }, "required ") : "",
      part.description ?? "",
      deeper ? schemaList(deeper) : "");
  }));
}

// ---- one operation

function parameters(operation, item) {
  return [...(item.parameters ?? []), ...(operation.parameters ?? [])].map(resolve);
}

function parameterTable(all) {
  const rows = all.map((one) => h("tr", {},
    h("td", { class: "name" }, one.name),
    h("td", {}, h("span", { class: "type" }, `${one.in}, `, ...typeOf(one.schema)), " ", one.description ?? "")));
  return h("div", { class: "wide" }, h("table", {}, h("tbody", {}, rows)));
}

function contentTypes(content = {}) {
  return Object.entries(content).map(([type, media], i) => [
    i ? ", " : "", h("code", {}, type), media.schema ? [" ", h("span", { class: "type" }, ...typeOf(media.schema))] : "",
  ]).flat(3);
}

// Successes with content types and headers; errors with one line each, because all have the same schema.
function responseTable(responses) {
  const rows = Object.entries(responses).sort(([a], [b]) => a - b).map(([status, response]) => {
    const made = resolve(response);
    const good = status < 400;
    const headers = Object.keys(made.headers ?? {}).filter((name) => good || name !== "X-Request-Id");
    return h("tr", {},
      h("td", { class: "status", "data-good": String(good) }, status),
      h("td", {}, made.description,
        good ? h("div", { class: "type" }, ...contentTypes(made.content)) : "",
        headers.length ? h("div", { class: "type" }, `headers: ${headers.join(", ")}`) : ""));
  });
  const failed = resolve(Object.entries(responses).find(([status]) => status >= 400)?.[1]);
  return h("div", { class: "wide" }, h("table", {}, h("tbody", {}, rows)),
    failed ? h("p", { class: "type one" }, "Errors: ", ...contentTypes(failed.content)) : "");
}

function requestBody(body) {
  const json = body.content["application/json"]?.schema;
  const parts = json ? (json.anyOf ?? [json]) : [];
  return [
    h("h3", {}, "Body"),
    h("p", { class: "soft" }, ...contentTypes(body.content)),
    ...parts.flatMap((part) => [parts.length > 1 ? h("p", { class: "type one" }, ...typeOf(part)) : "", schemaList(resolve(part))]),
  ];
}

// ---- the form

// The initial value of a path parameter: from a model that is served now, if there is one.
function suggested(parameter) {
  const model = served.models[0];
  const values = { model: model?.name, version: model?.default, label: Object.keys(model?.labels ?? {})[0] };
  return values[parameter.name] ?? parameter.example ?? "";
}

// A request with zeros for the model that is served, as an OpenAPI example; null if the document's own examples fit it.
function exampleFor(path) {
  const model = served.models[0];
  const version = model?.versions.find((one) => one.version === model.default);
  const inputs = version?.signatures.serving_default?.inputs;
  if (!inputs?.every(({ shape }) => shape) || String(inputs[0].shape) === ",28,28,1") return null;
  const values = inputs.map((input) => JSON.parse(example(input)));
  const summary = `Zeros for ${model.name}`;
  if (path.endsWith(":predict")) {
    return { summary, value: { inputs: Object.fromEntries(inputs.map(({ name }, i) => [name, values[i]])) } };
  }
  if (!path.endsWith("/infer")) return null;
  const tensors = inputs.map(({ name, dtype, shape }, i) => ({
    name,
    shape: shape.map((side) => side ?? 1),
    datatype: dtype === "str" ? "BYTES" : dtype.toUpperCase().replace("FLOAT", "FP"),
    data: [values[i]].flat(Infinity),
  }));
  return { summary, value: { inputs: tensors } };
}

function tryIt(method, path, operation, item) {
  const base = item.servers?.[0].url ?? root;
  const fields = parameters(operation, item).filter((one) => one.in === "path").map((one) => {
    const input = h("input", { name: one.name, value: suggested(one), required: true, autocomplete: "off" });
    return { name: one.name, input, label: h("label", {}, one.name, input) };
  });
  const body = operation.requestBody;
  const hex = body?.["x-hex"];
  const text = h("textarea", { spellcheck: "false", "aria-label": "Request body" });
  const general = Object.values(body?.content["application/json"]?.examples ?? {}).map(resolve);
  const examples = [exampleFor(path), ...general].filter(Boolean);
  const picker = h("select", { change: () => { text.value = layOut(examples[picker.selectedIndex].value); refresh(); } },
    examples.map((one) => h("option", {}, one.summary)));
  text.value = hex ?? (examples.length ? layOut(examples[0].value) : "");

  const url = () => base + fields.reduce((made, { name, input }) => made.replace(`{${name}}`, encodeURIComponent(input.value)), path);
  const line = h("pre", {});
  const refresh = () => { line.textContent = curl(method, url(), body && text.value, hex !== undefined); };
  const response = h("div", { "aria-live": "polite" });
  const send = h("button", { class: "send", type: "submit" }, "Send");

  async function submit(event) {
    event.preventDefault();
    send.disabled = true;
    try {
      const request = { method: method.toUpperCase(), headers: { Accept: "application/json, */*;q=0.5" } };
      if (body) {
        request.body = hex === undefined ? text.value : readHex(text.value);
        request.headers["Content-Type"] = hex === undefined ? "application/json" : "application/octet-stream";
      }
      const began = performance.now();
      const reply = await fetch(url(), request);
      const bytes = new Uint8Array(await reply.arrayBuffer());
      response.replaceChildren(...showResponse(h, reply, bodyOf(reply, bytes), performance.now() - began));
    } catch (error) {
      response.replaceChildren(h("p", { class: "status", "data-good": "false" }, `No response: ${error.message}`));
    } finally {
      send.disabled = false;
    }
  }

  const copy = h("button", { type: "button", click: async () => {
    getSelection().selectAllChildren(line);  // the clipboard API is not available for http to another host
    await navigator.clipboard?.writeText(line.textContent);
    copy.textContent = navigator.clipboard ? "Copied" : "Selected";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  } }, "Copy");
  refresh();
  const otherOrigin = base !== root;  // the admin port, which this page may not call
  return h("form", { submit, input: refresh },
    h("h3", {}, "Try it"),
    fields.length || examples.length > 1
      ? h("div", { class: "fields" }, fields.map((one) => one.label), examples.length > 1 ? h("label", {}, "Example", picker) : "")
      : "",
    body ? h("div", { class: "body" }, h("label", {}, hex === undefined ? "Body" : "Body, in hexadecimal: a MetadataRequest", text)) : "",
    otherOrigin ? "" : h("div", { class: "row" }, send),
    response,
    h("div", { class: "curl" }, h("div", { class: "row" }, h("strong", {}, "As a curl command"), copy), line));
}

function operationDetails(method, path, item) {
  const operation = item[method];
  const inside = h("div", { class: "inside" });
  const fill = () => {
    if (!made.open || inside.childElementCount) return;
    const all = parameters(operation, item);
    inside.append(
      operation.description ? h("p", {}, operation.description) : "",
      h("h3", {}, "Parameters"), parameterTable(all),
      ...(operation.requestBody ? requestBody(operation.requestBody) : []),
      h("h3", {}, "Responses"), responseTable(operation.responses),
      tryIt(method, path, operation, item));
  };
  const made = h("details", { id: operation.operationId, toggle: fill },
    h("summary", {},
      h("span", { class: "method", "data-method": method }, method.toUpperCase()),
      h("span", { class: "path" }, path),
      h("span", { class: "soft" }, operation.summary)),
    inside);
  made.dataset.words = `${method} ${path} ${operation.summary} ${operation.operationId}`.toLowerCase();
  return made;
}

// ---- the page

function sections() {
  const made = api.tags.map((tag) => ({ name: tag.name, description: tag.description, id: tag.name.replaceAll(" ", "-"), operations: [] }));
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((one) => item[one])) {
      made.find((section) => section.name === item[method].tags[0]).operations.push(operationDetails(method, path, item));
    }
  }
  const schemas = Object.entries(api.components.schemas).map(([name, schema]) => {
    const details = h("details", { id: `schema-${name}` },
      h("summary", {}, h("span", { class: "path" }, name)),
      h("div", { class: "inside" }, schema.description ? h("p", {}, schema.description) : "", schemaList(schema)));
    details.dataset.words = `schema ${name}`.toLowerCase();
    return details;
  });
  return [...made, { name: "Schemas", description: "The JSON of requests and responses.", id: "schemas", operations: schemas }];
}

function draw() {
  const all = sections();
  document.title = `${api.info.title}: the API`;
  document.getElementById("groups").replaceChildren(h("ul", {}, all.map((section) =>
    h("li", {}, h("a", { href: `#${section.id}` }, section.name, h("span", { class: "count" }, String(section.operations.length)))))));
  document.getElementById("main").replaceChildren(
    h("h1", {}, "API of this server ", h("small", {}, `${api.info.title} ${api.info.version}`)),
    h("p", { class: "soft" }, api.info.description),
    ...all.map((section) => h("section", { id: section.id },
      h("h2", {}, section.name), h("p", { class: "soft" }, section.description), ...section.operations)));
}

function openFromAddress() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.tagName === "DETAILS") target.open = true;
  target.scrollIntoView();
}

function filter(words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll("main section")) {
    const all = [...section.querySelectorAll("details")];
    for (const one of all) one.hidden = !wanted.every((word) => one.dataset.words.includes(word));
    section.hidden = all.every((one) => one.hidden);
  }
}

async function read(path) {
  const reply = await fetch(path);
  if (!reply.ok) throw new Error(`${path}: status ${reply.status}`);
  return reply.json();
}

async function start() {
  const state = document.getElementById("state");
  try {
    api = await read("openapi.json");
    served = await read("page/about").catch(() => served);  // needed only for initial values
    draw();
    state.hidden = true;
    document.getElementById("filter").addEventListener("input", (event) => filter(event.target.value));
    addEventListener("hashchange", openFromAddress);
    openFromAddress();
  } catch (error) {
    state.textContent = `This page cannot be shown: ${error.message}. Reload it once the server responds.`;
  }
}

start();
