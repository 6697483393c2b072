// The form for models other than image classifiers: signatures, a field for each input, and the raw response.

import { predictBody } from "./lines.js";
import { numbersIn, rank } from "./scores.js";
import { duration, predict, shortName } from "./server.js";

const MAX_ROWS = 20, TOP = 4; // labels of a row
const MAX_EXAMPLE_VALUES = 4096; // a larger input is empty, and zeros are sent
const MAX_SHOWN = 50_000; // characters of a response
const $ = (id) => document.getElementById(id);

export const typeOf = ({ dtype, shape }) =>
  `${dtype === "str" ? "string" : dtype} ${shape ? `[${shape.map((side) => side ?? "any").join(", ")}]` : "any shape"}`;

// An example of the tensor as JSON text, with size 1 for dimensions of any size.
export function example({ dtype, shape }) {
  const value = dtype === "str" ? '"text"' : dtype === "bool" ? "false" : dtype.startsWith("float") ? "0.0" : "0";
  return (shape ?? [null]).reduceRight((inner, side) => `[${Array(side ?? 1).fill(inner).join(", ")}]`, value);
}

const sizeOf = ({ shape }) => (shape ?? []).reduce((size, side) => size * (side ?? 1), 1);

// JSON tokens; an array without nested brackets is one, as is an empty object.
const STRING = /"(?:[^"\\]|\\.)*"/.source, PLAIN = /[^[\]{}"]*/.source;
const TOKENS = new RegExp(`\\[${PLAIN}(?:${STRING}${PLAIN})*\\]|\\{\\s*\\}|${STRING}|[[\\]{},:]|[^\\s[\\]{},:"]+`, "g");
const SPACES = new RegExp(`(${STRING})|\\s+|(,)`, "g");

// Formats JSON text in lines, with flat arrays on one line. Tokens stay unchanged, NaN and 2^60 too.
export function laidOut(text) {
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  return (text.match(TOKENS) ?? []).map((token) => {
    if (token === "[" || token === "{") return depth++, token + line();
    if (token === "]" || token === "}") return depth--, line() + token;
    if (token === ",") return `,${line()}`;
    if (token === ":") return ": ";
    return /^[[{]/.test(token) ? token.replace(SPACES, (_, string, comma) => string ?? (comma ? ", " : "")) : token;
  }).join("");
}

// Callbacks: `onResponse(identity)` with the version that responded; `onCall` with the call, as for panel.showCall.
export function form({ onResponse, onCall }) {
  let served = null; // {target, signatures, labels}
  let typed = {}; // the text of each input by name, kept when another signature is chosen

  const chosen = () => served.signatures[$("signature").value];
  const call = () => ({
    target: served.target,
    signature: $("signature").value,
    inputs: chosen().inputs.map((input, i) => ({ ...input, text: $(`field-${i}`).value.trim() || example(input) })),
  });

  function fill() {
    const { inputs, outputs } = chosen();
    const row = (direction) => (tensor) => [direction, tensor.name, typeOf(tensor)];
    $("tensors").replaceChildren(table([...inputs.map(row("in")), ...outputs.map(row("out"))]));
    $("fields").replaceChildren(...inputs.map(field));
    $("labels").hidden = $("output").hidden = true;
    $("form-by").textContent = "";
    onCall(call());
  }

  // [row, label, score, alternatives] for the output with one score per label
  function labelRows(text) {
    const { labels } = served;
    const output = chosen().outputs.find(({ dtype, shape }) => /^float/.test(dtype) && shape?.at(-1) === labels.length);
    if (!output) return [];
    const { outputs } = numbersIn(text);
    const scores = [outputs[output.name] ?? outputs].flat(output.shape.length - 1);
    return scores.slice(0, MAX_ROWS).map((row, i) => {
      const [best, ...others] = rank(row, labels).ranking.slice(0, TOP);
      return [i, best.label, best.text, others.map(({ label, text }) => `${label} ${text}`).join(" · ")];
    });
  }

  function field(input, i) {
    const label = Object.assign(document.createElement("label"), { className: "field" });
    label.innerHTML = `<b></b> <span class="soft"></span><textarea id="field-${i}" rows="2" spellcheck="false"></textarea>`;
    const [name, type, text] = label.children;
    name.textContent = input.name;
    type.textContent = typeOf(input);
    text.value = typed[input.name] ?? (sizeOf(input) <= MAX_EXAMPLE_VALUES ? example(input) : "");
    text.placeholder = `if empty, ${sizeOf(input).toLocaleString("en")} zeros are sent`;
    text.addEventListener("input", () => {
      typed[input.name] = text.value;
      onCall(call());
    });
    return label;
  }

  $("signature").addEventListener("change", fill);
  $("inputs").addEventListener("submit", async (event) => {
    event.preventDefault();
    const output = $("output");
    $("form-by").textContent = "sending …";
    try {
      const reply = await predict(served.target, predictBody(call()));
      const whole = laidOut(reply.text);
      output.textContent = whole.length > MAX_SHOWN ? `${whole.slice(0, MAX_SHOWN)}\n… ${whole.length - MAX_SHOWN} more` : whole;
      output.classList.remove("bad");
      const rows = labelRows(reply.text);
      $("labels").replaceChildren(table(rows));
      $("labels").hidden = !rows.length;
      $("form-by").textContent = `${shortName(reply.model)} · ${duration(reply.milliseconds)}`;
      onResponse(reply.model);
    } catch (error) {
      output.textContent = error.message;
      output.classList.add("bad");
      $("labels").hidden = true;
      $("form-by").textContent = error.status ? `error ${error.status}` : error.status === 0 ? "no response" : "not sent";
    }
    output.hidden = false;
  });

  return {
    serve(next) {
      const same = served && next && JSON.stringify(served.signatures) === JSON.stringify(next.signatures);
      served = next;
      if (!next) return;
      if (same) return onCall(call());
      typed = {};
      const names = Object.keys(next.signatures).sort((a, b) => (b === "serving_default") - (a === "serving_default"));
      $("signature").replaceChildren(...names.map((name) => new Option(name, name)));
      $("pick-signature").hidden = names.length < 2;
      fill();
    },
  };
}

export function tableRow(texts) {
  const row = document.createElement("tr");
  for (const text of texts) row.insertCell().textContent = text;
  return row;
}

function table(rows) {
  const table = document.createElement("table");
  table.append(...rows.map(tableRow));
  return table;
}
