// Lines with times that follow a film: the ones that hold now are marked and stay in view.
import { h } from "./dom.js";
import { clock } from "./words.js";

const HANDS_OFF_MS = 4000; // who scrolls is not scrolled away

/** @typedef {{start: number|null, end: number|null, text: string, picture?: string}} Line */

export class Lines {
  /** @param {Line[]} lines in order of time @param {(seconds: number) => void} seek @param {{picture?: (source: string) => Node}} [look] */
  constructor(lines, seek, { picture } = {}) {
    this._lines = lines;
    this._rows = lines.map((line) =>
      h(
        "li",
        {},
        h(
          "button",
          {
            type: "button",
            class: picture ? "line-button with-picture" : "line-button",
            disabled: line.start === null,
            onclick: () => seek(line.start || 0),
          },
          picture && line.picture ? picture(line.picture) : null,
          h("time", {}, line.start === null ? "all" : clock(line.start)),
          h("span", {}, line.text),
        ),
      ),
    );
    this.root = h("ol", { class: "lines" }, ...this._rows);
    /** @type {Set<number>} */
    this._now = new Set();
    this._byHand = 0;
    for (const name of ["wheel", "touchmove", "keydown"])
      this.root.addEventListener(
        name,
        () => {
          this._byHand = Date.now();
        },
        { passive: true },
      );
  }

  /** @param {number} seconds */
  follow(seconds) {
    const now = new Set();
    this._lines.forEach(({ start, end }, place) => {
      if (start !== null && start <= seconds && seconds < (end ?? Infinity)) now.add(place);
    });
    if (now.size === this._now.size && [...now].every((place) => this._now.has(place))) return;
    for (const place of this._now) if (!now.has(place)) this._rows[place].removeAttribute("aria-current");
    for (const place of now) this._rows[place].setAttribute("aria-current", "true");
    this._now = now;
    const [first] = now,
      panel = this.root.closest(".tab-panel");
    if (first === undefined || !panel || Date.now() - this._byHand < HANDS_OFF_MS) return;
    const row = this._rows[first].getBoundingClientRect(),
      box = panel.getBoundingClientRect();
    if (row.top < box.top || row.bottom > box.bottom) panel.scrollTop += row.top - box.top - box.height / 3;
  }
}
