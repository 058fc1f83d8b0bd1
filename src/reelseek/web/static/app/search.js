// The search: what is asked stands in the address; the hits, the one that plays, and what can be done with each.
import { get, offers, request, Unreachable } from "./api.js";
import { card } from "./card.js";
import { edition, library, modalities, searchableModels, tags } from "./catalog.js";
import { chips, readMoment } from "./chips.js";
import { by, fill, h, iconButton, toast } from "./dom.js";
import { readTerms, withTerm, writeTerms } from "./filters.js";
import { Grid } from "./grid.js";
import { keeping } from "./keeping.js";
import { promise } from "./modalities.js";
import { filterPanel, Panels, thenPanel, weightPanel } from "./panels.js";
import { blank, fromAddress, isBlank, toAddress } from "./question.js";
import { forgetResults, resultsOf } from "./results.js";
import { go, read, write } from "./route.js";
import { may } from "./session.js";
import { showStart } from "./start.js";
import { Viewer } from "./viewer.js";
import { count } from "./words.js";

/** @typedef {import("./results.js").Hit} Hit */
/** @typedef {import("./question.js").Question} Question */

const SLOW_MS = 2500;
const LIBRARY_CHANGED = "The library changed while you were looking, so these are not all hits that there are now.";
const NARROW = matchMedia("(max-width: 899px)");

export class SearchView {
  /** @param {{box: import("./box.js").Box, canSearchBy: Set<string>}} application */
  constructor({ box, canSearchBy }) {
    this._box = box;
    this._can = canSearchBy;
    this._question = blank();
    /** @type {string|null} */
    this._key = null; // the question that is shown
    this._showing = 0; // counts what was asked to be shown, so that the last of it wins
    this._fitted = ""; // to which library and model the box and the panels are
    this._results = resultsOf(this._question);
    /** @type {string[]} */
    this._modalities = [];
    /** @type {string[]} */
    this._models = [];
    /** @type {Record<string, string[]>} */
    this._values = {};
    this._chips = h("ul", { class: "chips", "aria-label": "What narrows the search" });
    this._status = h("p", { class: "status", role: "status", "aria-live": "polite" });
    this._trouble = h("div", { class: "trouble", role: "alert", hidden: true });
    this._start = h("div", { class: "start" });
    this._changed = h(
      "div",
      { class: "trouble", hidden: true },
      h("p", {}, LIBRARY_CHANGED),
      iconButton("retry", "Search again", () => this.ask(this._question)),
    );
    this._panels = new Panels();
    this._grid = new Grid({
      label: "Hits",
      card: (/** @type {Hit} */ hit, /** @type {number} */ place) => this._card(hit, place),
      nearEnd: () => this._load(),
    });
    this._viewer = new Viewer({
      close: () => this.closeViewer(),
      step: (by_) => this._step(by_),
      more: this._can.has("like") ? (hit) => this._like(hit) : undefined,
      less: this._can.has("unlike") ? (hit) => this._unlike(hit) : undefined,
      keep: keeping.offered ? (hit) => this._keep(hit) : undefined,
      sounds: this._can.has("moment") ? (hit) => this._sounds(hit) : undefined,
      link: () => this._copyLink(),
      whole: (hit, seconds) => this._whole(hit, seconds),
    });
    const hits = h("div", { class: "hits" }, this._status, this._trouble, this._start, this._grid.list, this._changed);
    this.root = h(
      "section",
      { class: "search", "aria-label": "Search" },
      h("h1", { class: "unseen" }, "Search"),
      h("div", { class: "tools" }, this._chips, this._panels.buttons),
      this._panels.root,
      h("div", { class: "stage" }, hits, this._viewer.root),
    );
    this._addPanels();
    keeping.addEventListener("change", () => this._keptChanged());
    window.addEventListener("tags", () => this._useTags());
    NARROW.addEventListener("change", () => this._cover());
  }

  _addPanels() {
    const change = (/** @type {Partial<Question>} */ changed) => this.ask({ ...this._question, ...changed });
    if (this._can.has("filter"))
      this._panels.add("filters", iconButton("filter", "Filters", null), () =>
        filterPanel(this._question, change, this._values),
      );
    this._panels.add("weights", iconButton("sliders", "Weights", null), () =>
      weightPanel(this._question, change, this._modalities, this._models),
    );
    if (this._can.has("then"))
      this._panels.add("then", iconButton("then", "Then", null), () => thenPanel(this._question, change));
    this._group = iconButton("film", "Best per video", () =>
      change({ group: this._question.group === "video" ? "moment" : "video" }),
    );
    this._panels.buttons.append(this._group);
  }

