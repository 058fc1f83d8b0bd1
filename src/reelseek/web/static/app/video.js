// Inside a video: the film, and its shots, words, captions and steps, each of which one can go to.
import { get, offers, post, request } from "./api.js";
import { modalities } from "./catalog.js";
import { fill, h, iconButton, toast } from "./dom.js";
import { keeping } from "./keeping.js";
import { Lines } from "./lines.js";
import { DETECTED, modalityWords, promise } from "./modalities.js";
import { thumbnail } from "./pictures.js";
import { Player } from "./player.js";
import { go, write } from "./route.js";
import { may } from "./session.js";
import { Tabs } from "./tabs.js";
import { TagField } from "./tags.js";
import { removeVideo } from "./video_list.js";
import { clock, count, size, spell, split, when } from "./words.js";

const MOST_SHOTS = 400;

/** A shot in a few words: what is said or written in it, else what is in view. @param {any[]} texts of the shot */
function shotWords(texts) {
  const line = ["speech", "ocr"].flatMap((source) =>
    texts.filter((text) => text.source === source && text.text !== DETECTED),
  )[0];
  return line
    ? line.text
    : [...new Set(texts.filter((text) => text.source !== "speech").map((text) => text.text))].slice(0, 3).join(", ");
}

/** A step as its line says it. @param {{text: string, start: number|null, confidence: number|null}} row */
const placed = ({ text, start, confidence }) =>
  start === null
    ? `${text}: nowhere`
    : (confidence ?? 1) < 0.5
      ? `${text} (unsure: unrelated words fit as well)`
      : text;

class VideoPage {
  constructor() {
    this.title = "Video";
    this.player = new Player({ onTime: (seconds) => this._follow(seconds) });
    this._tabs = new Tabs("In this video", () => this._follow(this.player.time));
    this._name = h("h1", {});
    this._folder = h("p", { class: "folder-line" });
    this._input = h("input", { type: "search", "aria-label": "Find in this video", autocomplete: "off" });
    this._peaks = h("div", { class: "row peaks", role: "status" });
    const find = h(
      "form",
      {
        class: "find",
        role: "search",
        onsubmit: (/** @type {Event} */ event) => {
          event.preventDefault();
          this._ask(this._input.value.trim());
        },
      },
      this._input,
      h("button", {}, "Find"),
    );
    this._row = h("div", { class: "row" });
    this._tags = h("div", {});
    this.root = h(
      "section",
      { class: "video-page", "aria-label": "Video" },
      h("div", { class: "video-head" }, h("div", {}, this._name, this._folder, this._tags), this._row),
      h("div", { class: "video-film" }, this.player.root, find, this._peaks),
      this._tabs.root,
    );
    this._id = "";
    this._library = "";
    /** @type {Lines[]} */
    this._lines = [];
  }

  /** @param {import("./route.js").Route} route */
  async show({ id, parameters }) {
    const name = parameters.get("library") || "",
      start = Number(parameters.get("t")) || 0,
      words = parameters.get("q") || "";
    if (id !== this._id || name !== this._library || !this.player.video.getAttribute("src")) {
      this._id = id;
      this._library = name;
      const detail = get(`/v1/videos/${encodeURIComponent(id)}`, { library: name });
      const video = await detail;
      if (id !== this._id) return;
      await this._draw(video);
      this.player.scrubber.clear();
      this.player.open(video.play, start, { poster: video.thumbnail, autoplay: parameters.has("t"), detail });
      if (video.duration) this.player.scrubber.setLength(video.duration);
      this.player.scrubber.setMarks(
        [],
        null,
        (video.shots || []).slice(1).map((/** @type {number[]} */ shot) => shot[0]),
      );
    }
    this._input.value = words;
    await this._find(words);
  }

  hide() {
    this.player.stop();
    this._id = "";
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (this.player.key(event)) return true;
    if (event.key === "s" && keeping.offered) {
      this._keep();
      return true;
    }
    return false;
  }

  /** @param {number} seconds */
  _follow(seconds) {
    for (const lines of this._lines) if (lines.root.isConnected) lines.follow(seconds);
  }

  /** @param {any} video */
  async _draw(video) {
    this._video = video;
    this.title = split(video.name)[1];
    document.title = `${this.title} · Reelseek`;
    [this._folder.textContent, this._name.textContent] = split(video.name);
    modalities(this._library).then(
      (kinds) => {
        this._input.placeholder = promise(kinds).replace("?", " here?");
      },
      () => {},
    );
    fill(
      this._row,
      keeping.offered && iconButton("keep", "Keep this second", () => this._keep()),
      (await may("write", "POST", "/v1/jobs")) && iconButton("trash", "Remove", () => this._remove(), { bare: true }),
    );
    this._writesTags = await may("write", "POST", "/v1/videos/{id}/tags");
    fill(this._tags, (this._writesTags || video.tags?.length > 0) && this._tagField(video));
    this._lines = [];
    this._tabs.set([
      this._chapters(video),
      ...this._texts(video),
      ...this._captions(video),
      ...this._taggedMoments(video),
      ...(await this._steps()),
      this._facts(video),
    ]);
  }

