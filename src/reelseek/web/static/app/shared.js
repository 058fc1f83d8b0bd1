// A collection that somebody shared by a link: its moments, and nothing around them.
import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { momentCard } from "./moment_card.js";
import { Player } from "./player.js";
import { clock, count } from "./words.js";

class SharedPage {
  constructor() {
    this._player = new Player();
    this._stage = h("div", { class: "shared-stage", hidden: true }, this._player.root);
    this._title = h("p", { class: "soft" });
    this.root = h("section", { class: "page", "aria-label": "Shared collection" });
  }

  /** @param {import("./route.js").Route} route */
  async show({ id }) {
    try {
      const collection = await get(`/v1/shared/${encodeURIComponent(id)}`);
      document.title = `${collection.name} · Reelseek`;
      fill(
        this.root,
        h("h1", {}, collection.name),
        collection.note && h("p", {}, collection.note),
        h("p", { class: "soft" }, count(collection.data.length, "moment")),
        this._stage,
        this._title,
        h("ul", { class: "moments" }, ...collection.data.map((/** @type {any} */ row) => this._card(row))),
      );
    } catch (error) {
      fill(
        this.root,
        h(
          "div",
          { class: "empty" },
          h("h1", {}, "This link opens nothing"),
          h("p", {}, /** @type {Error} */ (error).message),
        ),
      );
    }
  }

  /** @param {any} row */
  _card(row) {
    return momentCard(
      row,
      { onclick: row.play ? () => this._play(row) : undefined },
      row.note && h("p", { class: "soft" }, row.note),
      row.tags.length > 0 && h("p", { class: "soft" }, row.tags.join(", ")),
    );
  }

  /** @param {any} row */
  _play(row) {
    this._stage.hidden = false;
    this._title.textContent = `${row.name} ${clock(row.start)}–${clock(row.end)}`;
    if (row.play !== this._playing) this._player.scrubber.clear();
    this._playing = row.play;
    this._player.open(row.play, 0, { poster: row.thumbnail || "" }); // the moment alone is in the file
    this._stage.scrollIntoView({ block: "nearest" });
  }
}

export const create = () => new SharedPage();
