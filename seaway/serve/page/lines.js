// Code that makes the page's call to this server: Python, and three protocols in a shell.
//
// A call is {target, signature, inputs: [{name, dtype, shape, text}], image?, png?}: `text` is the tensor's JSON,
// `image` its bytes and their layout, `png` the same as base64 if the model has from_png. Each protocol returns
// {text, save?}: a body too long for the command line goes to the file that `save` names. An Error names the input
// that cannot be sent.

import { numbersIn } from "./scores.js";
import { path, root } from "./server.js";

const MAX_INLINE = 8000; // characters of a body in the code

export const PROTOCOLS = { curl, Python: python, "Open Inference": openInference, GraphPipe: graphpipe };

// Quotes a word for the shell.
const shell = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

// Quotes a Python string; JSON strings are valid Python.
const quoted = (text) => (/['\\\n]/.test(text) ? JSON.stringify(text) : `'${text}'`);

const fileName = (target, end) => `${target.model.replace(/[^\w.-]/g, "_") || "model"}.${end}`;

const url = (target) => `${root}/v1/models/${path(target)}:predict`;

const named = (signature) => (signature === "serving_default" ? "" : `"signature_name": ${JSON.stringify(signature)}`);

function parsed({ name, text }) {
  try {
    return numbersIn(text);
  } catch (error) {
    throw new Error(`${name}: ${error.message}`);
  }
}

// The body of a TensorFlow Serving predict.
export function predictBody({ signature, inputs, image, png }) {
  if (png) return `{"signature_name": "from_png", "instances": [{"b64": "${png}"}]}`;
  if (image) return `{"instances": ${inputs[0].text}}`;
  inputs.forEach(parsed);
  const tensors = inputs.map(({ name, text }) => `${JSON.stringify(name)}: ${text}`);
  return `{${named(signature) && `${named(signature)}, `}"inputs": {${tensors.join(", ")}}}`;
}

const savedAs = (name, body) => (body.length > MAX_INLINE ? { name, body } : undefined);

function curlLine(address, body, file, header = "") {
  const save = savedAs(file, body);
  const data = save ? `--data-binary @${file}` : `-d ${shell(body)}`;
  return { text: `curl ${shell(address)} ${header}\\\n  ${data}`, save };
}

function curl(call) {
  return curlLine(url(call.target), predictBody(call), fileName(call.target, "json"));
}

function python(call) {
  const body = predictBody(call), save = savedAs(fileName(call.target, "json"), body);
  const text = [
    "import json, urllib.request",
    "",
    `body = ${save ? `open(${JSON.stringify(save.name)}, "rb").read()` : `${quoted(body)}.encode()`}`,
    `request = urllib.request.Request(${JSON.stringify(url(call.target))}, body)`,
    "with urllib.request.urlopen(request) as response:",
    '    print(response.headers["Seaway-Model"], json.load(response))',
  ];
  return { text: text.join("\n"), save };
}

function openInference(call) {
  const tensors = [];
  for (const input of call.inputs) {
    const { name, dtype, text } = input, shape = [];
    for (let value = parsed(input); Array.isArray(value); value = value[0]) shape.push(value.length);
    const datatype = dtype === "str" ? "BYTES" : dtype.toUpperCase().replace("FLOAT", "FP");
    const values = dtype === "str" ? text : text.replace(/[[\]\s]/g, ""); // flattened, row-major
    const data = dtype === "str" && shape.length ? values : `[${values}]`;
    const head = `"name": ${JSON.stringify(name)}, "shape": ${JSON.stringify(shape)}, "datatype": "${datatype}"`;
    tensors.push(`{${head}, "data": ${data}}`);
  }
  const parameters = named(call.signature) && `"parameters": {${named(call.signature)}}, `;
  const body = `{${parameters}"inputs": [${tensors.join(", ")}]}`;
  const address = `${root}/v2/models/${path(call.target)}/infer`;
  return curlLine(address, body, fileName(call.target, "v2.json"), "-H 'Content-Type: application/json' ");
}

// Python code that creates the image as an array.
function imageArray({ image: { bytes, height, width, channels, first }, inputs: [{ shape }] }) {
  if (bytes.length > MAX_INLINE) return [`image = np.zeros((${shape.join(", ")}), np.float32)  # your image, 0..1`];
  const transpose = first ? ".transpose(0, 3, 1, 2)" : "";
  return [
    `pixels = np.frombuffer(base64.b64decode("${btoa(String.fromCharCode(...bytes))}"), np.uint8)`,
    `image = (pixels / 255).astype(np.float32).reshape(1, ${height}, ${width}, ${channels})${transpose}`,
  ];
}

// Installs the client, without its requirements of 2018, and runs the Python code.
function graphpipeShell(code) {
  const install = [
    "python3 -m venv client && client/bin/pip install -q --no-deps graphpipe",
    "client/bin/pip install -q flatbuffers numpy requests",
  ];
  return { text: [...install, "client/bin/python <<'END'", ...code, "END"].join("\n") };
}

function graphpipe(call) {
  const address = `${root}/graphpipe/${path(call.target)}`;
  const none = call.inputs.find(({ dtype }) => dtype === "bool");
  if (none) throw new Error(`${none.name}: GraphPipe has no bool`);
  const head = ["", "import numpy as np", "from graphpipe import remote", ""];
  if (call.image) {
    const send = `print(remote.execute(${quoted(address)}, image))`;
    return graphpipeShell(["import base64", ...head, ...imageArray(call), send]);
  }
  call.inputs.forEach(parsed);
  const arrays = call.inputs.map(({ name, dtype, text }) => {
    return `    ${quoted(name)}: np.array(json.loads(${quoted(text)}), "${dtype === "str" ? "S" : dtype}"),`;
  });
  const config = named(call.signature) && `, config=${quoted(`{${named(call.signature)}}`)}`;
  const send = `print(remote.execute_multi(${quoted(address)}, list(inputs.values()), list(inputs), None${config}))`;
  return graphpipeShell(["import json", ...head, "inputs = {", ...arrays, "}", send]);
}