  /** @param {string} method @param {any} body @returns {Promise<{tags: string[], moments: any[]}>} */
  _changeTags(method, body) {
    return request(method, `/v1/videos/${this._id}/tags`, { parameters: { library: this._library }, body });
  }

  /** @param {any} video */
  _tagField(video) {
    const change = (/** @type {string} */ method) => async (/** @type {string[]} */ tags) =>
      (await this._changeTags(method, { tags })).tags;
    const writes = this._writesTags && {
      add: change("POST"),
      remove: (/** @type {string} */ tag) => change("DELETE")([tag]),
    };
    return new TagField("this video", { library: this._library, tags: video.tags || [], ...writes }).root;
  }

  /** Moments that have tags, and a field for the one that is at hand. @param {any} video */
  _taggedMoments(video) {
    if (!this._writesTags && !video.moment_tags?.length) return [];
    const list = h("div", {}),
      id = this._id;
    const draw = (/** @type {any[]} */ moments) => {
      const spans = Map.groupBy(moments, ({ start, end }) => `${start}-${end}`);
      fill(list, ...[...spans.values()].map((rows) => this._taggedMoment(rows)));
      video.moment_tags = moments;
    };
    draw(video.moment_tags || []);
    const add = async (/** @type {string[]} */ tags) => {
      const { start, end } = this._moment(),
        { moments } = await this._changeTags("POST", { tags, start, end });
      if (id === this._id) draw(moments);
      return [];
    };
    const field =
      this._writesTags &&
      h(
        "div",
        { class: "tag-moment" },
        h("p", { class: "soft" }, "Pause where it happens and name it: the tag is put on the four seconds around it."),
        new TagField("this moment", { library: this._library, tags: [], add }).root,
      );
    return [
      {
        name: "tagged",
        words: video.moment_tags?.length ? `Tagged ${video.moment_tags.length}` : "Tagged",
        content: h("div", {}, field, list),
      },
    ];
  }

  /** @param {any[]} rows the tags of one moment */
  _taggedMoment(rows) {
    const [{ start, end }] = rows,
      label = `${clock(start)}–${clock(end)}`;
    const change = (/** @type {string} */ method) => async (/** @type {string[]} */ tags) =>
      (await this._changeTags(method, { tags, start, end })).moments
        .filter((moment) => moment.start === start && moment.end === end)
        .map((moment) => moment.tag);
    const remove = this._writesTags && { remove: (/** @type {string} */ tag) => change("DELETE")([tag]) };
    return h(
      "div",
      { class: "tagged-moment" },
      h("button", { type: "button", class: "quiet", onclick: () => this._go(start) }, label),
      new TagField(`the moment ${label}`, { library: this._library, tags: rows.map(({ tag }) => tag), ...remove }).root,
    );
  }

  /** The four seconds around the one that is shown, to the millisecond as ids of moments have it. */
  _moment() {
    const start = Math.max(0, this.player.time - 1),
      end = Math.min(this._video.duration || start + 4, start + 4);
    return { start: Number(start.toFixed(3)), end: Number(end.toFixed(3)) };
  }

  /** @param {string} name @param {string} words @param {import("./lines.js").Line[]} lines @param {any} [look] */
  _lineTab(name, words, lines, look) {
    const list = new Lines(lines, (seconds) => this._go(seconds), look);
    this._lines.push(list);
    return { name, words, content: list.root };
  }

  /** @param {number} seconds */
  _go(seconds) {
    this.player.seek(seconds);
    this.player.play();
  }

  /** @param {any} video */
  _chapters(video) {
    const shots = (video.shots?.length ? video.shots : [[0, video.duration]]).slice(0, MOST_SHOTS);
    const words = (/** @type {number} */ start, /** @type {number} */ end) =>
      shotWords((video.texts || []).filter((/** @type {any} */ line) => line.start < end && line.end > start));
    const at = (/** @type {number} */ seconds) => video.thumbnail.replace(/at=[\d.]+/, `at=${seconds.toFixed(2)}`);
    const lines = shots.map(([start, end]) => ({
      start,
      end,
      text: words(start, end ?? Infinity) || `${spell((end || start) - start)}`,
      picture: video.thumbnail && at((start + (end || start)) / 2),
    }));
    return this._lineTab("chapters", `Shots ${lines.length}`, lines, {
      picture: (/** @type {string} */ source) => h("span", { class: "small-picture" }, thumbnail(source)),
    });
  }

  /** @param {any} video */
  _texts(video) {
    const modality = Object.fromEntries(
      (video.tracks || []).map((/** @type {any} */ track) => [track.expert, track.modality]),
    );
    const kind = (/** @type {any} */ line) =>
      ({ speech: "Transcript", ocr: "On screen", object: "In view", scene: "In view" })[
        modality[line.source] || line.source
      ] || "Other words";
    const kinds = Map.groupBy(video.texts || [], kind);
    return ["Transcript", "On screen", "In view", "Other words"]
      .filter((name) => kinds.has(name))
      .map((name) => this._lineTab(name.toLowerCase().replace(" ", "-"), name, kinds.get(name) || []));
  }

