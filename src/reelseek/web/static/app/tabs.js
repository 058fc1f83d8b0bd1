// Parts of a page of which one is shown at a time.
import { fill, h } from "./dom.js";

export class Tabs {
  /** @param {string} label @param {(name: string) => void} [onChange] */
  constructor(label, onChange = () => {}) {
    this._bar = h("div", { role: "tablist", class: "tabs", "aria-label": label });
    this._panel = h("div", { role: "tabpanel", class: "tab-panel", tabindex: "0", id: "tab-panel" });
    this.root = h("div", { class: "tabbed" }, this._bar, this._panel);
    this.current = "";
    this._onChange = onChange;
    /** @type {{name: string, words: string, content: Node}[]} */
    this._tabs = [];
    this._bar.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this._key(event));
  }

  /** @param {{name: string, words: string, content: Node}[]} tabs @param {string} [current] */
  set(tabs, current = this.current) {
    this._tabs = tabs;
    this.show(tabs.some((tab) => tab.name === current) ? current : tabs[0]?.name || "");
  }

  /** @param {string} name */
  show(name) {
    const changed = name !== this.current;
    this.current = name;
    fill(
      this._bar,
      ...this._tabs.map((tab) =>
        h(
          "button",
          {
            type: "button",
            role: "tab",
            class: "tab",
            id: `tab-${tab.name}`,
            "aria-selected": String(tab.name === name),
            "aria-controls": "tab-panel",
            tabindex: tab.name === name ? "0" : "-1",
            onclick: () => {
              this.show(tab.name);
              this._focus();
            },
          },
          tab.words,
        ),
      ),
    );
    this._panel.setAttribute("aria-labelledby", `tab-${name}`);
    fill(this._panel, this._tabs.find((tab) => tab.name === name)?.content);
    if (changed) this._onChange(name);
  }

  _focus() {
    this._bar.querySelector("[aria-selected=true]")?.focus();
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    const place = this._tabs.findIndex((tab) => tab.name === this.current),
      step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const target = step
      ? (place + step + this._tabs.length) % this._tabs.length
      : { Home: 0, End: this._tabs.length - 1 }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    this.show(this._tabs[target].name);
    this._focus();
  }
}