  /** Search for something else. @param {Question} question */
  ask(question) {
    const hash = write("search", "", toAddress(question));
    if (hash !== location.hash) {
      go(hash);
      return;
    }
    forgetResults(); // asked again: of the library as it is now
    this._key = null;
    this.show(read());
  }

  /** What was typed: its filters become chips. @param {string} text */
  askWords(text) {
    const { words, terms } = readTerms(text);
    this.ask({ ...this._question, words, terms: terms.reduce(withTerm, this._question.terms) });
  }

  /** Show what the address says. @param {import("./route.js").Route} route */
  async show(route) {
    const question = fromAddress(route.parameters),
      at = route.parameters.get("at") || "";
    const key = toAddress(question).toString();
    if (key !== this._key) {
      this._results.scroll = scrollY;
      this._key = key;
      this._question = question;
      this._results = resultsOf(question);
      this._box.text = question.words;
      this._drawQuestion();
      this._grid.show(this._results.hits, this._results.ended || !this._results.hits.length);
      scrollTo({ top: this._results.scroll });
      if (isBlank(question)) this._showStart();
      else {
        fill(this._start);
        if (!this._results.hits.length) this._load();
        else this._drawStatus();
      }
    } else this._grid.layout();
    await this._showMoment(at);
  }

  /** To the box, from wherever one is. */
  focusBox() {
    this._box.focus();
  }

  hide() {
    this._results.scroll = scrollY;
    this._viewer.player.stop();
    this._key = null;
    if (this._viewer.open) this._viewer.close();
    this._cover();
  }

  _drawQuestion() {
    const change = (/** @type {Partial<Question>} */ changed) => this.ask({ ...this._question, ...changed });
    fill(this._chips, ...chips(this._question, change));
    this._chips.hidden = !this._chips.children.length;
    this._group.setAttribute("aria-pressed", String(this._question.group === "video"));
    this._panels.draw();
    document.title = this._question.words ? `${this._question.words} · Reelseek` : "Reelseek";
  }

  /** Fit the box and the panels to a library and a model. @param {string} name "" where there is one only @param {string} model "" is the server's own */
  async useLibrary(name, model) {
    const fitted = JSON.stringify([name, model, edition()]);
    if (fitted === this._fitted) return;
    this._fitted = fitted;
    this._library = name;
    const detail = await library(name).catch(() => null);
    if (fitted !== this._fitted) return;
    this._values = { has: ["speech", "text", "sound"], split: Object.keys(detail?.splits || {}).filter(Boolean) };
    this._box.values = this._values;
    const [perceived, models] = await Promise.all([
      modalities(name, model).catch(() => []),
      searchableModels(name).catch(() => []),
      this._useTags(),
    ]);
    if (fitted !== this._fitted) return;
    this._models = models;
    this._modalities = [...perceived, "name", ...(detail?.captions ? ["captions"] : [])];
    this._box.placeholder = promise(perceived);
    if (this._panels.open && !this._panels.root.querySelector("input[type=text]:focus, input[type=number]:focus"))
      this._panels.draw(); // what is being typed stays
  }

  async _useTags() {
    const name = this._library || "",
      listed = await tags(name).catch(() => []);
    if (name !== (this._library || "")) return;
    this._values = { ...this._values, tag: listed };
    this._box.values = this._values;
  }

  async _showStart() {
    this._grid.show([], true);
    this._drawStatus();
    const key = this._key;
    await showStart(this._start, this._question.library, writeTerms(this._question.terms), {
      search: (query) => this.ask({ ...this._question, words: query }),
      open: (video) => go(write("video", video.id, this._question.library ? { library: this._question.library } : {})),
      add: (await may("write", "POST", "/v1/jobs")) ? () => go(write("library")) : undefined,
      current: () => this._key === key && isBlank(this._question),
    }).catch((error) => this._showTrouble(error, () => this._showStart()));
  }

  async _load() {
    const results = this._results,
      slow = setTimeout(() => {
        if (results === this._results && results.loading)
          this._status.textContent = "Still searching: what is asked for the first time takes longer.";
      }, SLOW_MS);
    const first = !results.hits.length;
    if (isBlank(this._question) || results.loading) {
      clearTimeout(slow);
      return;
    }
    if (first) {
      this._status.textContent = "Searching…";
      this._trouble.hidden = true;
      this._grid.list.classList.add("waiting");
    }
    const begin = performance.now();
    await results.more();
    clearTimeout(slow);
    if (results !== this._results) return;
    this._grid.list.classList.remove("waiting");
    if (first) results.seconds = (performance.now() - begin) / 1000;
    this._grid.show(results.hits, results.ended || results.failure !== null); // what failed is tried again by hand
    this._drawStatus();
  }

