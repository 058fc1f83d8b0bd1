// The desk of a reviewer: pairs of videos side by side, a key a verdict. It stands in the application, and alone on the
// page of `reelseek overlap review`.
import { fill, h } from "./dom.js";
import { pairCard, VERDICTS } from "./pair_card.js";
import { closePlayer, PairPlayers } from "./pair_players.js";

/** @typedef {import("./pair_card.js").Pair} Pair */
/**
 * @typedef {object} Transport
 * @property {(action: string, body?: any) => Promise<any>} ask `queue`, `pairs`, `verdicts`, `below`, `undo`, `agreement`, `leases`
 * @property {import("./pair_card.js").Strip} strip the address of frames of a side
 * @property {(side: any) => Promise<number>} offset where second 0 of a side is in its file
 */

const BATCH = 10,
  AHEAD = 6,
  AROUND = 3;
const BY_HAND_MS = 1500;
const RENEW_MS = 60_000;
const VIEWS = [
  ["queue", "To judge"],
  ["looked-at", "Looked at"],
  ["mine", "Mine"],
  ["disagreements", "Disagreements"],
];
const KEYS = [
  ["d", "duplicate"],
  ["n", "near-duplicate: same scene, other take"],
  ["x", "not"],
  ["?", "unsure"],
  ["b", "screensaver"],
  ["u", "undo"],
  ["j ↓", "next"],
  ["k ↑", "previous"],
  ["space", "play"],
  ["p", "preview"],
  ["esc", "close"],
];
const STATES = ["duplicate", "near-duplicate", "not", "unsure", "screensaver", "looked-at", "disagreement", "waiting"];

const keyLine = (/** @type {string[][]} */ keys) =>
  keys.map(([names, words]) => h("span", {}, ...names.split(" ").flatMap((name) => [h("kbd", {}, name), " "]), words));

export class ReviewDesk {
  /** @param {Transport} transport */
  constructor({ ask, strip, offset }) {
    this._transport = ask;
    this._strip = strip;
    this._players = new PairPlayers(offset);
    this.who = "";
    /** @type {Pair[]} */
    this._pairs = [];
    /** @type {Map<number, HTMLElement>} */
    this._nodes = new Map(); // place in the list -> its card
    Object.assign(this, {
      _view: "queue",
      _current: 0,
      _ended: false,
      _loading: null,
      _listTop: 0,
      _byHand: 0,
      _framed: false,
      _timer: 0,
    });
    this._build();
    const scrolled = () => this._scrolled(),
      byHand = () => {
        this._byHand = Date.now();
      },
      resized = () => {
        this._measure();
        this._render();
      };
    /** @type {[string, () => void][]} */
    this._listeners = [
      ["scroll", scrolled],
      ["wheel", byHand],
      ["touchmove", byHand],
      ["resize", resized],
    ];
  }

  _build() {
    this._about = h("span", { id: "about" });
    this._name = h("span", { id: "who" });
    this._done = h("div", { id: "done" });
    this._counts = h("p", { id: "counts", role: "status", "aria-live": "polite" });
    this._reviewers = h("p", { id: "reviewers" });
    this._message = h("p", { id: "message", role: "alert" });
    this._agreement = h("p", { id: "agreement" });
    this._list = h("div", { id: "list" });
    this._end = h("p", { id: "end", hidden: true });
    this._views = h(
      "div",
      { id: "views", role: "group", "aria-label": "Which pairs" },
      ...VIEWS.map(([view, words]) =>
        h("button", { type: "button", "data-view": view, onclick: () => this._attempt(this.show(view)) }, words),
      ),
    );
    this._screens = h("div", { class: "screens" });
    this._previewed = h("p", { id: "previewed" });
    this._preview = h(
      "dialog",
      { id: "preview", "aria-labelledby": "previewed", onclose: () => fill(this._screens) },
      this._previewed,
      this._screens,
      h(
        "p",
        { class: "hint" },
        keyLine([
          ["← →", "a second · "],
          [", .", "a frame · "],
          ["space", "play · "],
          ["esc", "close. Verdict keys work; no key leaves this pair."],
        ]),
      ),
    );
    this._bar = h(
      "div",
      { class: "review-head" },
      h("div", { id: "bar" }, h("h1", {}, "Shared footage"), this._about, this._views, this._name),
      h("div", { id: "progress" }, this._done),
      this._counts,
    );
    this.root = h(
      "div",
      { class: "review" },
      this._bar,
      this._message,
      h("div", { class: "review-notes" }, this._reviewers, this._bulk()),
      this._agreement,
      this._list,
      this._end,
      h("div", { id: "keys" }, keyLine(KEYS)),
      this._preview,
    );
  }

