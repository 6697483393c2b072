// The server's public API as this page uses it. Every failure is a RequestError.

// The address of the server, without a slash at its end; addresses relative to the page are below it
export const root = new URL(".", location.href).href.replace(/\/$/, "");

// `status`: 0 without a response; `retryAfter`: seconds before a retry, null if a retry is useless.
export class RequestError extends Error {
  constructor(message, status, retryAfter) {
    super(message);
    Object.assign(this, { status, retryAfter });
  }
}

async function request(path, options, milliseconds) {
  let reply, text;
  try {
    reply = await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(milliseconds) });
    text = await reply.text();
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new RequestError(late ? `no response within ${milliseconds / 1000} s` : "no connection", 0, 1);
  }
  if (reply.ok) return { text, headers: reply.headers };
  const transient = [404, 408, 429].includes(reply.status) || reply.status >= 502;
  const retryAfter = Math.min(Number(reply.headers.get("Retry-After")) || 1, 30);
  throw new RequestError(errorIn(text), reply.status, transient ? retryAfter : null);
}

function errorIn(text) {
  try {
    return String(JSON.parse(text).error);
  } catch {
    return text.slice(0, 1000);
  }
}

// The served models: {models, server, why_not_ready}, as text, so that changes are detected by comparison.
export async function about() {
  return (await request("page/about", {}, 5000)).text;
}

// target: {model, version} or {model, label}, or {model} alone for the default version.
export function path(target) {
  const which =
    target.version !== undefined ? `/versions/${target.version}`
    : target.label !== undefined ? `/labels/${encodeURIComponent(target.label)}`
    : "";
  return encodeURIComponent(target.model) + which;
}

// A TensorFlow Serving predict. `milliseconds` is the round trip, `model` the version that responded: name/version@digest.
export async function predict(target, body) {
  const began = performance.now();
  const { text, headers } = await request(`v1/models/${path(target)}:predict`, { method: "POST", body }, 30_000);
  return { text, milliseconds: performance.now() - began, model: decodeURIComponent(headers.get("Seaway-Model") ?? "") };
}

// name/version, without the digest
export const shortName = (identity) => identity.split("@")[0];

// "3.4 ms"; whole milliseconds from 10 on
export const duration = (milliseconds) => `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