  /** @param {any} video */
  _captions(video) {
    return video.captions?.length
      ? [this._lineTab("captions", `Captions ${video.captions.length}`, video.captions)]
      : [];
  }

  async _steps() {
    if (!(await offers("POST", "/v1/videos/{id}/steps"))) return [];
    const text = h("textarea", { rows: "5", placeholder: "crack the eggs\nwhisk\nfry in butter" }),
      ordered = h("input", { type: "checkbox", checked: true }),
      answer = h("div", {});
    const form = h(
      "form",
      {
        class: "fields",
        onsubmit: async (/** @type {Event} */ event) => {
          event.preventDefault();
          const steps = text.value
            .split("\n")
            .map((/** @type {string} */ line) => line.trim())
            .filter(Boolean);
          if (!steps.length) {
            text.focus();
            return;
          }
          const library = this._library ? `?library=${encodeURIComponent(this._library)}` : "";
          try {
            const { data } = await post(`/v1/videos/${this._id}/steps${library}`, { steps, ordered: ordered.checked });
            const lines = new Lines(
              data.map((/** @type {any} */ row) => ({ ...row, text: placed(row) })),
              (seconds) => this._go(seconds),
            );
            this._lines.push(lines);
            fill(answer, lines.root);
          } catch (error) {
            fill(answer, h("p", { class: "refused", role: "alert" }, /** @type {Error} */ (error).message));
          }
        },
      },
      h(
        "label",
        { class: "field wide" },
        h("span", {}, "Steps of a task, one a line; each is placed where it happens"),
        text,
      ),
      h("label", { class: "line-field" }, ordered, " in this order"),
      h("button", {}, "Place them"),
    );
    return [{ name: "steps", words: "Steps", content: h("div", {}, form, answer) }];
  }

  /** @param {any} video */
  _facts(video) {
    const facts = [
      ["Length", video.duration ? spell(video.duration) : "unknown"],
      [
        "Picture",
        video.width &&
          `${video.width} × ${video.height}${video.fps ? `, ${Math.round(video.fps * 100) / 100} frames a second` : ""}`,
      ],
      ["Format", video.format],
      ["Size", video.size && size(video.size)],
      ["Taken", when(video.taken)],
      ["Split", video.split],
    ];
    const tracks = (video.tracks || []).map((/** @type {any} */ track) =>
      h(
        "li",
        {},
        h("b", {}, modalityWords(track.modality)),
        ` ${track.expert}, ${count(track.steps, "step")}${track.note ? `: ${track.note}` : ""}`,
      ),
    );
    const failures = (video.failures || []).map((/** @type {any} */ failure) =>
      h("li", {}, h("b", {}, failure.expert || "the file"), ` ${failure.reason}`),
    );
    const content = h(
      "div",
      { class: "facts-list" },
      h(
        "dl",
        { class: "pairs" },
        ...facts.filter(([, value]) => value).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
      ),
      tracks.length > 0 && [h("h2", {}, "What was extracted"), h("ul", {}, ...tracks)],
      failures.length > 0 && [h("h2", {}, "What failed"), h("ul", { class: "failures" }, ...failures)],
    );
    return { name: "about", words: "About", content };
  }

  /** @param {string} words */
  _ask(words) {
    go(
      write("video", this._id, {
        ...(this._library ? { library: this._library } : {}),
        ...(words ? { q: words } : {}),
      }),
    );
  }

  /** @param {string} words */
  async _find(words) {
    const { scrubber } = this.player,
      id = this._id;
    const cuts = (this._video.shots || []).slice(1).map((/** @type {number[]} */ shot) => shot[0]);
    scrubber.setCurve([], []);
    scrubber.setMarks([], null, cuts);
    if (!words) {
      fill(this._peaks);
      return;
    }
    const inside = await get(`/v1/videos/${id}/curve`, { q: words, library: this._library }).catch((error) => {
      fill(this._peaks, error.message);
      return null;
    });
    if (!inside || id !== this._id || words !== this._input.value.trim()) return;
    scrubber.setCurve(inside.spans, inside.values);
    scrubber.setMarks(inside.peaks, null, cuts);
    fill(
      this._peaks,
      "Nearest:",
      ...inside.peaks.map((/** @type {any} */ peak) =>
        h(
          "button",
          { type: "button", class: "quiet", onclick: () => this._go(peak.start) },
          `${clock(peak.start)}–${clock(peak.end)}`,
        ),
      ),
    );
  }

  _keep() {
    const { start, end } = this._moment();
    keeping.toggle(`${this._id}@${start.toFixed(3)}-${end.toFixed(3)}`).catch((error) => toast(error.message));
  }

  async _remove() {
    if (await removeVideo(this._video, this._library))
      go(write("search", "", this._library ? { library: this._library } : {}));
  }
}

export const create = () => new VideoPage();