  /** Verdicts on all pairs that nobody looked at, below a score. */
  _bulk() {
    const below = h("input", {
      type: "number",
      step: "0.01",
      min: "-1",
      max: "1",
      required: true,
      "aria-label": "Score",
    });
    const verdict = h(
      "select",
      { "aria-label": "Verdict" },
      ...["not", "unsure", "looked-at"].map((name) => h("option", { value: name }, name)),
    );
    const form = h(
      "form",
      {
        class: "bulk",
        onsubmit: (/** @type {Event} */ event) => {
          event.preventDefault();
          this._attempt(this._judgeBelow(Number(below.value), verdict.value));
        },
      },
      "All that nobody has judged below",
      below,
      "are",
      verdict,
      h("button", {}, "Judge them"),
    );
    return h(
      "details",
      {
        ontoggle: () => {
          this._measure();
          this._render();
        },
      },
      h("summary", {}, "Judge many at once"),
      form,
    );
  }

  /** Begin to review under a name. @param {{title: string, opinions: number, counts: any, reviewers: Record<string, number>}} about @param {string} who */
  async begin(about, who) {
    this.who = who;
    this._name.textContent = who;
    this._about.textContent = about.title + (about.opinions > 1 ? ` · ${about.opinions} opinions a pair` : "");
    const judged = Object.entries(about.reviewers || {});
    this._reviewers.textContent = judged.length
      ? `Judged so far: ${judged.map(([name, pairs]) => `${name} ${pairs}`).join(", ")}`
      : "";
    this._showCounts(about.counts);
    for (const [name, listener] of this._listeners) addEventListener(name, listener, { passive: true });
    this._timer = window.setInterval(
      () =>
        this._attempt(
          this._ask("leases", {
            places: this._pairs
              .slice(-200)
              .filter((pair) => !pair.mine && !pair.asked)
              .map(({ place }) => place),
          }),
        ),
      RENEW_MS,
    );
    await this.show("queue");
  }

  /** Nobody looks at it any more. */
  end() {
    for (const [name, listener] of this._listeners) removeEventListener(name, listener);
    clearInterval(this._timer);
    if (this._preview.open) this._preview.close();
    for (const video of this.root.querySelectorAll("video")) closePlayer(video);
  }

  /** @param {string} action @param {any} [body] */
  async _ask(action, body = {}) {
    const answer = await this._transport(action, body);
    if (answer.counts) this._showCounts(answer.counts);
    return answer;
  }

  /** @param {Promise<any>} work */
  _attempt(work) {
    return work.catch((error) => {
      this._message.textContent =
        error.message === "Failed to fetch" || error.message === "The server does not answer."
          ? "The server does not answer. What it acknowledged is kept; start it again and go on."
          : error.message;
    });
  }

  /** @param {Record<string, number>} counts */
  _showCounts(counts) {
    this._done.style.width = `${counts.pairs ? (100 * counts.seen) / counts.pairs : 0}%`;
    const parts = STATES.filter((name) => counts[name]);
    this._counts.textContent = `${counts.seen} of ${counts.pairs} pairs seen${parts.length ? ": " : ""}${parts.map((name) => `${counts[name]} ${name}`).join(" · ")}`;
  }

  // The list: every card has one height, so only those near the window are in the page, however many there are.

  get _height() {
    return parseFloat(getComputedStyle(this.root).getPropertyValue("--card-height"));
  }

  /** Pixels of the window that the head of the page covers. */
  get _head() {
    return (parseFloat(getComputedStyle(this._bar).top) || 0) + this._bar.offsetHeight;
  }

  _measure() {
    this._listTop = this._list.getBoundingClientRect().top + scrollY;
  }

  _render() {
    const height = this._height;
    this._list.style.height = `${this._pairs.length * height}px`;
    const first = Math.max(0, Math.floor((scrollY + this._head - this._listTop) / height) - AROUND);
    const last = Math.min(this._pairs.length - 1, Math.ceil((scrollY + innerHeight - this._listTop) / height) + AROUND);
    for (const [place, node] of this._nodes) if (place < first || place > last) this._drop(place, node);
    for (let place = first; place <= last; place++) {
      if (!this._nodes.has(place)) {
        const node = this._card(place);
        this._nodes.set(place, node);
        this._list.append(node);
      }
      /** @type {HTMLElement} */ (this._nodes.get(place)).style.top = `${place * height}px`;
    }
    for (const [place, node] of this._nodes) node.classList.toggle("current", place === this._current);
    const node = this._nodes.get(this._current);
    if (node) this._open(node, this._pairs[this._current]);
  }

