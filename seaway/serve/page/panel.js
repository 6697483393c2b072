// The panel of code to copy, with a tab per protocol.

import { nested, show } from "./ink.js";
import { PROTOCOLS } from "./lines.js";

const $ = (id) => document.getElementById(id);
const DEBOUNCE_MS = 150; // not at every point of a stroke
const NAMES = Object.keys(PROTOCOLS);

let call = null, tab = NAMES[0], soon = 0;

// Shows a call: {target, signature, inputs} as for lines.js, or for an image {target, image, bytes, readsPng}, with
// `bytes` null while nothing is drawn.
export function showCall(next) {
  clearTimeout(soon);
  soon = setTimeout(() => {
    call = next.image ? imageCall(next) : next;
    $("code-note").textContent =
      !next.image ? "This code sends the values of the fields."
      : next.bytes ? "This code sends the drawing above."
      : "Draw something, and this code will send it.";
    $("own").hidden = false;
    fill();
  }, DEBOUNCE_MS);
}

function imageCall({ target, image, bytes, readsPng }) {
  const { height, width, channels, first } = image;
  const drawn = bytes ?? new Uint8ClampedArray(height * width * channels);
  const canvas = document.createElement("canvas");
  show(canvas, drawn, image);
  const input = {
    name: image.name,
    dtype: "float32",
    shape: first ? [1, channels, height, width] : [1, height, width, channels],
    text: JSON.stringify([nested(drawn, image)]),
  };
  const png = readsPng ? canvas.toDataURL("image/png").split(",")[1] : null;
  return { target, signature: "serving_default", inputs: [input], image: { ...image, bytes: drawn }, png };
}

function lines() {
  try {
    return PROTOCOLS[tab](call);
  } catch (error) {
    return { text: `# ${error.message}` };
  }
}

function fill() {
  if (!call) return;
  const { text, save } = lines();
  $("code").textContent = text;
  $("save").hidden = !save;
  $("save").textContent = save ? `Save ${save.name}` : "";
}

function select(name) {
  tab = name;
  for (const made of $("tabs").children) {
    const selected = made.textContent === name;
    made.setAttribute("aria-selected", selected);
    made.tabIndex = selected ? 0 : -1;
    if (selected) $("lines").setAttribute("aria-labelledby", made.id);
  }
  fill();
}

const button = (name) => `<button role="tab" aria-controls="lines" id="tab-${name.replace(" ", "-")}">${name}</button>`;
$("tabs").innerHTML = NAMES.map(button).join("");
$("tabs").addEventListener("click", ({ target }) => NAMES.includes(target.textContent) && select(target.textContent));
$("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  select(NAMES.at((NAMES.indexOf(tab) + step) % NAMES.length));
  $("tabs").querySelector('[aria-selected="true"]').focus();
});
select(tab);

$("copy").addEventListener("click", async () => {
  const copied = await copy($("code").textContent);
  $("copy").textContent = copied ? "Copied" : "Press Ctrl+C";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 2000);
});

// The clipboard API needs https or localhost; otherwise falls back to copying the selection.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren($("code"));
    return document.execCommand("copy");
  }
}

$("save").addEventListener("click", () => {
  const { name, body } = lines().save;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([body], { type: "application/json" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
});
