// Jobs: what runs, what waits and what became of the rest; each with its log, to cancel or to run again.
import { get, post } from "./api.js";
import { forgetLibraries } from "./catalog.js";
import { fill, h, iconButton, toast } from "./dom.js";
import { followJob, isOver } from "./job_feed.js";
import { jobResult } from "./job_result.js";
import { forgetResults } from "./results.js";
import { go, write } from "./route.js";
import { may } from "./session.js";
import { count, size, spell, when } from "./words.js";

const AGAIN_MS = 4000;
const MOST_LINES = 400;
const KINDS = {
  add: "Add videos",
  remove: "Remove",
  index: "Index",
  scan: "Look for shared footage",
  caption: "Describe videos",
  train: "Train a model",
  evaluate: "Evaluate",
};
const STATES = { queued: "waits", running: "runs", succeeded: "done", failed: "failed", cancelled: "cancelled" };

/** What a job works on, in a line. @param {any} job */
function subject(job) {
  const {
    paths,
    videos,
    watched,
    files,
    name,
    model,
    expert,
    retry_failed: again,
    test,
    train,
    split,
  } = job.arguments || {};
  if (paths?.length) return paths.join(", ");
  if (watched?.length) return `${count(files, "new file")} in ${watched.join(", ")}`;
  if (again) return "what failed before";
  if (videos?.length) return count(videos.length, "video");
  return [expert, name, test && train ? `${test} and ${train}` : "", split, model].filter(Boolean).join(", ");
}

/** A bar with what it counts and how long it will take. @param {any} progress @param {string} state */
export function progressBar(progress, state) {
  if (state === "queued") return h("p", { class: "soft" }, "Another job on this library runs first.");
  if (!progress)
    return h("div", { class: "job-progress" }, h("progress", { "aria-label": "Progress" }), h("p", {}, "Starting…"));
  const { done, total, unit, text, seconds_left: left } = progress;
  const amount =
    unit === "bytes"
      ? `${size(done)} of ${size(total)}`
      : `${done.toLocaleString("en")} of ${count(total, unit.replace(/s$/, ""), unit)}`;
  const words = [text, total ? amount : "", left !== null && left !== undefined ? `${spell(left)} left` : ""]
    .filter(Boolean)
    .join(" · ");
  return h(
    "div",
    { class: "job-progress" },
    h("progress", total ? { max: total, value: done, "aria-label": "Progress" } : { "aria-label": "Progress" }),
    h("p", {}, words),
  );
}

class JobsPage {
  constructor() {
    this.title = "Jobs";
    this._list = h("ul", { class: "jobs" });
    this._status = h("p", { class: "status", role: "status" });
    this._more = h(
      "button",
      { type: "button", class: "quiet", hidden: true, onclick: () => this._loadMore() },
      "Earlier jobs",
    );
    this.root = h(
      "section",
      { class: "page", "aria-label": "Jobs" },
      h("h1", {}, "Jobs"),
      this._status,
      this._list,
      this._more,
    );
    /** @type {any[]} */
    this._jobs = [];
    /** @type {Map<string, () => void>} */
    this._feeds = new Map();
    /** @type {Map<string, string[]>} */
    this._logs = new Map();
    this._timer = 0;
    this._open = "";
  }

  /** @param {import("./route.js").Route} route */
  async show({ id }) {
    this._open = id || this._open;
    this._writes = await may("write", "POST", "/v1/jobs/{id}/cancel");
    await this._load();
    if (!this.root.isConnected) return; // one has gone on meanwhile
    clearInterval(this._timer);
    this._timer = window.setInterval(
      () =>
        this._load().catch((error) => {
          this._status.textContent = error.message;
        }),
      AGAIN_MS,
    );
  }

  hide() {
    clearInterval(this._timer);
    for (const stop of this._feeds.values()) stop();
    this._feeds.clear();
  }

  async _load() {
    const { data, next_token: token } = await get("/v1/jobs");
    const shown = new Set(data.map((/** @type {any} */ job) => job.id));
    const older = this._jobs.filter(
      (job) => !shown.has(job.id) && isOver(job) && data.length && job.created < data[data.length - 1].created,
    );
    this._jobs = [...data, ...older];
    if (!older.length) this._token = token;
    this._draw();
  }

  async _loadMore() {
    this._more.disabled = true;
    try {
      const { data, next_token: token } = await get("/v1/jobs", { page_token: this._token });
      this._jobs = [...this._jobs, ...data];
      this._token = token;
      this._draw();
    } catch (error) {
      this._status.textContent = /** @type {Error} */ (error).message;
    }
    this._more.disabled = false;
  }

