// Turns strokes and uploads into a model's input: height × width × channels bytes, 0 to 255, for 0..1.
//
// One channel is a character, preprocessed like the training images and by the signature from_png
// (seaway/convert/png_decoder.py): white ink on black, centred, its longer side filling all but a margin of 1/14 of
// the side (24 px of 28). Three channels are a photograph: its centre in the model's aspect ratio. An upload of exactly
// the model's size, light on dark, is used as is.
//
// A stroke is a list of [x, y], each 0..1 from the top left. An upload is {canvas, exact}, see `uploadOf`. `image`
// describes the model's input, see `imageOf`.

const PEN = 1 / 11.4; // of the side: about 2.5 px of 28, as in the training images
const SMALLEST = 0.18; // of the drawing area; smaller ink is not enlarged: a dot stays a dot
const THRESHOLD = 0.2; // of the strongest ink: between the paper's grain and a stroke's core
export const SIDE = 512; // px per side of stored uploads

// The one image that serving_default takes, or null: {name, height, width, channels, first}; `first`: channels first.
export function imageOf(signature) {
  if (signature?.inputs.length !== 1 || signature.outputs.length !== 1) return null;
  const [input] = signature.inputs, [output] = signature.outputs;
  if (input.dtype !== "float32" || input.shape?.length !== 4 || output.shape?.length !== 2) return null;
  if ((input.shape[0] ?? 1) !== 1 || output.shape[1] === 1) return null;
  const [, a, b, c] = input.shape;
  const [height, width, channels, first] = c === 1 || c === 3 ? [a, b, c, false] : [b, c, a, true];
  const fits = (side) => Number.isInteger(side) && side > 1 && side <= SIDE;
  if (!fits(height) || !fits(width) || (channels !== 1 && channels !== 3)) return null;
  return { name: input.name, height, width, channels, first };
}

function context(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  return canvas.getContext("2d", { willReadFrequently: true });
}

// Draws curves through the midpoints of a stroke's points, so that it has no corners.
function trace(to, points) {
  to.beginPath();
  to.moveTo(...points[0]);
  for (let i = 1; i < points.length - 1; i++) {
    const [x, y] = points[i], [nextX, nextY] = points[i + 1];
    to.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
  }
  const [x, y] = points.at(-1);
  to.lineTo(x + 1e-4, y); // a dot has a length too
  to.stroke();
}

