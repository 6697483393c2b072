// Draw and see: what stands on the drawing area goes to the model, its scores come back as bars.

import { drawingArea } from "./draw.js";
import { nested, pictureOf, pixels, show } from "./ink.js";
import { duration, predict, shortName } from "./server.js";

const ROWS = 8;
const $ = (id) => document.getElementById(id);

// `trouble(error)` is told what went wrong, or null once it works; `answered(identity)` which version answered;
// `drawn` what the model is being asked, as for panel.showCall.
export function classifier({ trouble, answered, drawn }) {
  let served = null; // {target, image, labels, readsPng}
  let asking = false, again = false, retry = 0, speaking = 0;
  const area = drawingArea($("canvas"), changed, (words) => { $("spoken").textContent = words; });
  const bars = barsIn($("bars"));

  function changed() {
    $("undo").disabled = $("clear").disabled = area.empty();
    $("hint").hidden = !area.empty();
    $("answer").classList.add("old"); // until the model has seen it
    $("complaint").hidden = true;
    ask();
  }

  // One request at a time; what changed meanwhile is asked when it is back, and only the newest.
  async function ask() {
    if (!served) return;
    if (asking) {
      again = true;
      return;
    }
    clearTimeout(retry);
    asking = true;
    const { target, image, labels } = served;
    const bytes = area.empty() ? null : pixels(area.strokes(), area.picture(), image);
    show($("seen"), bytes ?? new Uint8ClampedArray(image.height * image.width * image.channels), image);
    drawn({ ...served, bytes });
    try {
      if (bytes) {
        const answer = await predict(target, JSON.stringify({ instances: [nested(bytes, image)] }));
        if (served?.target === target && !area.empty()) tell(answer, labels);
        $("answer").classList.toggle("old", again);
        answered(answer.model);
      }
      trouble(null);
    } catch (error) {
      trouble(error);
      if (error.after) retry = setTimeout(ask, error.after * 1000);
    }
    if (area.empty()) forget();
    asking = false;
    if (again) {
      again = false;
      ask();
    }
  }

  function tell(answer, labels) {
    const numbers = answer.text.replace(/-?\b(NaN|Infinity)\b/g, "null"); // TensorFlow Serving's JSON has bare NaN
    const scores = JSON.parse(numbers).predictions[0].map((score) => score ?? NaN);
    const sum = scores.reduce((total, score) => total + score, 0);
    const likely = Math.abs(sum - 1) < 0.01 && scores.every((score) => score > -1e-6);
    const text = (score) => (likely ? percent(score) : String(Number(score.toPrecision(4))));
    const best = scores
      .map((score, i) => ({ label: labels[i] ?? String(i), score, text: text(score) }))
      .sort((a, b) => (Number.isNaN(b.score) ? -1 : Number.isNaN(a.score) ? 1 : b.score - a.score))
      .slice(0, ROWS);
    bars.show(best, likely ? 1 : Math.max(...best.map((row) => Math.abs(row.score) || 0)) || 1);
    $("best").textContent = best[0].label;
    $("best").classList.toggle("long", best[0].label.length > 3);
    $("sure").textContent = best[0].text;
    $("by").textContent = [shortName(answer.model), duration(answer.milliseconds)].filter(Boolean).join(" · ");
    $("scale").hidden = likely;
    clearTimeout(speaking); // spoken when the hand rests, not at every stroke's every point
    const words = best.slice(0, 3).map((row) => `${row.label} ${row.text}`).join(", ");
    speaking = setTimeout(() => { $("spoken").textContent = words; }, 700);
  }

  function forget() {
    $("answer").classList.remove("old");
    clearTimeout(speaking);
    bars.show([], 1);
    $("best").textContent = "";
    $("best").classList.remove("long");
    $("sure").textContent = "Nothing drawn yet";
    $("by").textContent = $("spoken").textContent = "";
    $("scale").hidden = true;
  }

  async function take(file) {
    if (!file || !served) return;
    const { image } = served;
    try {
      const bitmap = await createImageBitmap(file);
      area.put(pictureOf(bitmap, image));
      bitmap.close();
    } catch {
      $("complaint").textContent = `${file.name || "This"} is not a picture that this browser can read.`;
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
    event.preventDefault(); // else the browser leaves the page for the file
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
    // A version to ask from now on, or null; the drawing stays where the image is of the same kind.
    serve(next) {
      const kind = ({ height, width, channels }) => `${height}×${width}×${channels}`;
      if (served && next && kind(served.image) !== kind(next.image)) area.clear();
      served = next;
      if (!next) return clearTimeout(retry);
      $("canvas").classList.toggle("ink", next.image.channels === 1);
      $("seen-size").textContent = `model sees ${next.image.width}×${next.image.height}`;
      ask();
    },
  };
}

// 99.9% and more is not shown as certainty.
function percent(share) {
  const value = share * 100;
  return value > 99.9 && value < 100 ? "> 99.9%" : `${value.toFixed(1)}%`;
}

// Rows that glide to their new rank when the order changes.
function barsIn(parent) {
  const rows = new Map(); // label → element
  const span = (className) => Object.assign(document.createElement("span"), { className });
  const add = (element, name) => element.appendChild(span(name));

  function row(label) {
    const element = document.createElement("div");
    element.className = "bar";
    add(element, "bar-label").textContent = label;
    add(add(element, "bar-track"), "bar-fill");
    add(element, "bar-value");
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