  /** @param {number} place @param {HTMLElement} node */
  _drop(place, node) {
    node.remove();
    this._nodes.delete(place);
  }

  /** @param {number} place */
  _card(place) {
    return pairCard(this._pairs[place], {
      who: this.who,
      strip: this._strip,
      preview: () => this._look(),
      say: (verdict) => {
        this._current = place;
        this._attempt(this._say(verdict));
      },
      choose: () => {
        if (this._current !== place) {
          this._current = place;
          this._render();
        }
      },
    });
  }

  /** @param {number} place */
  _redraw(place) {
    const node = this._nodes.get(place);
    if (node) {
      this._drop(place, node);
      this._render();
    }
  }

  /** Only the current pair has players. @param {HTMLElement} node @param {Pair} pair */
  _open(node, pair) {
    if (node.querySelector("video") || !(pair.test.play || pair.train.play)) return;
    for (const other of this._list.querySelectorAll("video")) closePlayer(other);
    const screens = node.querySelectorAll(".screen");
    /** @type {import("./pair_players.js").Playing[]} */
    const players = [];
    [pair.test, pair.train].forEach((side, index) => {
      if (!side.play) return;
      const video = this._players.player(side);
      video.poster = screens[index].querySelector("img")?.src || "";
      screens[index].replaceChildren(video);
      players.push([video, side]);
    });
    this._players.loop(players, pair.window);
    if (!this._preview.open) for (const [video] of players) this._players.start(video);
  }

  /** @returns {HTMLVideoElement[]} */
  get _shown() {
    return [
      ...((this._preview.open ? this._preview : this._nodes.get(this._current))?.querySelectorAll("video") || []),
    ];
  }

  /** Look at the current pair closely. */
  _look() {
    const pair = this._pairs[this._current];
    if (!pair) return;
    /** @type {import("./pair_players.js").Playing[]} */
    const players = [];
    this._shown.forEach((video) => this._players.stop(video));
    this._previewed.textContent = `${pair.test.name}  ·  ${pair.train.name}`;
    fill(
      this._screens,
      ...[pair.test, pair.train].map((side) => {
        if (!side.play) return h("p", {}, "no file at hand");
        const video = this._players.player(side);
        video.controls = true;
        players.push([video, side]);
        return h("div", { class: "frame" }, video);
      }),
    );
    this._preview.showModal();
    this._players.loop(players, pair.window);
    for (const [video] of players) this._players.start(video);
  }

  // Going on

  async _load() {
    if (this._loading || this._ended) return this._loading;
    const view = this._view,
      next = { after: this._pairs.length ? this._pairs[this._pairs.length - 1].place : -1, count: BATCH };
    this._loading = (view === "queue" ? this._ask("queue", next) : this._ask("pairs", { view, ...next }))
      .then(({ data }) => {
        if (view !== this._view) return;
        this._pairs.push(...data);
        this._ended = data.length < BATCH;
        this._end.hidden = !this._ended;
        this._end.textContent = this._pairs.length
          ? "These are all for now."
          : view === "queue"
            ? "Nothing is left to judge here."
            : "Nothing here.";
        this._measure();
        this._render();
      })
      .finally(() => {
        this._loading = null;
      });
    return this._loading;
  }

  /** @param {string} view */
  async show(view) {
    if (this._loading) await this._loading.catch(() => {});
    Object.assign(this, { _view: view, _pairs: [], _current: 0, _ended: false });
    for (const [place, node] of this._nodes) this._drop(place, node);
    this._message.textContent = this._agreement.textContent = "";
    for (const button of this._views.children)
      button.setAttribute("aria-pressed", String(button.dataset.view === view));
    scrollTo(0, 0);
    await this._load();
    if (view !== "disagreements") return;
    const { data } = await this._ask("agreement");
    this._agreement.textContent =
      data
        .map(
          (/** @type {any} */ row) =>
            `${row.one} and ${row.two}: ${row.pairs} pairs judged by both, ${Math.round(100 * row.equal)} % alike, kappa ${row.kappa.toFixed(2)}`,
        )
        .join(" · ") || "No pair was judged by two people yet.";
    this._measure();
    this._render();
  }

  /** @param {number} place */
  _go(place) {
    if (place < 0) return;
    if (place >= this._pairs.length) {
      if (!this._ended)
        this._attempt(
          this._load().then(() => {
            if (place < this._pairs.length) this._go(place);
          }),
        );
      return;
    }
    this._current = place;
    scrollTo({ top: this._listTop + place * this._height - this._head - 8, behavior: "smooth" });
    this._render();
    if (place + AHEAD > this._pairs.length) this._attempt(this._load());
  }