  _draw() {
    if (!this.root.isConnected) return;
    const focused = /** @type {HTMLElement|null} */ (document.activeElement?.closest?.("[data-job]"));
    const place = focused
      ? [...focused.querySelectorAll("button, summary")].indexOf(/** @type {any} */ (document.activeElement))
      : -1;
    this._status.textContent = this._jobs.length
      ? ""
      : "Nothing was asked for yet. Adding a folder of videos in the library is a job.";
    this._more.hidden = !this._token;
    fill(this._list, ...this._jobs.map((job) => this._row(job)));
    if (focused && place >= 0)
      this._list
        .querySelector(`[data-job="${CSS.escape(focused.dataset.job || "")}"]`)
        ?.querySelectorAll("button, summary")
        [place]?.focus();
    // A feed takes one of the six connections that a browser has; jobs that wait are looked at by asking again.
    for (const job of this._jobs) if (job.state === "running" || job.id === this._open) this._follow(job);
  }

  /** @param {any} job */
  _row(job) {
    const times = [
      job.started && !job.ended ? `since ${when(job.started)}` : when(job.ended || job.created),
      job.started && job.ended ? `took ${spell(job.ended - job.started)}` : "",
      job.by && job.by !== "local" ? `by ${job.by}` : "",
      job.attempts > 1 ? `${job.attempts} attempts` : "",
    ]
      .filter(Boolean)
      .join(" · ");
    const actions = h(
      "div",
      { class: "row" },
      this._writes && !isOver(job) && iconButton("close", "Cancel", () => this._post(job, "cancel")),
      this._writes &&
        (job.state === "failed" || job.state === "cancelled") &&
        iconButton("retry", "Run again", () => this._post(job, "retry")),
    );
    const log =
      this._writes &&
      h(
        "details",
        { open: job.id === this._open, ontoggle: (/** @type {any} */ event) => this._toggle(job, event.target.open) },
        h("summary", {}, "Log"),
        h("pre", { tabindex: "0", "aria-label": "Log" }, (this._logs.get(job.id) || []).join("\n")),
      );
    return h(
      "li",
      { class: `job ${job.state}`, "data-job": job.id },
      h(
        "div",
        { class: "job-head" },
        h("h2", {}, KINDS[job.kind] || job.kind),
        h("span", { class: `state ${job.state}` }, STATES[job.state] || job.state),
        h("span", { class: "space" }),
        actions,
      ),
      h("p", { class: "job-subject" }, [job.library, subject(job)].filter(Boolean).join(": ")),
      !isOver(job) && progressBar(job.progress, job.state),
      job.error && h("p", { class: "refused" }, job.error),
      isOver(job) && jobResult(job, this._writes ? startJob : null),
      h("p", { class: "soft" }, times),
      log,
    );
  }

  /** @param {any} job @param {boolean} open */
  _toggle(job, open) {
    if (open) {
      this._open = job.id;
      this._follow(job);
    } else if (this._open === job.id) this._open = "";
  }

  /** @param {any} job */
  _follow(job) {
    if (!this._writes || this._feeds.has(job.id) || (isOver(job) && this._logs.has(job.id))) return;
    this._logs.set(job.id, []);
    const row = () => this._list.querySelector(`[data-job="${CSS.escape(job.id)}"]`);
    this._feeds.set(
      job.id,
      followJob(job.id, {
        progress: (progress) => row()?.querySelector(".job-progress")?.replaceWith(progressBar(progress, "running")),
        log: ({ line }) => {
          const lines = this._logs.get(job.id) || [];
          lines.push(line);
          if (lines.length > MOST_LINES) lines.splice(0, lines.length - MOST_LINES);
          const pre = row()?.querySelector("pre");
          if (pre) pre.textContent = lines.join("\n");
        },
        end: () => {
          this._feeds.delete(job.id);
          forgetLibraries();
          forgetResults();
          if (!isOver(job)) this._load().catch(() => {});
        },
      }),
    );
  }

  /** @param {any} job @param {string} action */
  async _post(job, action) {
    await post(`/v1/jobs/${job.id}/${action}`).then(
      () => this._load(),
      (error) => toast(error.message),
    );
  }
}

/** Ask for a job, and say where it can be followed. @param {any} body @returns {Promise<any>} */
export async function startJob(body) {
  const job = await post("/v1/jobs", body);
  toast("It is on its way.", { label: "Show", act: () => go(write("jobs", job.id)) });
  return job;
}

export const create = () => new JobsPage();
