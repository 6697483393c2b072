// The server's public API as this page uses it. Every failure is a Trouble.

// `status`: 0 where no answer came; `after`: seconds to wait before asking again, null where that is useless.
export class Trouble extends Error {
  constructor(message, status, after) {
    super(message);
    this.status = status;
    this.after = after;
  }
}

async function ask(path, options, milliseconds) {
  let reply, text;
  try {
    reply = await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(milliseconds) });
    text = await reply.text();
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Trouble(late ? `no answer within ${milliseconds / 1000} s` : "no connection", 0, 1);
  }
  if (reply.ok) return { text, headers: reply.headers };
  const passing = [404, 408, 429].includes(reply.status) || reply.status >= 502;
  const after = Math.min(Number(reply.headers.get("Retry-After")) || 1, 30);
  throw new Trouble(errorIn(text), reply.status, passing ? after : null);
}

function errorIn(text) {
  try {
    return String(JSON.parse(text).error);
  } catch {
    return text.slice(0, 1000);
  }
}

// What is served: {models, server, why_not_ready}, as text, so that a change is seen by comparing.
export async function about() {
  return (await ask("/page/about", {}, 5000)).text;
}

// target: {model, version} or {model, label}, or {model} alone for the default version.
export function path(target) {
  const which =
    target.version !== undefined ? `/versions/${target.version}`
    : target.label !== undefined ? `/labels/${encodeURIComponent(target.label)}`
    : "";
  return encodeURIComponent(target.model) + which;
}

// A TensorFlow Serving predict. `milliseconds` is the round trip, `model` who answered: name/version@digest.
export async function predict(target, body) {
  const began = performance.now();
  const { text, headers } = await ask(`/v1/models/${path(target)}:predict`, { method: "POST", body }, 30_000);
  return { text, milliseconds: performance.now() - began, model: decodeURIComponent(headers.get("Seaway-Model") ?? "") };
}

// name/version, without the digest
export const shortName = (identity) => identity.split("@")[0];

// "3.4 ms"; whole milliseconds from 10 on
export const duration = (milliseconds) => `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
