// The drawing area: mouse, pen, finger and keyboard into strokes, with undo, over a picture or none.

import { paint } from "./ink.js";

const STEP = 1 / 28; // of the side, for an arrow key; four of them with Shift
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// Calls changed() whenever what is drawn has changed. `say` tells a person what the pen does, in words.
export function drawingArea(canvas, changed, say) {
  let marks = []; // a stroke is a list of points, a picture an object; a picture covers what was before it
  let pointer = null, awaited = false;
  const pen = { x: 0.5, y: 0.5, down: false, shown: false, stroke: null };
  const held = new Set();

  const picture = () => marks.findLast((mark) => !Array.isArray(mark)) ?? null;
  const strokes = () => marks.slice(marks.findLastIndex((mark) => !Array.isArray(mark)) + 1);

  function paintSoon() {
    if (awaited) return;
    awaited = true;
    requestAnimationFrame(() => {
      awaited = false;
      const side = canvas.width, to = canvas.getContext("2d");
      paint(to, strokes(), picture(), side);
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
    const within = (value) => Math.min(1, Math.max(0, value));
    return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (pointer !== null || event.button !== 0) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true, focusVisible: false });
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer);
    Object.assign(pen, { shown: false, down: false, stroke: null });
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
    Object.assign(pen, { down: false, stroke: null });
  }

  function move() {
    const far = held.has("Shift") ? 4 : 1;
    for (const key of held) {
      const [x, y] = ARROWS[key] ?? [0, 0];
      pen.x = Math.min(1, Math.max(0, pen.x + x * far * STEP));
      pen.y = Math.min(1, Math.max(0, pen.y + y * far * STEP));
    }
    if (!pen.down) return paintSoon();
    pen.stroke.push([pen.x, pen.y]);
    change();
  }

  function press() {
    if (pen.down) {
      lift();
      return paintSoon();
    }
    Object.assign(pen, { down: true, stroke: [[pen.x, pen.y]] });
    marks.push(pen.stroke);
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
    picture,
    empty: () => marks.length === 0,
    put(shown) {
      lift();
      marks.push(shown);
      change();
    },
  };
}
