// A library: what is in it, what failed and why, what each expert cost, and the folders that feed it.
import { get, request } from "./api.js";
import { forgetLibraries, libraries, library } from "./catalog.js";
import { fill, h, iconButton, toast } from "./dom.js";
import { followJob, isOver } from "./job_feed.js";
import { progressBar, startJob } from "./jobs.js";
import { modalityWords } from "./modalities.js";
import { forgetResults } from "./results.js";
import { write } from "./route.js";
import { may } from "./session.js";
import { VideoList } from "./video_list.js";
import { count, size, spell, when } from "./words.js";

class LibraryPage {
  constructor() {
    this.title = "Library";
    this._head = h("div", { class: "page-head" });
    this._numbers = h("dl", { class: "numbers" });
    this._notes = h("div", {});
    this._running = h("div", {});
    this._add = h("section", {});
    this._failures = h("section", {});
    this._experts = h("section", {});
    this._videos = new VideoList();
    this.root = h(
      "section",
      { class: "page", "aria-label": "Library" },
      this._head,
      this._numbers,
      this._notes,
      this._running,
      this._add,
      this._failures,
      this._experts,
      this._videos.root,
    );
    this._name = "";
    /** @type {(() => void)|null} */
    this._stop = null;
  }

  /** @param {import("./route.js").Route} route */
  async show({ parameters }) {
    this._name = parameters.get("library") || "";
    forgetLibraries(); // a job may have ended while something else was shown
    await this._load();
    await this._videos.show(this._name, parameters.get("find") || "");
    await this._followRunning();
  }

  hide() {
    this._stop?.();
    this._stop = null;
  }

  async _load() {
    const [detail, listed] = await Promise.all([library(this._name), libraries()]);
    if (!detail) return;
    this._detail = detail;
    this.title = detail.name;
    const others = listed
      .filter(({ name }) => name !== detail.name)
      .map(({ name }) => h("a", { class: "quiet", href: write("library", "", { library: name }) }, name));
    fill(this._head, h("h1", {}, detail.name), ...others);
    const numbers = [
      ["Videos", detail.videos],
      ["Length", spell(detail.seconds)],
      ["Clips", detail.clips],
      ["Captions", detail.captions],
      ["Failures", detail.failures],
      ["Space", size(Object.values(detail.bytes).reduce((sum, bytes) => sum + bytes, 0))],
    ];
    fill(
      this._numbers,
      ...numbers.map(([name, value]) =>
        h("div", {}, h("dt", {}, name), h("dd", {}, typeof value === "number" ? value.toLocaleString("en") : value)),
      ),
    );
    this._drawExperts(detail.experts || []);
    fill(this._notes, ...detail.notes.map((/** @type {string} */ note) => h("p", { class: "soft" }, note)));
    await Promise.all([this._drawAdding(detail), this._drawFailures(detail)]);
  }

  /** @param {any[]} experts */
  _drawExperts(experts) {
    const timed = experts.some((row) => row.seconds !== null);
    const rows = experts.map((row) =>
      h(
        "tr",
        {},
        h("td", {}, modalityWords(row.modality)),
        h("td", {}, row.name),
        h("td", { class: "number" }, `${row.present.toLocaleString("en")} of ${row.tracks.toLocaleString("en")}`),
        timed && h("td", { class: "number" }, row.seconds === null ? "" : spell(row.seconds)),
        h("td", { class: "number" }, size(row.bytes)),
      ),
    );
    const head = h(
      "tr",
      {},
      h("th", {}, "Evidence"),
      h("th", {}, "Expert"),
      h("th", { class: "number" }, "Has it"),
      timed && h("th", { class: "number" }, "Took"),
      h("th", { class: "number" }, "Space"),
    );
    fill(
      this._experts,
      experts.length > 0 && [
        h("h2", {}, "What is extracted, and what it costs"),
        h(
          "div",
          { class: "table-frame", tabindex: "0", role: "region", "aria-label": "What experts cost" },
          h("table", {}, h("thead", {}, head), h("tbody", {}, ...rows)),
        ),
      ],
    );
  }