  /** @param {string} verdict */
  async _say(verdict) {
    const place = this._current,
      pair = this._pairs[place];
    if (!pair) return;
    this._message.textContent = "";
    pair.asked = true; // a pair that is being judged is not also logged as scrolled past
    const answer = await this._ask("verdicts", {
      places: [pair.place],
      verdict,
      settles: this._view === "disagreements",
    }).catch((error) => {
      pair.asked = false;
      throw error;
    });
    Object.assign(pair, answer.data[0]);
    this._redraw(place);
    if (this._preview.open) this._preview.close();
    if (this._current !== place) return;
    if (place + 1 < this._pairs.length || !this._ended) this._go(place + 1);
    else this._render();
  }

  async _undo() {
    const { place, verdict, card } = await this._ask("undo");
    if (place === null || place === undefined) {
      this._message.textContent = "There is nothing of yours to undo.";
      return;
    }
    const at = this._pairs.findIndex((pair) => pair.place === place),
      message = `Taken back: ${verdict} on #${place + 1}.`;
    if (at < 0) await this.show("queue");
    this._message.textContent = message;
    if (at < 0) return;
    Object.assign(this._pairs[at], card, { asked: false, seen: false }); // it is not scrolled past while one scrolls back to it
    this._redraw(at);
    this._go(at);
  }

  /** @param {number} below @param {string} verdict */
  async _judgeBelow(below, verdict) {
    const { judged, before } = await this._ask("below", { below, verdict });
    await this.show(this._view);
    this._message.textContent = `${judged} pairs below ${below} are now ${verdict}; ${before} below it had been judged before.`;
  }

  /** What is scrolled past is logged as looked at. A pair that no frame of the page ever showed is not. */
  _passed() {
    if (this._view !== "queue") return;
    const height = this._height,
      top = scrollY + this._head;
    /** @type {Pair[]} */
    const gone = [];
    for (const place of this._nodes.keys()) {
      const pair = this._pairs[place],
        end = this._listTop + (place + 1) * height - 14;
      if (end < top + 2 && pair.seen && !pair.mine && !pair.asked) {
        pair.asked = true;
        gone.push(pair);
      } else if (end > top && this._listTop + place * height + height / 2 < scrollY + innerHeight) pair.seen = true;
    }
    if (!gone.length) return;
    this._attempt(
      this._ask("verdicts", { places: gone.map(({ place }) => place), verdict: "looked-at" }).then(
        ({ data }) =>
          data.forEach((/** @type {Pair} */ row, /** @type {number} */ index) => {
            Object.assign(gone[index], row, { mine: null });
            this._redraw(this._pairs.indexOf(gone[index]));
          }),
        (error) => {
          gone.forEach((pair) => {
            pair.asked = false;
          });
          throw error;
        },
      ),
    );
  }

  _scrolled() {
    if (this._framed) return;
    this._framed = true;
    requestAnimationFrame(() => {
      this._framed = false;
      if (!this.root.isConnected) return;
      this._passed();
      if (Date.now() - this._byHand < BY_HAND_MS) {
        // by hand: the first card that is mostly there is the current one
        const top = scrollY + this._head - this._listTop;
        this._current = Math.min(this._pairs.length - 1, Math.max(0, Math.round(top / this._height)));
      }
      this._render();
      if (this._current + AHEAD > this._pairs.length) this._attempt(this._load());
    });
  }

  /** Whether a key was one of the desk's. @param {KeyboardEvent} event */
  key(event) {
    const verdict = VERDICTS.find(([key]) => key === event.key),
      inside = this._preview.open;
    const seek = { ArrowLeft: -1, ArrowRight: 1, ",": -0.04, ".": 0.04 }[event.key];
    if (verdict) this._attempt(this._say(verdict[1]));
    else if (event.key === "u" && !inside) this._attempt(this._undo());
    else if (event.key === " ") this._players.toggle(this._shown);
    else if (seek && inside)
      this._shown.forEach((video) => {
        video.pause();
        video.currentTime += seek;
      });
    else if (event.key === "p" || event.key === "Enter") {
      if (inside) this._preview.close();
      else this._look();
    } else if ((event.key === "j" || event.key === "ArrowDown") && !inside) this._go(this._current + 1);
    else if ((event.key === "k" || event.key === "ArrowUp") && !inside) this._go(this._current - 1);
    else return inside && ["ArrowDown", "ArrowUp"].includes(event.key); // nothing moves while a pair is looked at closely
    return true;
  }
}
