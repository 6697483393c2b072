// Sends the drawing to the model, and shows its scores as bars.

import { drawingArea } from "./draw.js";
import { nested, uploadOf, pixels, show } from "./ink.js";
import { numbersIn, rank } from "./scores.js";
import { duration, predict, shortName } from "./server.js";

const ROWS = 8;
const $ = (id) => document.getElementById(id);

// Callbacks: `onError(error)`, with null once requests succeed; `onResponse(identity)` with the version that responded;
// `onCall` with the current call, as for panel.showCall.
export function classifier({ onError, onResponse, onCall }) {
  let served = null; // {target, image, labels, readsPng}
  let inFlight = false, changedSince = false, retry = 0, speaking = 0;
  const area = drawingArea($("canvas"), changed, (words) => { $("spoken").textContent = words; });
  const bars = barsIn($("bars"));

  function changed() {
    $("undo").disabled = $("clear").disabled = area.empty();
    $("hint").hidden = !area.empty();
    $("answer").classList.add("old"); // until the model's response arrives
    $("complaint").hidden = true;
    send();
  }

  // One request at a time, then the newest drawing.
  async function send() {
    if (!served) return;
    if (inFlight) {
      changedSince = true;
      return;
    }
    clearTimeout(retry);
    inFlight = true;
    const { target, image, labels } = served;
    const bytes = area.empty() ? null : pixels(area.strokes(), area.upload(), image);
    show($("seen"), bytes ?? new Uint8ClampedArray(image.height * image.width * image.channels), image);
    onCall({ ...served, bytes });
    try {
      if (bytes) {
        const reply = await predict(target, JSON.stringify({ instances: [nested(bytes, image)] }));
        if (served?.target === target && !area.empty()) showScores(reply, labels);
        $("answer").classList.toggle("old", changedSince);
        onResponse(reply.model);
      }
      onError(null);
    } catch (error) {
      onError(error);
      if (error.retryAfter) retry = setTimeout(send, error.retryAfter * 1000);
    }
    if (area.empty()) showNothing();
    inFlight = false;
    if (changedSince) {
      changedSince = false;
      send();
    }
  }

  function showScores(reply, labels) {
    const { likely, ranking } = rank(numbersIn(reply.text).predictions[0], labels);
    const best = ranking.slice(0, ROWS);
    bars.show(best, likely ? 1 : Math.max(...best.map((row) => Math.abs(row.score) || 0)) || 1);
    $("best").textContent = best[0].label;
    $("best").classList.toggle("long", best[0].label.length > 3);
    $("sure").textContent = best[0].text;
    $("by").textContent = [shortName(reply.model), duration(reply.milliseconds)].filter(Boolean).join(" · ");
    $("scale").hidden = likely;
    clearTimeout(speaking); // announced when the hand rests, not at every point
    const words = best.slice(0, 3).map((row) => `${row.label} ${row.text}`).join(", ");
    speaking = setTimeout(() => { $("spoken").textContent = words; }, 700);
  }

  function showNothing() {
    $("answer").classList.remove("old");
    clearTimeout(speaking);
    bars.show([], 1);
    $("best").textContent = "";
    $("sure").textContent = "Nothing drawn yet";
    $("by").textContent = $("spoken").textContent = "";
    $("scale").hidden = true;
  }

  async function take(file) {
    if (!file || !served) return;
    const { image } = served;
    try {
      const bitmap = await createImageBitmap(file);
      area.put(uploadOf(bitmap, image));
      bitmap.close();
    } catch {
      $("complaint").textContent = `${file.name || "This"} is not an image that this browser can read.`;
      $("complaint").hidden = false;
    }
  }

  $("undo").addEventListener("click", area.undo);
  $("clear").addEventListener("click", area.clear);
  $("file").addEventListener("change", () => {
    take($("file").files[0]);
    $("file").value = "";
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (!file || !served) return;
    event.preventDefault();
    take(file);
  });
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault(); // or the browser would open the file in place of the page
    $("paper").classList.toggle("over", served !== null);
  });
  for (const type of ["dragleave", "drop"]) {
    document.addEventListener(type, () => $("paper").classList.remove("over"));
  }
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  });

  return {
    // Sets the version to call, or null; the drawing stays if the input has the same size.
    serve(next) {
      const kind = ({ height, width, channels }) => `${height}×${width}×${channels}`;
      if (served && next && kind(served.image) !== kind(next.image)) area.clear();
      served = next;
      if (!next) return clearTimeout(retry);
      $("canvas").classList.toggle("ink", next.image.channels === 1);
      $("seen-size").textContent = `model sees ${next.image.width}×${next.image.height}`;
      send();
    },
  };
}

// Rows that move to their new rank when the order changes.
function barsIn(parent) {
  const rows = new Map(); // label → element
  const span = (name, inner = "") => `<span class="bar-${name}">${inner}</span>`;

  function row(label) {
    const element = document.createElement("div");
    element.className = "bar";
    element.innerHTML = span("label") + span("track", span("fill")) + span("value");
    element.firstChild.textContent = label;
    parent.append(element);
    rows.set(label, element);
    return element;
  }

  return {
    show(best, full) {
      const longest = Math.max(2, ...best.map(({ label }) => label.length));
      parent.style.setProperty("--label", `clamp(2rem, ${longest}ch, 38%)`);
      const kept = new Set(best.map(({ label }) => label));
      for (const [label, element] of rows) {
        if (kept.has(label)) continue;
        element.remove();
        rows.delete(label);
      }
      best.forEach(({ label, score, text }, rank) => {
        const element = rows.get(label) ?? row(label);
        element.style.setProperty("--rank", rank);
        element.classList.toggle("first", rank === 0);
        element.querySelector(".bar-fill").style.setProperty("--share", Math.max(0, score / full) || 0);
        element.querySelector(".bar-value").textContent = text;
      });
    },
  };
}