  /** @param {any} detail */
  async _drawAdding(detail) {
    if (!(await may("write", "POST", "/v1/jobs"))) {
      fill(this._add);
      return;
    }
    const watches = await may("write", "PUT", "/v1/libraries/{name}/folders");
    const path = h("input", {
        type: "text",
        required: true,
        placeholder: "/home/me/Videos",
        autocomplete: "off",
        spellcheck: "false",
      }),
      watch = h("input", { type: "checkbox" });
    const experts = h(
      "select",
      {},
      h("option", { value: "" }, "all that runs here"),
      detail.experts.length > 0 && h("option", { value: "library" }, "those of this library"),
      ...["offline", "standard", "best"].map((name) => h("option", { value: name }, name)),
    );
    const selection = () =>
      experts.value === "library"
        ? { experts: detail.experts.map((/** @type {any} */ row) => row.name) }
        : experts.value
          ? { preset: experts.value }
          : {};
    const refused = h("p", { class: "refused", role: "alert" });
    const form = h(
      "form",
      {
        class: "fields",
        onsubmit: async (/** @type {Event} */ event) => {
          event.preventDefault();
          refused.textContent = "";
          try {
            await startJob({
              kind: "add",
              library: detail.name,
              arguments: { paths: [path.value.trim()], ...selection() },
            });
            if (watch.checked) await this._putFolders([...this._folders(), path.value.trim()]);
            path.value = "";
            await this._followRunning();
          } catch (error) {
            refused.textContent = /** @type {Error} */ (error).message;
          }
        },
      },
      h("label", { class: "field grow-field" }, h("span", {}, "Folder or file on the server"), path),
      h("label", { class: "field" }, h("span", {}, "Experts"), experts),
      watches && h("label", { class: "line-field" }, watch, " and watch it for new files"),
      h("button", {}, "Add"),
    );
    fill(this._add, h("h2", {}, "Add videos"), form, refused, watches && this._folderRows());
  }

  /** @returns {string[]} */
  _folders() {
    return this._detail.folders.map((/** @type {any} */ row) => row.folder);
  }

  _folderRows() {
    const rows = this._detail.folders.map((/** @type {any} */ row) =>
      h(
        "li",
        {},
        h(
          "div",
          { class: "grow" },
          h("p", {}, row.folder),
          h(
            "p",
            { class: row.problem ? "refused" : "soft" },
            row.problem ||
              [
                row.waiting ? `${count(row.waiting, "file")} still changing or waiting` : "nothing waits",
                row.looked ? `looked ${when(row.looked)}` : "",
              ]
                .filter(Boolean)
                .join(" · "),
          ),
        ),
        iconButton("close", "Watch no longer", () =>
          this._putFolders(this._folders().filter((folder) => folder !== row.folder)).catch((error) =>
            toast(error.message),
          ),
        ),
      ),
    );
    return rows.length ? [h("h3", {}, "Watched folders"), h("ul", { class: "rows" }, ...rows)] : null;
  }

  /** @param {string[]} folders */
  async _putFolders(folders) {
    await request("PUT", `/v1/libraries/${encodeURIComponent(this._detail.name)}/folders`, {
      body: { folders: [...new Set(folders)] },
    });
    forgetLibraries();
    await this._load();
  }

  /** @param {any} detail */
  async _drawFailures({ name, failures, failed, failed_left_out: rest }) {
    if (!failures) {
      fill(this._failures);
      return;
    }
    const retry =
      (await may("write", "POST", "/v1/jobs")) &&
      iconButton("retry", "Try all again", () =>
        startJob({ kind: "add", library: name, arguments: { retry_failed: true } }).then(
          () => this._followRunning(),
          (error) => toast(error.message),
        ),
      );
    const rows = failed.map((/** @type {any} */ row) =>
      h(
        "li",
        {},
        h(
          "div",
          { class: "grow" },
          h("p", {}, row.video),
          h("p", { class: "soft" }, row.expert && h("b", {}, `${row.expert}: `), row.reason),
        ),
        row.attempts > 1 && h("span", { class: "soft" }, `${row.attempts} attempts`),
      ),
    );
    fill(
      this._failures,
      h("div", { class: "page-head" }, h("h2", {}, "What failed"), retry),
      h("ul", { class: "rows failed" }, ...rows),
      rest > 0 && h("p", { class: "soft" }, `and ${count(rest, "more failure")}`),
    );
  }

  async _followRunning() {
    if (!(await may("write", "GET", "/v1/jobs")) || !this._detail) return;
    const { data } = await get("/v1/jobs", { library: this._detail.name }),
      job = data.filter((/** @type {any} */ row) => !isOver(row)).pop();
    if (!this.root.isConnected) return; // one has gone on meanwhile
    this._stop?.();
    this._stop = null;
    if (!job) {
      fill(this._running);
      return;
    }
    const bar = h("div", {}, progressBar(job.progress, job.state));
    fill(
      this._running,
      h("h2", {}, "In progress"),
      h(
        "div",
        { class: "job running" },
        bar,
        h(
          "div",
          { class: "row" },
          iconButton("close", "Cancel", () =>
            request("POST", `/v1/jobs/${job.id}/cancel`, { body: {} }).catch((error) => toast(error.message)),
          ),
          h("a", { class: "quiet", href: write("jobs", job.id) }, "Log"),
        ),
      ),
    );
    this._stop = followJob(job.id, {
      progress: (progress) => fill(bar, progressBar(progress, "running")),
      end: () => this._ended(),
    });
  }

  async _ended() {
    forgetLibraries();
    forgetResults();
    await this._load().catch((error) => toast(error.message));
    await this._videos.show(this._name, this._videos.find);
    await this._followRunning();
  }
}

export const create = () => new LibraryPage();
