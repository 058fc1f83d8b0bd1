// How near every second of a video is to the question, as a curve that one can seek in.
import { h } from "./dom.js";
import { clock } from "./words.js";

/** @typedef {{start: number, end: number|null}} Span */

export class Scrubber {
  /** @param {(seconds: number) => void} onSeek */
  constructor(onSeek) {
    this._canvas = h("canvas", { "aria-hidden": "true" });
    this._marks = h("div", { class: "marks", "aria-hidden": "true" });
    this._head = h("i", { class: "head", "aria-hidden": "true" });
    this._tip = h("output", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.root = h(
      "div",
      {
        class: "scrubber",
        role: "slider",
        tabindex: "0",
        "aria-label": "Place in the video",
        "aria-valuemin": "0",
        "aria-valuemax": "0",
        "aria-valuenow": "0",
      },
      this._canvas,
      this._marks,
      this._head,
      this._tip,
    );
    this.onSeek = onSeek;
    this.length = 0;
    this.time = 0;
    /** @type {number[]} */
    this._values = [];
    /** @type {number[][]} */
    this._spans = [];
    new ResizeObserver(() => this._draw()).observe(this.root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this._draw());
    window.addEventListener("theme", () => this._draw());
    this.root.addEventListener("keydown", (event) => this._key(event));
    this.root.addEventListener("pointerdown", (event) => {
      this.root.setPointerCapture(event.pointerId);
      this.onSeek(this._at(event));
    });
    this.root.addEventListener("pointermove", (event) => this._move(event));
    this.root.addEventListener("pointerleave", () => {
      this._tip.hidden = true;
    });
  }

  /** Another video: nothing is known of it yet. */
  clear() {
    this._values = [];
    this._spans = [];
    this.setLength(0);
    this.setMarks([], null);
  }

  /** @param {number} seconds */
  setLength(seconds) {
    this.length = seconds;
    this.root.setAttribute("aria-valuemax", seconds ? seconds.toFixed(1) : "0");
    this.setTime(this.time);
    this._draw();
  }

  /** @param {number[][]} spans @param {number[]} values nothing: a plain bar */
  setCurve(spans, values) {
    this._spans = spans;
    this._values = values;
    if (spans.length) this.length = Math.max(this.length, spans[spans.length - 1][1]);
    this._draw();
  }

  /** @param {Span[]} spans the best places @param {Span|null} current the moment that was opened @param {number[]} [cuts] where shots begin */
  setMarks(spans, current, cuts = []) {
    const mark = (/** @type {Span} */ span, /** @type {string} */ name) => {
      const element = h("b", { class: name });
      Object.assign(element.style, {
        left: `${this._share(span.start)}%`,
        width: `${this._share((span.end ?? this.length) - span.start)}%`,
      });
      return element;
    };
    if (!this.length) {
      this._marks.replaceChildren();
      return;
    }
    this._marks.replaceChildren(
      ...cuts.map((start) => mark({ start, end: start }, "cut")),
      ...spans.map((span) => mark(span, "peak")),
      ...(current ? [mark(current, "current")] : []),
    );
  }

  /** @param {number} seconds */
  setTime(seconds) {
    this.time = seconds;
    this._head.style.left = `${Math.min(100, this._share(seconds))}%`;
    this.root.setAttribute("aria-valuenow", seconds.toFixed(1));
    this.root.setAttribute("aria-valuetext", `${clock(seconds)} of ${clock(this.length)}`);
  }

  /** @param {number} seconds */
  _share(seconds) {
    return this.length ? (100 * seconds) / this.length : 0;
  }

  /** @param {PointerEvent} event */
  _at(event) {
    const box = this.root.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * this.length;
  }

  /** @param {PointerEvent} event */
  _move(event) {
    const seconds = this._at(event);
    this._tip.hidden = !this.length;
    this._tip.textContent = clock(seconds);
    this._tip.style.left = `${Math.min(96, Math.max(4, this._share(seconds)))}%`;
    if (event.buttons && this.root.hasPointerCapture(event.pointerId)) this.onSeek(seconds);
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    const step = {
      ArrowLeft: -1,
      ArrowDown: -1,
      ArrowRight: 1,
      ArrowUp: 1,
      PageDown: -10,
      PageUp: 10,
      Home: -this.length,
      End: this.length,
    }[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.onSeek(Math.min(this.length, Math.max(0, this.time + step)));
  }

  _draw() {
    const scale = devicePixelRatio || 1,
      { clientWidth: width, clientHeight: height } = this.root,
      pen = this._canvas.getContext("2d");
    if (!width || !pen) return;
    this._canvas.width = Math.round(width * scale);
    this._canvas.height = Math.round(height * scale);
    pen.scale(scale, scale);
    const { stroke: line, fill: area } = getComputedStyle(this._canvas);
    if (!this._values.length || !this.length) {
      pen.fillStyle = area;
      pen.fillRect(0, height - 6, width, 6);
      return;
    }
    const low = Math.min(...this._values),
      range = Math.max(...this._values) - low || 1;
    const place = (/** @type {number} */ seconds) => (width * seconds) / this.length;
    const tall = (/** @type {number} */ value) => height - 4 - ((height - 8) * (value - low)) / range;
    pen.beginPath();
    pen.moveTo(0, tall(this._values[0]));
    this._values.forEach((value, step) =>
      pen.lineTo(place((this._spans[step][0] + this._spans[step][1]) / 2), tall(value)),
    );
    pen.lineTo(width, tall(this._values[this._values.length - 1]));
    pen.strokeStyle = line;
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    pen.stroke();
    pen.lineTo(width, height);
    pen.lineTo(0, height);
    pen.closePath();
    pen.fillStyle = area;
    pen.fill();
  }
}
