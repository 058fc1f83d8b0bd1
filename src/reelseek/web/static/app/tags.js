// Tags as chips that lead to what has them, with a field to add more.
import { tags as tagNames, forgetTags } from "./catalog.js";
import { fill, h, icon, toast } from "./dom.js";
import { writeTerm } from "./filters.js";
import { write } from "./route.js";

let fields = 0;

/** A search of what has a tag. @param {string} tag @param {string} [library] */
const searchFor = (tag, library = "") =>
  write("search", "", {
    ...(library ? { library } : {}),
    filter: writeTerm({ key: "tag", value: tag, negated: false }),
  });

/** @param {string} tag @param {string} library @param {{remove?: () => void}} [more] */
function chip(tag, library, { remove } = {}) {
  return h(
    "li",
    { class: "chip tag" },
    h("a", { href: searchFor(tag, library), title: `Videos with the tag ${tag}` }, tag),
    remove &&
      h(
        "button",
        {
          type: "button",
          class: "quiet bare",
          "aria-label": `Take off the tag ${tag}`,
          title: "Take off",
          onclick: remove,
        },
        icon("close"),
      ),
  );
}

/** Tags to look at. @param {string[]} tags @param {string} [library] */
export const tagList = (tags, library = "") =>
  tags.length > 0 && h("ul", { class: "tags" }, ...tags.map((tag) => chip(tag, library)));

/** The words of a field with commas between them. @param {string} text */
const parts = (text) => [
  ...new Set(
    text
      .split(",")
      .map((part) => part.trim())
      .filter(Boolean),
  ),
];

export class TagField {
  /**
   * @param {string} label what the tags are of
   * @param {{library: string, tags: string[], add?: (tags: string[]) => Promise<string[]>, remove?: (tag: string) => Promise<string[]>}} options
   *   `add` and `remove` return the tags as they are then; without them they are looked at only
   */
  constructor(label, { library, tags, add, remove }) {
    const id = `tags-${++fields}`;
    this._library = library;
    this._remove = remove;
    this._list = h("ul", { class: "tags" });
    this._names = h("datalist", { id });
    this._input = h("input", {
      type: "text",
      list: id,
      placeholder: "Add tags",
      title: "With commas between",
      maxlength: "500",
      autocomplete: "off",
      "aria-label": `Add tags to ${label}`,
      onfocus: () => this._offer(),
      onchange: () => this._add(add),
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.key === "Enter") {
          event.preventDefault();
          this._add(add);
        }
      },
    });
    this.root = h(
      "div",
      { class: "tag-field", role: "group", "aria-label": `Tags of ${label}` },
      this._list,
      add && [this._input, this._names],
    );
    this._draw(tags);
  }

  /** @param {string[]} tags */
  _draw(tags) {
    fill(
      this._list,
      ...tags.map((tag) =>
        chip(tag, this._library, {
          remove: this._remove && (() => this._change(/** @type {any} */ (this._remove)(tag))),
        }),
      ),
    );
    this._list.hidden = !tags.length;
  }

  async _offer() {
    const names = await tagNames(this._library).catch(() => []);
    fill(this._names, ...names.map((value) => h("option", { value })));
  }

  /** @param {((tags: string[]) => Promise<string[]>)|undefined} add */
  _add(add) {
    const tags = parts(this._input.value);
    if (!tags.length || !add || this._busy) return;
    this._busy = true;
    return this._change(
      add(tags).then((now) => {
        this._input.value = "";
        return now;
      }),
    ).finally(() => {
      this._busy = false;
    });
  }

  /** @param {Promise<string[]>} changed */
  async _change(changed) {
    await changed.then(
      (tags) => {
        this._draw(tags);
        forgetTags();
        toast("Noted.");
      },
      (error) => toast(error.message),
    );
  }
}
