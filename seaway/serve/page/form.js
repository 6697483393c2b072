// A model that is no image classifier: its signatures, a field for each input, the answer as the server wrote it.

import { predictBody } from "./lines.js";
import { duration, predict, shortName } from "./server.js";

const FILLED = 4096; // values; a larger example is left out of the field, and zeros are sent
const SHOWN = 50_000; // characters of an answer
const $ = (id) => document.getElementById(id);

export const typeOf = ({ dtype, shape }) =>
  `${dtype === "str" ? "string" : dtype} ${shape ? `[${shape.map((side) => side ?? "any").join(", ")}]` : "any shape"}`;

// An example of the tensor as JSON text; a side of any size is 1.
export function example({ dtype, shape }) {
  const value = dtype === "str" ? '"text"' : dtype === "bool" ? "false" : dtype.startsWith("float") ? "0.0" : "0";
  return (shape ?? [null]).reduceRight((inner, side) => `[${Array(side ?? 1).fill(inner).join(", ")}]`, value);
}

const sizeOf = ({ shape }) => (shape ?? []).reduce((size, side) => size * (side ?? 1), 1);

// JSON text in lines: an array without nesting stands on one. The tokens stay as they are written, NaN and 2^60 too.
export function laidOut(text) {
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g) ?? [];
  let depth = 0, out = "", flat = false;
  const line = () => `\n${"  ".repeat(depth)}`;
  const isFlat = (i) => {
    for (let j = i + 1; j < tokens.length; j++) {
      if (tokens[j] === "[" || tokens[j] === "{") return false;
      if (tokens[j] === "]" || tokens[j] === "}") return true;
    }
    return true;
  };
  tokens.forEach((token, i) => {
    if (token === "[" || token === "{") {
      flat = isFlat(i) && (token === "[" || tokens[i + 1] === "}");
      depth++;
      out += flat ? token : token + line();
    } else if (token === "]" || token === "}") {
      depth--;
      out += flat ? token : line() + token;
      flat = false;
    } else if (token === ",") {
      out += flat ? ", " : "," + line();
    } else {
      out += token === ":" ? ": " : token;
    }
  });
  return out;
}

// `answered(identity)` is told which version answered; `drawn` what would be sent, as for panel.showCall.
export function form({ answered, drawn }) {
  let served = null; // {target, signatures}

  const chosen = () => served.signatures[$("signature").value];
  const call = () => ({
    target: served.target,
    signature: $("signature").value,
    inputs: chosen().inputs.map((input, i) => ({ ...input, text: $(`field-${i}`).value.trim() || example(input) })),
  });

  function fill() {
    const { inputs, outputs } = chosen();
    $("tensors").replaceChildren(tensorTable([["in", inputs], ["out", outputs]]));
    $("fields").replaceChildren(...inputs.map(field));
    $("output").hidden = true;
    $("form-by").textContent = "";
    drawn(call());
  }

  function field(input, i) {
    const label = Object.assign(document.createElement("label"), { className: "field", htmlFor: `field-${i}` });
    const name = label.appendChild(document.createElement("b"));
    name.textContent = input.name;
    label.append(" ", Object.assign(document.createElement("span"), { className: "soft", textContent: typeOf(input) }));
    const text = document.createElement("textarea");
    Object.assign(text, { id: `field-${i}`, rows: 2, spellcheck: false });
    if (sizeOf(input) <= FILLED) text.value = example(input);
    else text.placeholder = `left empty, ${sizeOf(input).toLocaleString("en")} zeros are sent`;
    text.addEventListener("input", () => drawn(call()));
    label.append(text);
    return label;
  }

  $("signature").addEventListener("change", fill);
  $("inputs").addEventListener("submit", async (event) => {
    event.preventDefault();
    const output = $("output");
    $("form-by").textContent = "asking …";
    try {
      const answer = await predict(served.target, predictBody(call()));
      const whole = laidOut(answer.text);
      output.textContent = whole.length > SHOWN ? `${whole.slice(0, SHOWN)}\n… ${whole.length - SHOWN} more` : whole;
      output.classList.remove("bad");
      $("form-by").textContent = `${shortName(answer.model)} · ${duration(answer.milliseconds)}`;
      answered(answer.model);
    } catch (error) {
      output.textContent = error.message;
      output.classList.add("bad");
      $("form-by").textContent = error.status ? `refused with ${error.status}` : "no answer";
    }
    output.hidden = false;
  });

  return {
    serve(next) {
      const same = served && next && JSON.stringify(served.signatures) === JSON.stringify(next.signatures);
      served = next;
      if (!next) return;
      if (same) return drawn(call());
      const names = Object.keys(next.signatures).sort((a, b) => (b === "serving_default") - (a === "serving_default"));
      $("signature").replaceChildren(...names.map((name) => new Option(name, name)));
      $("pick-signature").hidden = names.length < 2;
      fill();
    },
  };
}

function tensorTable(groups) {
  const table = document.createElement("table");
  for (const [direction, tensors] of groups) {
    for (const tensor of tensors) {
      const row = table.insertRow();
      for (const text of [direction, tensor.name, typeOf(tensor)]) row.insertCell().textContent = text;
    }
  }
  return table;
}
