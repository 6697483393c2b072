// The panel of lines to copy: a tab for each protocol.

import { nested, show } from "./ink.js";
import { PROTOCOLS } from "./lines.js";

const $ = (id) => document.getElementById(id);
const SETTLED = 150; // milliseconds: not at every point of a stroke

let call = null, tab = Object.keys(PROTOCOLS)[0], soon = 0;

// What is being asked: {target, signature, inputs} as for lines.js, or of an image {target, image, bytes, readsPng};
// `bytes` is null while nothing is drawn.
export function showCall(next) {
  clearTimeout(soon);
  soon = setTimeout(() => {
    call = next.image ? imageCall(next) : next;
    $("code-note").textContent =
      !next.image ? "They carry what stands in the fields."
      : next.bytes ? "They carry what is drawn above."
      : "Draw something, and these lines carry it.";
    $("own").hidden = false;
    fill();
  }, SETTLED);
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

const lines = () => PROTOCOLS[tab](call);

function fill() {
  if (!call) return;
  const { text, save } = lines();
  $("code").textContent = text;
  $("save").hidden = !save;
  $("save").textContent = save ? `Save ${save.name}` : "";
}

function button(name) {
  const made = document.createElement("button");
  Object.assign(made, { type: "button", textContent: name, id: `tab-${name.replace(" ", "-")}` });
  made.setAttribute("role", "tab");
  made.setAttribute("aria-controls", "lines");
  made.addEventListener("click", () => select(name));
  return made;
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

$("tabs").replaceChildren(...Object.keys(PROTOCOLS).map(button));
$("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const names = Object.keys(PROTOCOLS);
  select(names[(names.indexOf(tab) + step + names.length) % names.length]);
  $("tabs").querySelector('[aria-selected="true"]').focus();
});
select(tab);

$("copy").addEventListener("click", async () => {
  const copied = await copy($("code").textContent);
  $("copy").textContent = copied ? "Copied" : "Press Ctrl+C";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 2000);
});

// The clipboard belongs to pages of https and of this machine; elsewhere the selection is copied the old way.
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