  _drawStatus() {
    const { hits, failure, ended, clips, unread, notes, seconds, changed } = this._results;
    this._trouble.hidden = true;
    this._changed.hidden = !changed;
    if (failure) {
      this._status.textContent = "";
      this._showTrouble(failure, () => this._load());
      return;
    }
    if (isBlank(this._question)) {
      this._status.textContent = "";
      return;
    }
    const parts = hits.length
      ? [
          `${ended && !changed ? count(hits.length, "hit") : "The best"} of ${count(clips, "clip")}${seconds ? ` in ${seconds.toFixed(1)} s` : ""}`,
        ]
      : ["Nothing fits. Take filters away; quoted words must occur in speech or on screen, so try without quotes."];
    if (unread) parts.push(`Not understood, and looked for letter by letter only: ${unread}`);
    this._status.textContent = [...parts, ...notes, changed && LIBRARY_CHANGED].filter(Boolean).join(" · ");
  }

  /** @param {Error} error @param {() => void} retry */
  _showTrouble(error, retry) {
    const gone = error instanceof Unreachable;
    this._trouble.hidden = false;
    fill(
      this._trouble,
      h(
        "p",
        {},
        gone ? "The server does not answer. It may have been stopped, or the network is down." : error.message,
      ),
      iconButton("retry", "Try again", () => {
        this._trouble.hidden = true;
        retry();
      }),
    );
  }

  // Cards and what is done with them

  /** @param {Hit} hit @param {number} place */
  _card(hit, place) {
    const { moment } = hit;
    return card(hit, {
      open: () => this._open(place),
      keep: keeping.offered ? () => this._keep(hit) : undefined,
      more: this._can.has("like") ? () => this._like(hit) : undefined,
      less: this._can.has("unlike") ? () => this._unlike(hit) : undefined,
      kept: Boolean(keeping.find(moment)),
      current: this._viewer.hit?.moment === moment && this._viewer.open,
    });
  }

  /** @param {number} place */
  _open(place) {
    const hit = this._results.hits[place];
    if (!hit) return;
    if (this._viewer.open && this._viewer.hit?.moment === hit.moment) {
      this._viewer.player.toggle();
      return;
    }
    const parameters = toAddress(this._question);
    parameters.set("at", hit.moment);
    go(write("search", "", parameters), { replace: this._viewer.open });
  }

  closeViewer() {
    if (!this._viewer.open) return;
    const place = this._places.get(this._viewer.hit?.moment || "");
    go(write("search", "", toAddress(this._question)), { replace: true });
    if (place !== undefined) this._grid.focus(place);
  }

  get _places() {
    return new Map(this._results.hits.map((hit, place) => [hit.moment, place]));
  }

  /** @param {string} id of a moment; "" shows none */
  async _showMoment(id) {
    const mine = ++this._showing;
    const before = this._viewer.hit && this._viewer.open ? this._places.get(this._viewer.hit.moment) : undefined;
    if (!id) {
      if (this._viewer.open) this._viewer.close();
    } else {
      if (this._results.loading) await this._results.more();
      const hit = this._results.hits.find((one) => one.moment === id) || (await this._unlisted(id));
      if (!hit || mine !== this._showing) return; // one has gone on meanwhile
      const opening = !this._viewer.open;
      this._viewer.show(hit, this._question, Boolean(keeping.find(hit.moment)));
      if (opening && NARROW.matches) this._viewer.focus();
    }
    this._cover();
    this._grid.layout();
    for (const place of [before, this._places.get(id)]) if (place !== undefined) this._grid.refresh(place);
    const place = this._places.get(id);
    if (place !== undefined && !NARROW.matches) this._grid.focus(place, { focus: this._grid.focused !== null });
  }

  /** A moment that a link names and the hits so far do not hold. @param {string} id @returns {Promise<Hit|null>} */
  async _unlisted(id) {
    const moment = readMoment(id);
    const video =
      moment &&
      (await get(`/v1/videos/${moment.video}`, { library: this._question.library }).catch((error) => {
        toast(error.message);
        return null;
      }));
    if (!moment || !video) return null;
    return {
      ...moment,
      moment: id,
      name: video.name,
      score: 0,
      confidence: null,
      strength: null,
      rank: 0,
      thumbnail: video.thumbnail,
      strip: null,
      play: video.play,
      why: [],
    };
  }