function pen(to, width) {
  Object.assign(to, { lineWidth: width, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
}

// Paints what the user sees, white on black, on a square of `side` px.
export function paint(to, strokes, upload, side) {
  to.resetTransform();
  to.fillStyle = "#000";
  to.fillRect(0, 0, side, side);
  if (upload) {
    to.imageSmoothingEnabled = upload.canvas.width >= 64;
    to.drawImage(upload.canvas, 0, 0, side, side);
  }
  to.scale(side, side);
  pen(to, PEN * 0.72);
  for (const points of strokes) trace(to, points);
}

// bytes: Uint8ClampedArray [height, width, channels]
export function pixels(strokes, upload, image) {
  if (upload?.exact && !strokes.length) return upload.exact;
  const { height, width, channels } = image;
  const fineness = Math.max(1, Math.min(8, Math.floor(256 / Math.max(height, width))));
  const fine = context(width * fineness, height * fineness);
  fine.fillRect(0, 0, width * fineness, height * fineness);
  fine.imageSmoothingQuality = "high";
  if (channels === 3) {
    const whole = context(SIDE, SIDE);
    paint(whole, strokes, upload, SIDE);
    fine.drawImage(whole.canvas, 0, 0, width * fineness, height * fineness);
    return shrunk(fine, image, fineness);
  }
  if (upload) placeInk(fine, strokes, upload, image, fineness);
  else placeStrokes(fine, strokes, image, fineness);
  const bytes = shrunk(fine, image, fineness);
  return stretched(upload ? bytes : softened(bytes, height, width));
}

// px per side that ink may fill
const inner = (side) => side - 2 * Math.round(side / 14);

function placeStrokes(fine, strokes, { height, width }, fineness) {
  const points = strokes.flat();
  if (!points.length) return;
  const [left, right] = ends(points.map(([x]) => x)), [top, bottom] = ends(points.map(([, y]) => y));
  const line = PEN * Math.min(height, width);
  const scale = Math.min(
    (inner(width) - line) / Math.max(right - left, SMALLEST),
    (inner(height) - line) / Math.max(bottom - top, SMALLEST),
  );
  const x = width / 2 - ((left + right) / 2) * scale, y = height / 2 - ((top + bottom) / 2) * scale;
  fine.setTransform(scale * fineness, 0, 0, scale * fineness, x * fineness, y * fineness);
  pen(fine, line / scale);
  for (const points of strokes) trace(fine, points);
}

function ends(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

function placeInk(fine, strokes, upload, { height, width }, fineness) {
  const whole = context(SIDE, SIDE);
  paint(whole, strokes, upload, SIDE);
  const { data } = whole.getImageData(0, 0, SIDE, SIDE);
  const xs = [], ys = [];
  for (let i = 0; i < SIDE * SIDE; i++) {
    if (data[4 * i] > THRESHOLD * 255) {
      xs.push(i % SIDE);
      ys.push(Math.floor(i / SIDE));
    }
  }
  if (!xs.length) return;
  const [left, right] = ends(xs), [top, bottom] = ends(ys);
  const w = right - left + 1, h = bottom - top + 1;
  const scale = Math.min(inner(width) / w, inner(height) / h);
  const x = (width - w * scale) / 2, y = (height - h * scale) / 2;
  fine.drawImage(whole.canvas, left, top, w, h, x * fineness, y * fineness, w * scale * fineness, h * scale * fineness);
}

// Averages squares of fineness × fineness px: antialiasing.
function shrunk(fine, { height, width, channels }, fineness) {
  const { data } = fine.getImageData(0, 0, width * fineness, height * fineness);
  const sums = new Float32Array(height * width * channels);
  for (let y = 0; y < height * fineness; y++) {
    for (let x = 0; x < width * fineness; x++) {
      const from = 4 * (y * width * fineness + x);
      const to = channels * (Math.floor(y / fineness) * width + Math.floor(x / fineness));
      for (let c = 0; c < channels; c++) sums[to + c] += data[from + c];
    }
  }
  return Uint8ClampedArray.from(sums, (sum) => sum / fineness ** 2);
}

// Blurs edges like a scanner: standard deviation of half a pixel.
function softened(bytes, height, width) {
  const along = (values, step, sides, length) => values.map((value, i) => {
    const at = Math.floor(i / step) % length;
    const before = at > 0 ? values[i - step] : 0, after = at < length - 1 ? values[i + step] : 0;
    return (1 - 2 * sides) * value + sides * (before + after);
  });
  return Uint8ClampedArray.from(along(along(Float32Array.from(bytes), 1, 0.14, width), width, 0.14, height));
}

function stretched(bytes) {
  const strongest = bytes.reduce((high, value) => Math.max(high, value), 0);
  return strongest ? bytes.map((value) => (value * 255) / strongest) : bytes;
}

// Prepares a decoded image: `canvas` is what `paint` shows; `exact` are its bytes as model input, if it has the model's
// size and is light on dark.
export function uploadOf(bitmap, image) {
  const { height, width } = image;
  const cropped = image.channels === 3 ? middle(bitmap, width / height) : [0, 0, bitmap.width, bitmap.height];
  const scale = Math.min(1, SIDE / Math.max(cropped[2], cropped[3]));
  const w = Math.max(1, Math.round(cropped[2] * scale)), h = Math.max(1, Math.round(cropped[3] * scale));
  const small = context(w, h);
  small.imageSmoothingQuality = "high";
  small.drawImage(bitmap, ...cropped, 0, 0, w, h);
  const data = small.getImageData(0, 0, w, h);
  onBackground(data.data);
  if (image.channels === 3) {
    small.putImageData(data, 0, 0);
    return { canvas: small.canvas, exact: null };
  }
  const grey = Float32Array.from({ length: w * h }, (_, i) => {
    const [r, g, b] = data.data.subarray(4 * i, 4 * i + 3);
    return (299 * r + 587 * g + 114 * b) / 1000;
  });
  const asItIs = bitmap.width === width && bitmap.height === height && border(grey, w, h) <= 127.5;
  const exact = asItIs ? Uint8ClampedArray.from(grey) : null;
  const white = asItIs ? grey : inkOf(grey, w, h);
  for (let i = 0; i < w * h; i++) data.data.fill(white[i], 4 * i, 4 * i + 3);
  small.putImageData(data, 0, 0);
  return { canvas: squared(small.canvas), exact };
}

function middle(bitmap, aspect) {
  const w = Math.min(bitmap.width, bitmap.height * aspect), h = Math.min(bitmap.height, bitmap.width / aspect);
  return [(bitmap.width - w) / 2, (bitmap.height - h) / 2, w, h];
}

// Makes RGBA opaque: fills transparent parts with white, or with black behind light ink.
function onBackground(data) {
  let ink = 0, alphas = 0;
  for (let i = 0; i < data.length; i += 4) {
    ink += ((data[i] + data[i + 1] + data[i + 2]) / 3) * data[i + 3];
    alphas += data[i + 3];
  }
  const ground = alphas && ink / alphas > 127.5 ? 0 : 255;
  const opaque = alphas === 255 * (data.length / 4);
  for (let i = 0; i < data.length && !opaque; i += 4) {
    const alpha = data[i + 3] / 255;
    for (let c = 0; c < 3; c++) data[i + c] = data[i + c] * alpha + ground * (1 - alpha);
    data[i + 3] = 255;
  }
}

function border(grey, w, h) {
  let sum = 0;
  for (let x = 0; x < w; x++) sum += grey[x] + grey[(h - 1) * w + x];
  for (let y = 0; y < h; y++) sum += grey[y * w] + grey[y * w + w - 1];
  return sum / (2 * (w + h));
}

// White ink on black: inverts a light background, subtracts its grey, and scales the strongest ink to white.
function inkOf(grey, w, h) {
  const dark = border(grey, w, h) > 127.5 ? grey.map((value) => 255 - value) : grey;
  const ground = border(dark, w, h);
  return stretched(dark.map((value) => Math.max(value - ground, 0)));
}

function squared(canvas) {
  const side = Math.max(canvas.width, canvas.height);
  const square = context(side, side);
  square.fillRect(0, 0, side, side);
  square.drawImage(canvas, (side - canvas.width) / 2, (side - canvas.height) / 2);
  return square.canvas;
}

// The bytes as one example's nested lists in the model's layout: 0..1 with float32's digits.
export function nested(bytes, { height, width, channels, first }) {
  const values = Array.from({ length: 256 }, (_, byte) => Number(Math.fround(byte / 255).toPrecision(9)));
  const value = (y, x, c) => values[bytes[(y * width + x) * channels + c]];
  const list = (length, make) => Array.from({ length }, (_, i) => make(i));
  return first
    ? list(channels, (c) => list(height, (y) => list(width, (x) => value(y, x, c))))
    : list(height, (y) => list(width, (x) => list(channels, (c) => value(y, x, c))));
}

// Shows the bytes on a canvas of the model's size.
export function show(canvas, bytes, { height, width, channels }) {
  canvas.width = width;
  canvas.height = height;
  const to = canvas.getContext("2d");
  const data = to.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) data.data[4 * i + c] = bytes[i * channels + (channels === 3 ? c : 0)];
    data.data[4 * i + 3] = 255;
  }
  to.putImageData(data, 0, 0);
}
