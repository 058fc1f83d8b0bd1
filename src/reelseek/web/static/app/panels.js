// What opens below the box: filters to fill in, weights of the kinds of evidence, and what must follow.
import { fill, h } from "./dom.js";
import { withTerm } from "./filters.js";
import { modalityWords } from "./modalities.js";

/** @typedef {import("./question.js").Question} Question */
/** @typedef {(changed: Partial<Question>) => void} Change */

const LENGTHS = ["10s", "30s", "1m", "5m", "20m", "1h"];
const HAS = ["speech", "text", "sound"];

/** @param {string} words @param {any} control @param {string} [hint] */
const field = (words, control, hint = "") =>
  h("label", { class: "field" }, h("span", {}, words), control, hint && h("small", {}, hint));

/**
 * Fields for each filter, which take what is chosen at once.
 * @param {Question} question @param {Change} change @param {Record<string, string[]>} values of keys, as the library has them
 */
export function filterPanel(question, change, values) {
  const value = (/** @type {string} */ key) =>
    question.terms.find((term) => term.key === key && !term.negated)?.value || "";
  const set = (/** @type {string} */ key, /** @type {string} */ text) => {
    const rest = question.terms.filter((term) => term.key !== key || term.negated);
    change({
      terms: text.trim() ? withTerm(rest, { key, value: text.trim().replaceAll('"', ""), negated: false }) : rest,
    });
  };
  const input = (/** @type {string} */ key, /** @type {Record<string, any>} */ more = {}) =>
    h("input", {
      type: "text",
      value: value(key),
      autocomplete: "off",
      onchange: (/** @type {any} */ event) => set(key, event.target.value),
      ...more,
    });
  const select = (/** @type {string} */ key, /** @type {string[]} */ options) => {
    const listed = [...new Set([value(key), ...options])].filter(Boolean);
    return h(
      "select",
      { onchange: (/** @type {any} */ event) => set(key, event.target.value) },
      h("option", { value: "" }, "any"),
      ...listed.map((option) => h("option", { value: option, selected: option === value(key) }, option)),
    );
  };
  const has = h(
    "fieldset",
    { class: "field" },
    h("legend", {}, "Has"),
    h(
      "div",
      { class: "row" },
      ...(values.has || HAS).map((name) => {
        const term = question.terms.find((one) => one.key === "has" && one.value === name);
        const terms = (/** @type {boolean} */ on) =>
          on
            ? withTerm(question.terms, { key: "has", value: name, negated: false })
            : question.terms.filter((one) => one !== term);
        return h(
          "label",
          { class: "toggle" },
          h("input", {
            type: "checkbox",
            checked: Boolean(term),
            onchange: (/** @type {any} */ event) => change({ terms: terms(event.target.checked) }),
          }),
          h("span", {}, name),
        );
      }),
    ),
  );
  const folders = h(
    "datalist",
    { id: "folders" },
    ...(values.folder || []).map((name) => h("option", { value: name })),
  );
  return h(
    "div",
    { class: "fields" },
    field("In folder", input("folder", { list: "folders", placeholder: "any" })),
    folders,
    field("Name holds", input("name", { placeholder: "any" })),
    field("Taken from", input("after", { type: "date" })),
    field("Taken before", input("before", { type: "date" })),
    field("Longer than", select("longer", LENGTHS)),
    field("Shorter than", select("shorter", LENGTHS)),
    (values.tag || []).length > 0 && [
      field("Tagged", input("tag", { list: "all-tags", placeholder: "any" })),
      h("datalist", { id: "all-tags" }, ...values.tag.map((name) => h("option", { value: name }))),
    ],
    (values.split || []).length > 0 && field("Split", select("split", values.split)),
    has,
  );
}

/**
 * A slider for each kind of evidence, and a box to leave it out; above them which model compares.
 * @param {Question} question @param {Change} change @param {string[]} modalities @param {string[]} models that the library is indexed by, the server's own first
 */
export function weightPanel(question, change, modalities, models) {
  const rows = modalities.map((name) => {
    const on = !question.without.includes(name),
      weight = question.weights[name] ?? 1,
      output = h("output", {}, `× ${weight}`);
    const slider = h("input", {
      type: "range",
      min: "0",
      max: "3",
      step: "0.1",
      value: String(weight),
      disabled: !on,
      "aria-label": `Weight: ${modalityWords(name)}`,
      oninput: () => {
        output.textContent = `× ${slider.value}`;
      },
      onchange: () => change({ weights: { ...question.weights, [name]: Number(slider.value) } }),
    });
    const box = h("input", {
      type: "checkbox",
      checked: on,
      onchange: () => {
        const { [name]: _, ...weights } = question.weights; // what is left out has no weight
        change({
          without: on ? [...question.without, name] : question.without.filter((other) => other !== name),
          weights,
        });
      },
    });
    return h("li", {}, h("label", {}, box, ` ${modalityWords(name)}`), slider, output);
  });
  const plain = !question.without.length && !Object.keys(question.weights).length;
  const model =
    models.length > 1 &&
    field(
      "Model",
      h(
        "select",
        { onchange: (/** @type {any} */ event) => change({ model: event.target.value, weights: {}, without: [] }) },
        ...models.map((name, place) =>
          h("option", { value: place ? name : "", selected: place ? question.model === name : !question.model }, name),
        ),
      ),
    );
  return h(
    "div",
    {},
    model,
    h("ul", { class: "weights" }, ...rows),
    h(
      "button",
      { type: "button", class: "quiet", disabled: plain, onclick: () => change({ weights: {}, without: [] }) },
      "Reset",
    ),
  );
}

/** @param {Question} question @param {Change} change */
export function thenPanel(question, change) {
  const words = h("input", {
    type: "text",
    value: question.then?.query || "",
    placeholder: "a dog jumps into water",
    autocomplete: "off",
  });
  const within = h("input", { type: "number", min: "1", max: "3600", value: String(question.then?.within || 30) });
  return h(
    "form",
    {
      class: "fields",
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        change({
          then: words.value.trim()
            ? { query: words.value.trim(), within: Math.min(3600, Math.max(1, Number(within.value) || 30)) }
            : null,
        });
      },
    },
    field("Then, in the same video", words),
    field("Within seconds", within),
    h("button", {}, "Search"),
  );
}

/** Panels of which one is open at a time, each with its button. */
export class Panels {
  constructor() {
    this.buttons = h("div", { class: "row" });
    this.root = h("div", { class: "panel", hidden: true });
    this.open = "";
    /** @type {Map<string, {button: any, build: () => any}>} */
    this._panels = new Map();
  }

  /** @param {string} name @param {any} button @param {() => any} build */
  add(name, button, build) {
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => this.toggle(name));
    this._panels.set(name, { button, build });
    this.buttons.append(button);
  }

  /** @param {string} name */
  has(name) {
    return this._panels.has(name);
  }

  /** @param {string} name "" closes what is open */
  toggle(name) {
    this.open = this.open === name ? "" : name;
    this.draw();
    if (this.open) this.root.querySelector("input, select, button")?.focus();
  }

  /** Show what is open anew; the field that the keyboard is in stays the one. */
  draw() {
    const fields = () => [...this.root.querySelectorAll("input, select, button")];
    const place = fields().indexOf(/** @type {any} */ (document.activeElement));
    for (const [name, { button }] of this._panels) button.setAttribute("aria-expanded", String(name === this.open));
    this.root.hidden = !this.open;
    fill(this.root, this.open && this._panels.get(this.open)?.build());
    if (place >= 0) fields()[place]?.focus();
  }
}
