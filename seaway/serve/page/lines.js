// Lines that call this very server when pasted: what the page asks, as curl, Python, and two other protocols.
//
// A call is {target, signature, inputs: [{name, dtype, shape, text}], image?, png?}: `text` is the tensor's JSON,
// `image` the bytes behind it and their layout, `png` the same as base64 where the model reads pictures (from_png).
// Each protocol gives {text, save?}: a body too long for a line is saved to the file `save` names.

import { path } from "./server.js";

const LONGEST = 8000; // characters of a body in a line

export const PROTOCOLS = { curl, Python: python, "Open Inference": openInference, GraphPipe: graphpipe };

// A word for the shell.
const shell = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

// A Python string; JSON's are Python's too.
const quoted = (text) => (/['\\\n]/.test(text) ? JSON.stringify(text) : `'${text}'`);

const fileName = (target, end) => `${target.model.replace(/[^\w.-]/g, "_") || "model"}.${end}`;

const url = (target) => `${location.origin}/v1/models/${path(target)}:predict`;

const named = (signature) => (signature === "serving_default" ? "" : `"signature_name": ${JSON.stringify(signature)}`);

// The body of a TensorFlow Serving predict.
export function predictBody({ signature, inputs, image, png }) {
  if (png) return `{"signature_name": "from_png", "instances": [{"b64": "${png}"}]}`;
  if (image) return `{"instances": ${inputs[0].text}}`;
  const tensors = inputs.map(({ name, text }) => `${JSON.stringify(name)}: ${text}`);
  return `{${named(signature) && `${named(signature)}, `}"inputs": {${tensors.join(", ")}}}`;
}

function curlLine(address, body, file, header = "") {
  const long = body.length > LONGEST;
  const data = long ? `--data-binary @${file}` : `-d ${shell(body)}`;
  return { text: `curl ${shell(address)} ${header}\\\n  ${data}`, save: long ? { name: file, body } : undefined };
}

function curl(call) {
  return curlLine(url(call.target), predictBody(call), fileName(call.target, "json"));
}

function python(call) {
  const ask = [
    `request = urllib.request.Request(${JSON.stringify(url(call.target))}, body)`,
    "with urllib.request.urlopen(request) as answer:",
    '    print(answer.headers["Seaway-Model"], json.load(answer))',
  ];
  if (call.png && call.png.length <= LONGEST) {
    const text = [
      "import base64, json, urllib.request",
      "",
      `png = base64.b64decode("${call.png}")  # or open("picture.png", "rb").read()`,
      'instance = {"b64": base64.b64encode(png).decode()}',
      'body = json.dumps({"signature_name": "from_png", "instances": [instance]}).encode()',
      ...ask,
    ];
    return { text: text.join("\n") };
  }
  const body = predictBody(call), file = fileName(call.target, "json"), long = body.length > LONGEST;
  const given = long ? `open(${JSON.stringify(file)}, "rb").read()` : `${quoted(body)}.encode()`;
  const text = ["import json, urllib.request", "", `body = ${given}`, ...ask].join("\n");
  return { text, save: long ? { name: file, body } : undefined };
}

// The shape of a tensor's JSON text, as its lists are nested; null where it is no JSON.
function shapeIn(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  const shape = [];
  for (; Array.isArray(value); value = value[0]) shape.push(value.length);
  return shape;
}

function openInference(call) {
  const tensors = [];
  for (const { name, dtype, text } of call.inputs) {
    const shape = shapeIn(text);
    if (!shape) return { text: `# ${name}: what stands in its field is no JSON` };
    const datatype = dtype === "str" ? "BYTES" : dtype.toUpperCase().replace("FLOAT", "FP");
    const values = dtype === "str" ? text : text.replace(/[[\]\s]/g, ""); // numbers row by row, without nesting
    const data = dtype === "str" && shape.length ? values : `[${values}]`;
    const head = `"name": ${JSON.stringify(name)}, "shape": ${JSON.stringify(shape)}, "datatype": "${datatype}"`;
    tensors.push(`{${head}, "data": ${data}}`);
  }
  const parameters = named(call.signature) && `"parameters": {${named(call.signature)}}, `;
  const body = `{${parameters}"inputs": [${tensors.join(", ")}]}`;
  const address = `${location.origin}/v2/models/${path(call.target)}/infer`;
  return curlLine(address, body, fileName(call.target, "v2.json"), "-H 'Content-Type: application/json' ");
}

// Python that makes the image as an array.
function picture({ bytes, height, width, channels, first }) {
  const shape = first ? [1, channels, height, width] : [1, height, width, channels];
  if (bytes.length > LONGEST) return [`image = np.zeros((${shape.join(", ")}), np.float32)  # your picture, 0..1`];
  const turned = first && channels > 1 ? ".transpose(0, 3, 1, 2)" : "";
  const made = first && channels > 1 ? [1, height, width, channels] : shape;
  return [
    `pixels = np.frombuffer(base64.b64decode("${btoa(String.fromCharCode(...bytes))}"), np.uint8)`,
    `image = (pixels / 255).astype(np.float32).reshape(${made.join(", ")})${turned}`,
  ];
}

function graphpipe(call) {
  const address = `${location.origin}/graphpipe/${path(call.target)}`;
  const none = call.inputs.find(({ dtype }) => dtype === "bool");
  if (none) return { text: `# ${none.name}: GraphPipe has no bool` };
  const head = ["", "import numpy as np", "from graphpipe import remote", ""];
  if (call.image) {
    const ask = `print(remote.execute(${quoted(address)}, image))`;
    return { text: ["import base64", ...head, ...picture(call.image), ask].join("\n") };
  }
  const arrays = call.inputs.map(({ name, dtype, text }) => {
    return `    ${quoted(name)}: np.array(json.loads(${quoted(text)}), "${dtype === "str" ? "S" : dtype}"),`;
  });
  const config = named(call.signature) && `, config=${quoted(`{${named(call.signature)}}`)}`;
  const ask = `print(remote.execute_multi(${quoted(address)}, list(inputs.values()), list(inputs), None${config}))`;
  return { text: ["import json", ...head, "inputs = {", ...arrays, "}", ask].join("\n") };
}
