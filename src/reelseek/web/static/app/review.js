// Shared footage: the scans of the libraries, and the desk at which their pairs are judged.
import { address, get, post, request } from "./api.js";
import { library, usualLibrary } from "./catalog.js";
import { fill, h, icon, toast } from "./dom.js";
import { startJob } from "./jobs.js";
import { ReviewDesk } from "./review_desk.js";
import { go, write } from "./route.js";
import { may } from "./session.js";
import { count, when } from "./words.js";

class ReviewPage {
  constructor() {
    this.title = "Shared footage";
    this.root = h("section", { class: "page review-page", "aria-label": "Shared footage" });
    /** @type {ReviewDesk|null} */
    this._desk = null;
    this._id = "";
    addEventListener("pagehide", () => this._leave());
  }

  /** @param {import("./route.js").Route} route */
  async show({ id }) {
    this.hide();
    this._id = id;
    if (id) await this._open(id);
    else await this._list();
  }

  hide() {
    this._desk?.end();
    this._leave();
    this._desk = null;
    this._id = "";
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    return !(/** @type {HTMLElement} */ (event.target).matches("summary, .bulk *")) && Boolean(this._desk?.key(event));
  }

  /** Let others have the pairs that were leased here. */
  _leave() {
    if (this._desk) navigator.sendBeacon(address(`/v1/reviews/${this._id}/leave`));
  }

  async _list() {
    document.title = `${this.title} · Reelseek`;
    const { data } = await get("/v1/reviews"),
      form = (await may("write", "POST", "/v1/jobs")) && (await this._scanForm());
    const writes = await may("write", "PATCH", "/v1/reviews/{id}");
    if (this._id) return; // somebody has opened a scan meanwhile
    const several = new Set(data.map((/** @type {any} */ row) => row.library)).size > 1;
    const rows = data.map((/** @type {any} */ row) => {
      const { pairs, seen } = row.counts,
        judged = Object.entries(row.reviewers)
          .map(([name, number]) => `${name} ${number}`)
          .join(", ");
      return h(
        "li",
        {},
        h(
          "div",
          { class: "grow" },
          h("p", {}, h("a", { href: write("review", row.id) }, row.title)),
          h(
            "p",
            { class: "soft" },
            [count(pairs, "pair"), several ? row.library : "", when(row.time), judged && `judged by ${judged}`]
              .filter(Boolean)
              .join(" · "),
          ),
        ),
        writes && this._opinions(row),
        h(
          "div",
          { class: "seen" },
          h("progress", { max: pairs || 1, value: seen, "aria-label": `Seen of ${row.title}` }),
          `${seen} seen`,
        ),
      );
    });
    fill(
      this.root,
      h("h1", {}, this.title),
      h(
        "p",
        { class: "soft" },
        "Videos that two splits may share, side by side. People judge which are the same; exports leave those out.",
      ),
      rows.length
        ? h("ul", { class: "rows" }, ...rows)
        : h("div", { class: "empty" }, h("p", {}, "No two splits were compared yet.")),
      form,
    );
  }

  /** How many people judge each pair. @param {any} row */
  _opinions(row) {
    const input = h("input", {
      type: "number",
      min: "1",
      max: "20",
      value: String(row.opinions),
      "aria-label": `Opinions on each pair of ${row.title}`,
    });
    input.addEventListener("change", () => {
      if (input.reportValidity())
        request("PATCH", `/v1/reviews/${encodeURIComponent(row.id)}`, { body: { opinions: Number(input.value) } }).then(
          () => toast("Noted."),
          (error) => toast(error.message),
        );
    });
    return h("label", { class: "seen" }, input, "opinions a pair");
  }

  /** What begins a scan. */
  async _scanForm() {
    const name = await usualLibrary(),
      splits = Object.keys((await library(name))?.splits || {}).filter(Boolean);
    if (!splits.length)
      return h(
        "p",
        { class: "soft" },
        "The library has no splits that could be compared; a table of captions gives them.",
      );
    const select = (/** @type {number} */ place) =>
      h(
        "select",
        {},
        ...splits.map((split, index) =>
          h("option", { value: split, selected: index === Math.min(place, splits.length - 1) }, split),
        ),
      );
    const test = select(0),
      train = select(1);
    const scan = async (/** @type {Event} */ event) => {
      event.preventDefault();
      await startJob({
        kind: "scan",
        ...(name ? { library: name } : {}),
        arguments: { test: test.value, train: train.value },
      }).catch((error) => toast(error.message));
    };
    return [
      h("h2", {}, "Compare splits"),
      h(
        "form",
        { class: "fields", onsubmit: scan },
        h("label", { class: "field" }, h("span", {}, "Split"), test),
        h("label", { class: "field" }, h("span", {}, "with"), train),
        h("button", {}, "Look for shared footage"),
      ),
    ];
  }

  /** @param {string} id */
  async _open(id) {
    const path = `/v1/reviews/${encodeURIComponent(id)}`,
      about = await get(path);
    if (id !== this._id) return;
    /** @type {Map<string, Promise<number>>} */
    const offsets = new Map();
    const desk = new ReviewDesk({
      ask: (action, body) =>
        action === "pairs" || action === "agreement" ? get(`${path}/${action}`, body) : post(`${path}/${action}`, body),
      strip: (side, start, seconds, frames, height) =>
        address(side.strip, { start, end: start + seconds, frames, height }),
      offset: (side) => {
        if (!offsets.has(side.video))
          offsets.set(
            side.video,
            get(`/v1/videos/${side.video}`, { library: about.library }).then((video) => video.start_offset),
          );
        return /** @type {Promise<number>} */ (offsets.get(side.video));
      },
    });
    document.title = `${about.title} · Reelseek`;
    fill(this.root, desk.root);
    desk.root.querySelector("#bar")?.prepend(
      h(
        "a",
        {
          class: "quiet bare",
          href: write("review"),
          "aria-label": "All scans",
          title: "All scans",
          onclick: (/** @type {Event} */ event) => {
            event.preventDefault();
            go(write("review"));
          },
        },
        icon("previous"),
      ),
    );
    this._desk = desk;
    await desk.begin(about, about.who);
  }
}

export const create = () => new ReviewPage();
