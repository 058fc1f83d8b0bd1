// A hit, played beside the others: the film, the curve to seek in, why it was found, and what can be done with it.
import { get } from "./api.js";
import { reasonLine, span, sureness } from "./card.js";
import { fill, h, iconButton } from "./dom.js";
import { modalityWords } from "./modalities.js";
import { Player } from "./player.js";
import { tagList } from "./tags.js";

/** @typedef {import("./results.js").Hit} Hit */
/** @typedef {{close: () => void, step: (by: number) => void, keep?: (hit: Hit) => void, more?: (hit: Hit) => void, less?: (hit: Hit) => void, sounds?: (hit: Hit) => void, link: (hit: Hit) => void, whole: (hit: Hit, seconds: number) => void}} Actions */

export class Viewer {
  /** @param {Actions} actions */
  constructor(actions) {
    this._actions = actions;
    this.player = new Player();
    this._title = h("h2", { tabindex: "-1" });
    this._facts = h("p", { class: "facts" });
    this._buttons = h("div", { class: "row" });
    this._reasons = h("ul", { class: "reasons" });
    this._tags = h("div", {});
    const head = h(
      "div",
      { class: "viewer-head" },
      this._title,
      iconButton("previous", "Previous (p)", () => actions.step(-1), { bare: true }),
      iconButton("next", "Next (n)", () => actions.step(1), { bare: true }),
      iconButton("close", "Close (Esc)", actions.close, { bare: true }),
    );
    this.root = h(
      "aside",
      { id: "viewer", "aria-label": "Moment", hidden: true },
      head,
      this.player.root,
      this._facts,
      this._tags,
      this._buttons,
      h("h3", {}, "Why it was found"),
      this._reasons,
    );
    /** @type {Hit|null} */
    this.hit = null;
    this._curve = "";
    this._aboutKey = "";
    /** @type {Promise<any>|null} */
    this._detail = null;
    this._kept = false;
    this._heard = false; // whether its video has sound to find the like of
    /** @type {import("./scrubber.js").Span[]} */
    this._peaks = [];
    /** @type {number[]} */
    this._cuts = [];
  }

  get open() {
    return !this.root.hidden;
  }

  /** @param {Hit} hit @param {import("./question.js").Question} question @param {boolean} kept */
  show(hit, question, kept) {
    const same = this.hit?.moment === hit.moment && this.open;
    this.hit = hit;
    this.root.hidden = false;
    this._title.textContent = hit.name;
    this._title.title = hit.name;
    fill(this._facts, h("span", { class: "span" }, span(hit)), sureness(hit));
    this._kept = kept;
    this._showButtons(hit, kept);
    const most = Math.max(...hit.why.map((reason) => reason.gave), 1e-9);
    fill(this._reasons, ...hit.why.map((reason) => this._reason(reason, most)));
    this.root.querySelector("h3").hidden = !hit.why.length;
    if (same) return;
    const detail = this._about(hit.video, question.library);
    this.player.open(hit.play, hit.start, { poster: hit.thumbnail, detail });
    this._showCurve(hit, question, detail);
  }

  /** What the server tells of a video; asked for once as long as its moments are looked at. @param {string} video @param {string} library */
  _about(video, library) {
    const key = `${library} ${video}`;
    if (this._aboutKey !== key) {
      this._aboutKey = key;
      this._detail = get(`/v1/videos/${video}`, { library });
      this._detail.catch(() => {
        if (this._aboutKey === key) this._aboutKey = "";
      });
    }
    return /** @type {Promise<any>} */ (this._detail);
  }

  /** @param {Hit} hit @param {boolean} kept */
  _showButtons(hit, kept) {
    const { keep, more, less, sounds, link, whole } = this._actions;
    fill(
      this._buttons,
      keep && iconButton("keep", kept ? "Kept" : "Keep", () => keep(hit), { "aria-pressed": String(kept) }),
      more && iconButton("more", "More like this", () => more(hit)),
      less && iconButton("less", "Less like this", () => less(hit)),
      sounds && this._heard && iconButton("sound", "Sounds like this", () => sounds(hit)),
      iconButton("film", "Open the video", () => whole(hit, this.player.time)),
      iconButton("link", "Copy link", () => link(hit)),
    );
  }

  /** @param {import("./results.js").Reason} reason @param {number} most */
  _reason(reason, most) {
    const bar = h("i", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${Math.max(0, Math.min(100, (100 * reason.gave) / most))}%`;
    return h(
      "li",
      { class: reason.gave > 0 ? "" : "against" },
      reasonLine(reason),
      h(
        "span",
        { class: "gave", title: reason.gave > 0 ? "What it adds to the score" : "What it takes from the score" },
        `${modalityWords(reason.modality)} ${reason.gave.toFixed(2)}`,
      ),
      bar,
    );
  }

  /** @param {Hit} hit @param {import("./question.js").Question} question @param {Promise<any>} detail */
  async _showCurve(hit, question, detail) {
    const { scrubber } = this.player,
      key = JSON.stringify([hit.video, question]),
      again = this._curve === key;
    if (!again) {
      this._heard = false;
      this._curve = key;
      this._peaks = [];
      this._cuts = [];
      scrubber.clear();
      fill(this._tags);
    }
    const mark = () => scrubber.setMarks(this._peaks, this.hit, this._cuts);
    mark();
    if (again) return;
    const words = question.words
      ? get(`/v1/videos/${hit.video}/curve`, {
          q: question.words,
          without: question.without,
          library: question.library,
          model: question.model,
        })
      : Promise.resolve(null);
    const [about, inside] = await Promise.all([detail.catch(() => null), words.catch(() => null)]);
    if (this._curve !== key) return;
    fill(this._tags, tagList(about?.tags || [], question.library));
    if (about?.duration) scrubber.setLength(about.duration);
    this._heard = (about?.tracks || []).some(
      (/** @type {any} */ track) => track.modality === "audio" && track.steps > 0,
    );
    if (this._heard && this.hit) this._showButtons(this.hit, this._kept);
    this._cuts = (about?.shots || []).slice(1).map((/** @type {number[]} */ shot) => shot[0]);
    if (inside) {
      this._peaks = inside.peaks;
      scrubber.setCurve(inside.spans, inside.values);
    }
    mark();
  }

  close() {
    this.player.stop();
    this.root.hidden = true;
    this.hit = null;
    this._aboutKey = "";
  }

  /** For people who came by the keyboard on a page where it covers all else. */
  focus() {
    this._title.focus();
  }
}