  /** Where the film covers all else, all else is out of reach. */
  _cover() {
    const covered = this._viewer.open && NARROW.matches;
    document.body.classList.toggle("covered", covered);
    for (const element of [
      by("top"),
      this.root.querySelector(".tools"),
      this.root.querySelector(".hits"),
      this._panels.root,
    ])
      element.inert = covered;
    this.root.classList.toggle("viewing", this._viewer.open);
  }

  /** @param {number} by_ */
  _step(by_) {
    const place = this._viewer.hit ? this._places.get(this._viewer.hit.moment) : undefined;
    if (place !== undefined) this._open(place + by_);
  }

  /** @param {Hit} hit */
  _keep(hit) {
    keeping.toggle(hit.moment).catch((error) => toast(error.message));
  }

  _keptChanged() {
    this._grid.list.querySelectorAll("[data-place]").forEach((node) => this._grid.refresh(Number(node.dataset.place)));
    const { hit } = this._viewer;
    if (hit && this._viewer.open) this._viewer.show(hit, this._question, Boolean(keeping.find(hit.moment)));
  }

  /** @param {Hit} hit */
  _like(hit) {
    if (this._can.has("like"))
      this.ask({
        ...this._question,
        like: [...new Set([...this._question.like, hit.moment])],
        unlike: this._question.unlike.filter((id) => id !== hit.moment),
      });
  }

  /** @param {Hit} hit */
  _unlike(hit) {
    if (this._can.has("unlike"))
      this.ask({
        ...this._question,
        unlike: [...new Set([...this._question.unlike, hit.moment])],
        like: this._question.like.filter((id) => id !== hit.moment),
      });
  }

  /** @param {Hit} hit */
  _sounds(hit) {
    this.ask({ ...blank(this._question.library), terms: this._question.terms, moment: `${hit.moment}:audio` });
  }

  /** @param {Hit} hit @param {number} seconds */
  _whole(hit, seconds) {
    go(
      write("video", hit.video, {
        ...(this._question.library ? { library: this._question.library } : {}),
        ...(this._question.words ? { q: this._question.words } : {}),
        t: seconds.toFixed(1),
      }),
    );
  }

  _copyLink() {
    navigator.clipboard.writeText(location.href).then(
      () => toast("The link is copied; it opens this search and this moment."),
      () => toast(location.href),
    );
  }

  /** Search by a picture or a clip. @param {File} file */
  async upload(file) {
    const clip = file.type.startsWith("video/");
    this._status.textContent = `Reading ${file.name}…`;
    try {
      const { id, kind } = await request("POST", "/v1/uploads", { body: file, type: file.type });
      const video = kind ? kind !== "image" : clip;
      this.ask({ ...this._question, image: video ? "" : id, clip: video ? id : "", label: file.name.slice(0, 80) });
    } catch (error) {
      this._status.textContent = "";
      this._showTrouble(/** @type {Error} */ (error), () => this.upload(file));
    }
  }

  /** Whether a key was one of the search's. @param {KeyboardEvent} event */
  key(event) {
    const focused = this._grid.focused,
      playing = this._viewer.open ? this._viewer.hit : null;
    const hit = focused !== null && !NARROW.matches ? this._results.hits[focused] : playing;
    if (playing && this._viewer.player.key(event)) return true;
    const panel = { f: "filters", w: "weights", e: "then" }[event.key];
    if (event.key === "Escape") {
      if (this._viewer.open) this.closeViewer();
      else if (this._panels.open) this._panels.toggle("");
      else return false;
    } else if (panel && this._panels.has(panel)) this._panels.toggle(panel);
    else if (event.key === "n" || event.key === "p") this._step(event.key === "n" ? 1 : -1);
    else if (!hit) return false;
    else if (event.key === "s" && keeping.offered) this._keep(hit);
    else if (event.key === "m") this._like(hit);
    else if (event.key === "x") this._unlike(hit);
    else if (event.key === "a" && this._can.has("moment")) this._sounds(hit);
    else if (event.key === "v") this._whole(hit, playing?.moment === hit.moment ? this._viewer.player.time : hit.start);
    else return false;
    return true;
  }
}

/** By what this server searches besides words. */
export async function searchedBy() {
  const can = new Set(["filter", "like", "unlike", "then", "moment"]);
  if (await offers("POST", "/v1/uploads")) can.add("uploads");
  return can;
}
