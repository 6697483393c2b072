// Requests and responses as text, for /docs.

const MAX_SHOWN = 20000;  // characters of a response

// Formats JSON for reading: values that fit on a line stay on it, so that an image's rows are lines.
export function layOut(value, indent = "") {
  const line = JSON.stringify(value);
  if (line.length + indent.length <= 130 || value === null || typeof value !== "object") return line;
  const inner = indent + "  ";
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const parts = Array.isArray(value)
    ? value.map((part) => layOut(part, inner))
    : Object.entries(value).map(([name, part]) => `${JSON.stringify(name)}: ${layOut(part, inner)}`);
  return `${open}\n${inner}${joined(parts, inner)}\n${indent}${close}`;
}

// Fills lines with short parts, like numbers.
function joined(parts, indent) {
  if (parts.some((part) => part.length > 24)) return parts.join(`,\n${indent}`);
  let text = "", length = 0;
  for (const [i, part] of parts.entries()) {
    const full = length + part.length > 110;
    text += i ? (full ? `,\n${indent}` : ", ") + part : part;
    length = full ? part.length : length + part.length + 2;
  }
  return text;
}

export function readHex(text) {
  const digits = text.replace(/\s+/g, "");
  if (!/^([0-9a-f]{2})*$/i.test(digits)) throw new Error("the body is not hexadecimal");
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// The same call as a shell command.
export function curl(method, url, body, isHex) {
  if (method === "get") return `curl ${quoted(url)}`;
  if (isHex) return `printf '${octal(body)}' | curl --data-binary @- ${quoted(url)} --output -`;
  return `curl -H 'Content-Type: application/json' -d ${quoted(compact(body))} ${quoted(url)}`;
}

// Bytes as octal escapes, which every shell's printf supports.
function octal(hex) {
  const pairs = hex.replace(/\s+/g, "").match(/[0-9a-f]{2}/gi) ?? [];
  return pairs.map((pair) => `\\${parseInt(pair, 16).toString(8).padStart(3, "0")}`).join("");
}

function compact(body) {
  try {
    return JSON.stringify(JSON.parse(body));
  } catch {
    return body;  // it may contain NaN, or be invalid on purpose
  }
}

function hexDump(bytes) {
  const lines = [];
  for (let at = 0; at < Math.min(bytes.length, 1024); at += 16) {
    const row = [...bytes.slice(at, at + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const seen = row.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hex.padEnd(48)} ${seen}`);
  }
  return lines.join("\n") + (bytes.length > 1024 ? `\n… ${bytes.length} bytes in total` : "");
}

// A response's body as text: formatted JSON, or a hex dump.
export function bodyOf(reply, bytes) {
  const type = reply.headers.get("content-type") ?? "";
  if (type.startsWith("application/octet-stream")) return hexDump(bytes);
  const text = new TextDecoder().decode(bytes);
  let shown = text;
  try {
    if (type.startsWith("application/json")) shown = layOut(JSON.parse(text));
  } catch {
    // NaN or Infinity, which JSON.parse does not accept: shown unformatted
  }
  return shown.length > MAX_SHOWN ? `${shown.slice(0, MAX_SHOWN)}\n… ${shown.length} characters in total` : shown;
}

export function showResponse(h, reply, body, milliseconds) {
  const names = ["content-type", "seaway-model", "x-request-id", "retry-after"];
  const headers = names.filter((name) => reply.headers.has(name)).map((name) => `${name}: ${reply.headers.get(name)}`);
  return [
    h("p", { class: "row" },
      h("span", { class: "status", "data-good": String(reply.ok) }, `${reply.status} ${reply.statusText}`),
      h("span", { class: "type" }, `${milliseconds.toFixed(1)} ms`)),
    h("pre", { tabindex: "0", "aria-label": "Headers" }, headers.join("\n")),
    h("pre", { tabindex: "0", "aria-label": "Response" }, body),
  ];
}
