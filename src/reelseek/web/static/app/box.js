// The box that one types into: words, filters that complete themselves, and a picture or a clip to search by.
import { by, fill, h } from "./dom.js";
import { completions } from "./filters.js";

/** @typedef {{search: (text: string) => void, upload?: (file: File) => void}} Actions */

export class Box {
  /** @param {Actions} actions */
  constructor(actions) {
    this._input = by("query");
    this._list = by("completions");
    this._actions = actions;
    /** @type {Record<string, string[]>} */
    this._values = {};
    /** @type {{text: string, label: string, explain: string}[]} */
    this._offers = [];
    this._active = -1;
    this._input.disabled = false; // until now Enter would have sent the form, and lost what was typed
    by("search").addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this._close();
      actions.search(this._input.value);
    });
    this._input.addEventListener("input", () => this._complete());
    this._input.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this._key(event));
    this._input.addEventListener("blur", () => setTimeout(() => this._close(), 150));
    this._list.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => this._pick(event));
    by("file").addEventListener("change", () => {
      const [file] = by("file").files;
      by("file").value = "";
      if (file) actions.upload?.(file);
    });
    by("by-picture").addEventListener("click", () => by("file").click());
  }

  /** What filters may name, as the library has it; it may come while somebody types. @param {Record<string, string[]>} values */
  set values(values) {
    this._values = values;
    if (document.activeElement === this._input && this._input.value) this._complete();
  }

  set text(text) {
    if (document.activeElement !== this._input || !this._input.value.trim() || text) this._input.value = text;
    this._close();
  }

  /** @param {string} words */
  set placeholder(words) {
    this._input.placeholder = words;
  }

  focus() {
    this._input.focus();
    this._input.select();
  }

  /** Let pictures and clips be chosen, dropped and pasted. */
  takeFiles() {
    by("by-picture").hidden = false;
    const take = (/** @type {DataTransfer|null} */ data) =>
      [...(data?.files || [])].find((file) => /^(image|video)\//.test(file.type));
    const shade = (/** @type {boolean} */ over) => document.body.classList.toggle("dropping", over);
    addEventListener("dragover", (event) => {
      if (event.dataTransfer?.types.includes("Files")) {
        event.preventDefault();
        shade(true);
      }
    });
    addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) shade(false);
    });
    addEventListener("drop", (event) => {
      shade(false);
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      const file = take(event.dataTransfer);
      if (file) this._actions.upload?.(file);
    });
    addEventListener("paste", (event) => {
      const file = take(event.clipboardData);
      if (file) {
        event.preventDefault();
        this._actions.upload?.(file);
      }
    });
  }

  _complete() {
    this._offers =
      this._input.selectionStart === this._input.value.length ? completions(this._input.value, this._values) : [];
    this._active = -1;
    fill(
      this._list,
      ...this._offers.map((offer, place) =>
        h(
          "li",
          { role: "option", id: `completion-${place}`, "data-place": place, "aria-selected": "false" },
          h("b", {}, offer.label),
          ` ${offer.explain}`,
        ),
      ),
    );
    this._show();
  }

  _show() {
    const open = this._offers.length > 0;
    this._list.hidden = !open;
    this._input.setAttribute("aria-expanded", String(open));
    [...this._list.children].forEach((option, place) =>
      option.setAttribute("aria-selected", String(place === this._active)),
    );
    if (this._active >= 0) this._input.setAttribute("aria-activedescendant", `completion-${this._active}`);
    else this._input.removeAttribute("aria-activedescendant");
  }

  _close() {
    this._offers = [];
    this._show();
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape" && this._offers.length) {
      event.stopPropagation();
      this._close();
      return;
    }
    if (!this._offers.length) return;
    if (step) {
      event.preventDefault();
      this._active = (this._active + step + this._offers.length) % this._offers.length;
      this._show();
    } else if (
      (event.key === "Enter" && this._active >= 0) ||
      (event.key === "Tab" && !event.shiftKey && this._active >= 0)
    ) {
      event.preventDefault();
      this._take(this._active);
    }
  }

  /** @param {PointerEvent} event */
  _pick(event) {
    const option = /** @type {HTMLElement|null} */ (/** @type {HTMLElement} */ (event.target).closest("[data-place]"));
    event.preventDefault();
    if (option) this._take(Number(option.dataset.place));
  }

  /** @param {number} place */
  _take(place) {
    this._input.value = this._offers[place].text;
    this._input.focus();
    this._complete();
  }
}
