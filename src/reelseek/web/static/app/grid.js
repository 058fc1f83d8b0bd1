// A list of any length as a grid of which only the rows near the window are in the page.
import { h } from "./dom.js";

const AROUND = 2; // rows that are ready above and below the window
const NEAR_END = 4; // rows before the end at which more is asked for

/** @template Item */
export class Grid {
  /**
   * @param {{label: string, card: (item: Item, place: number) => HTMLElement, nearEnd?: () => void}} options `card` makes an `li` whose
   *   first button is what the keyboard moves between
   */
  constructor({ label, card, nearEnd = () => {} }) {
    this.list = h("ul", { class: "grid", "aria-label": label });
    /** @type {Item[]} */
    this.items = [];
    this.ended = true;
    /** @type {Map<number, HTMLElement>} */
    this._nodes = new Map();
    this._card = card;
    this._nearEnd = nearEnd;
    this._current = 0;
    this._columns = 1;
    this._row = this._width = this._height = this._gap = 0; // pixels
    this._placeAll = false;
    this._frame = 0;
    this._ready = () => {
      if (!this._frame)
        this._frame = requestAnimationFrame(() => {
          this._frame = 0;
          this._render();
        });
    };
    new ResizeObserver(() => this.layout()).observe(this.list);
    window.addEventListener("scroll", this._ready, { passive: true });
    this.list.addEventListener("keydown", (event) => this._key(event));
    this.list.addEventListener("focusin", (event) => this._focused(event));
  }

  /** Show items; those that stand where they stood keep their cards. @param {Item[]} items @param {boolean} ended no more will come */
  show(items, ended) {
    for (const [place, node] of this._nodes)
      if (items[place] !== this.items[place]) {
        node.remove();
        this._nodes.delete(place);
      }
    this.items = [...items];
    this.ended = ended;
    this._current = Math.min(this._current, Math.max(0, items.length - 1));
    this.layout();
  }

  /** Make a card anew, because what it says has changed. @param {number} place */
  refresh(place) {
    const node = this._nodes.get(place);
    if (!node) return;
    const focused = node.contains(document.activeElement);
    node.remove();
    this._nodes.delete(place);
    this._render();
    if (focused) this.focus(place);
  }

  /** Measure anew: the width decides how many columns there are. */
  layout() {
    const style = getComputedStyle(this.list),
      width = this.list.clientWidth;
    if (!width) return;
    const number = (/** @type {string} */ name) => parseFloat(style.getPropertyValue(name));
    const least = number("--card-least"),
      words = number("--card-words"),
      gap = number("--card-gap"),
      rows = number("--card-row");
    this._columns = Math.max(1, Math.floor((width + gap) / (least + gap)));
    this._width = (width - gap * (this._columns - 1)) / this._columns;
    this._height = rows || (this._width * 9) / 16 + words; // narrow pages have rows of one height instead of cards
    this._row = this._height + gap;
    this._gap = gap;
    this._placeAll = true;
    this._render();
  }

  get _rows() {
    return Math.ceil(this.items.length / this._columns);
  }

  _render() {
    if (!this._row || !this.list.isConnected) return;
    this.list.style.height = `${Math.max(0, this._rows * this._row - this._gap)}px`;
    const top = -this.list.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / this._row) - AROUND),
      last = Math.min(this._rows - 1, Math.floor((top + innerHeight) / this._row) + AROUND);
    const begin = first * this._columns,
      end = Math.min(this.items.length, (last + 1) * this._columns);
    for (const [place, node] of this._nodes) {
      if ((place < begin || place >= end) && !node.contains(document.activeElement)) {
        node.remove();
        this._nodes.delete(place);
      } // who is on a card stays on it
    }
    for (let place = begin; place < end; place++) if (!this._nodes.has(place)) this._insert(place);
    if (this._placeAll) for (const [place, node] of this._nodes) this._put(node, place);
    this._placeAll = false;
    if (!this.ended && last >= this._rows - NEAR_END) this._nearEnd();
  }

  /** @param {number} place */
  _insert(place) {
    const node = this._card(this.items[place], place);
    node.dataset.place = String(place);
    node.setAttribute("aria-setsize", String(this.ended ? this.items.length : -1));
    node.setAttribute("aria-posinset", String(place + 1));
    this._button(node).tabIndex = place === this._current ? 0 : -1;
    this._put(node, place);
    const after = [...this._nodes.keys()].filter((other) => other > place).sort((one, two) => one - two)[0];
    this.list.insertBefore(node, after === undefined ? null : this._nodes.get(after)); // the order in which screen readers go
    this._nodes.set(place, node);
  }

  /** @param {HTMLElement} node @param {number} place */
  _put(node, place) {
    const column = place % this._columns,
      row = Math.floor(place / this._columns);
    node.style.width = `${this._width}px`;
    node.style.height = `${this._height}px`;
    node.style.transform = `translate(${column * (this._width + this._gap)}px, ${row * this._row}px)`;
  }

  /** @param {HTMLElement} node @returns {HTMLElement} */
  _button(node) {
    return /** @type {HTMLElement} */ (node.querySelector("button, a"));
  }

  /** The card under the keyboard's focus, or null. @returns {number|null} */
  get focused() {
    const node = /** @type {HTMLElement|null} */ (document.activeElement?.closest?.("[data-place]"));
    return node && this.list.contains(node) ? Number(node.dataset.place) : null;
  }

  /** Bring a card into the window, and the keyboard to it. @param {number} place @param {{focus?: boolean}} [options] */
  focus(place, { focus = true } = {}) {
    if (place < 0 || place >= this.items.length) return;
    const head = /** @type {HTMLElement} */ (document.querySelector("header")).offsetHeight + 8;
    const top = this.list.getBoundingClientRect().top + scrollY + Math.floor(place / this._columns) * this._row;
    if (top - head < scrollY) scrollTo({ top: top - head });
    else if (top + this._row > scrollY + innerHeight) scrollTo({ top: top + this._row - innerHeight });
    this._setCurrent(place);
    this._render();
    if (focus) this._button(/** @type {HTMLElement} */ (this._nodes.get(place))).focus({ preventScroll: true });
  }

  /** @param {number} place */
  _setCurrent(place) {
    const before = this._nodes.get(this._current),
      now = this._nodes.get(place);
    if (before) this._button(before).tabIndex = -1;
    if (now) this._button(now).tabIndex = 0;
    this._current = place;
  }

  /** @param {Event} event */
  _focused(event) {
    const node = /** @type {HTMLElement} */ (event.target).closest("[data-place]");
    if (node) this._setCurrent(Number(/** @type {HTMLElement} */ (node).dataset.place));
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    const place = this.focused;
    if (place === null || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const screenful = Math.max(1, Math.floor(innerHeight / this._row) - 1) * this._columns,
      last = this.items.length - 1;
    const target = {
      ArrowLeft: place - 1,
      ArrowRight: place + 1,
      ArrowUp: place - this._columns,
      ArrowDown: place + this._columns,
      PageUp: Math.max(place % this._columns, place - screenful),
      PageDown: Math.min(last, place + screenful),
      Home: 0,
      End: last,
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    this.focus(event.key === "ArrowDown" ? Math.min(target, Math.max(place, last)) : target);
  }
}
