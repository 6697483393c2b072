// The drawing area: turns mouse, pen, finger and keyboard input into strokes, with undo, over an optional upload.

import { paint } from "./ink.js";

const STEP = 1 / 28; // of the side, per arrow key; four steps with Shift
const clamp = (value) => Math.min(1, Math.max(0, value));
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// Calls changed() whenever the drawing changes, and say(words) to announce what the pen does.
export function drawingArea(canvas, changed, say) {
  let marks = []; // strokes are lists of points, uploads are objects; an upload covers everything before it
  let pointer = null, awaited = false;
  const pen = { x: 0.5, y: 0.5, down: false, shown: false };
  const held = new Set();

  const upload = () => marks.findLast((mark) => !Array.isArray(mark)) ?? null;
  const strokes = () => marks.slice(marks.findLastIndex((mark) => !Array.isArray(mark)) + 1);

  function paintSoon() {
    if (awaited) return;
    awaited = true;
    requestAnimationFrame(() => {
      awaited = false;
      const side = canvas.width, to = canvas.getContext("2d");
      paint(to, strokes(), upload(), side);
      if (pen.shown) ring(to, side);
    });
  }

  function ring(to, side) {
    to.resetTransform();
    to.beginPath();
    to.arc(pen.x * side, pen.y * side, side / 26, 0, 7);
    Object.assign(to, { lineWidth: side / 130, strokeStyle: "#888", fillStyle: "#8888" });
    to.stroke();
    if (pen.down) to.fill();
  }

  function change() {
    paintSoon();
    changed();
  }

  function point(event) {
    const box = canvas.getBoundingClientRect();
    return [clamp((event.clientX - box.left) / box.width), clamp((event.clientY - box.top) / box.height)];
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (pointer !== null || event.button !== 0) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true, focusVisible: false });
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer);
    pen.shown = pen.down = false;
    marks.push([point(event)]);
    change();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    const all = event.getCoalescedEvents?.() ?? [];
    marks.at(-1).push(...(all.length ? all : [event]).map(point));
    change();
  });
  for (const type of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(type, (event) => {
      if (event.pointerId === pointer) pointer = null;
    });
  }

  function lift() {
    if (pen.down) say("pen up");
    pen.down = false;
  }

  function move() {
    const far = held.has("Shift") ? 4 : 1;
    for (const key of held) {
      const [x, y] = ARROWS[key] ?? [0, 0];
      pen.x = clamp(pen.x + x * far * STEP);
      pen.y = clamp(pen.y + y * far * STEP);
    }
    if (!pen.down) return;
    marks.at(-1).push([pen.x, pen.y]);
    change();
  }

  function press() {
    if (pen.down) return lift();
    pen.down = true;
    marks.push([[pen.x, pen.y]]);
    say("pen down");
    change();
  }

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || pointer !== null) return;
    held[event.shiftKey ? "add" : "delete"]("Shift");
    const key = event.key;
    if (key in ARROWS) held.add(key);
    const action =
      key in ARROWS ? move
      : key === " " || key === "Enter" ? press
      : key === "Escape" ? lift
      : key === "Delete" ? clear
      : key === "Backspace" ? undo
      : null;
    if (!action || (event.repeat && action === press)) return;
    event.preventDefault();
    pen.shown = true;
    action();
    paintSoon();
  });
  canvas.addEventListener("keyup", (event) => held.delete(event.key));
  canvas.addEventListener("focus", () => {
    pen.shown = canvas.matches(":focus-visible");
    paintSoon();
  });
  canvas.addEventListener("blur", () => {
    held.clear();
    lift();
    pen.shown = false;
    paintSoon();
  });
  document.addEventListener("keydown", (event) => {
    const writing = event.target.closest?.("input, textarea, select");
    if (writing || canvas.offsetParent === null || !(event.ctrlKey || event.metaKey) || event.key !== "z") return;
    event.preventDefault();
    undo();
  });

  function undo() {
    lift();
    if (marks.pop()) change();
  }

  function clear() {
    lift();
    marks = [];
    change();
  }

  new ResizeObserver(() => {
    canvas.width = canvas.height = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
    paintSoon();
  }).observe(canvas);

  return {
    undo,
    clear,
    strokes,
    upload,
    empty: () => marks.length === 0,
    put(shown) {
      lift();
      marks.push(shown);
      change();
    },
  };
}
