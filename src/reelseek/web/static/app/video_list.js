// The videos of a library, of which some can be picked out by filters and removed.
import { get } from "./api.js";
import { confirm } from "./dialog.js";
import { fill, h, iconButton, toast } from "./dom.js";
import { startJob } from "./jobs.js";
import { thumbnail } from "./pictures.js";
import { go, read, write } from "./route.js";
import { may } from "./session.js";
import { tagList } from "./tags.js";
import { clock, count, size } from "./words.js";

const PAGE = 50;

export class VideoList {
  constructor() {
    this._rows = h("ul", { class: "rows videos" });
    this._more = h(
      "button",
      {
        type: "button",
        class: "quiet",
        hidden: true,
        onclick: () => this._load().catch((error) => toast(error.message)),
      },
      "More videos",
    );
    this._status = h("p", { class: "refused", role: "status" });
    this._input = h("input", {
      type: "search",
      "aria-label": "Find videos by filters",
      placeholder: "name:pancake longer:1m",
      autocomplete: "off",
    });
    const form = h(
      "form",
      {
        class: "find",
        onsubmit: (/** @type {Event} */ event) => {
          event.preventDefault();
          this._ask();
        },
      },
      this._input,
      h("button", {}, "Find"),
    );
    this.root = h("section", {}, h("h2", {}, "Videos"), form, this._status, this._rows, this._more);
    this.find = "";
    this._library = "";
    /** @type {string|undefined} */
    this._token = undefined;
  }

  /** @param {string} library @param {string} find filters */
  async show(library, find) {
    this._library = library;
    this.find = find;
    this._input.value = find;
    this._token = undefined;
    this._status.textContent = "";
    fill(this._rows);
    await this._load().catch((error) => {
      this._more.hidden = true;
      this._status.textContent = error.message;
    });
  }

  _ask() {
    const parameters = read().parameters,
      words = this._input.value.trim();
    parameters.delete("find");
    if (words)
      parameters.set("find", /[a-z]{2,}:/i.test(words) ? words : `name:${/\s/.test(words) ? `"${words}"` : words}`);
    go(write("library", "", parameters));
  }

  async _load() {
    const removes = await may("write", "POST", "/v1/jobs");
    const { data, page } = await get("/v1/videos", {
      library: this._library,
      filter: this.find,
      limit: PAGE,
      page_token: this._token,
    });
    this._token = page.next_token;
    this._more.hidden = !page.next_token;
    this._rows.append(...data.map((/** @type {any} */ video) => this._row(video, removes)));
    if (!this._rows.children.length)
      this._status.textContent = this.find ? "No video is like that." : "There is no video yet.";
  }

  /** @param {any} video @param {boolean} removes */
  _row(video, removes) {
    const address = write("video", video.id, this._library ? { library: this._library } : {});
    const facts = [
      video.duration ? clock(video.duration) : "",
      video.size ? size(video.size) : "",
      video.split || "",
      video.failed ? count(video.failed, "failure") : "",
      video.play ? "" : "file not at hand",
    ]
      .filter(Boolean)
      .join(" · ");
    return h(
      "li",
      {},
      h("span", { class: "small-picture" }, thumbnail(video.thumbnail)),
      h(
        "div",
        { class: "grow" },
        h("p", {}, h("a", { href: address }, video.name)),
        h("p", { class: "soft" }, facts),
        tagList(video.tags || [], this._library),
      ),
      removes && iconButton("trash", `Remove ${video.name}`, () => removeVideo(video, this._library), { bare: true }),
    );
  }
}

/** Ask, and let a job remove a video. @param {any} video @param {string} library @returns {Promise<boolean>} whether it will be */
export async function removeVideo(video, library) {
  if (
    !(await confirm(
      "Remove this video from the library?",
      `${video.name} and all that was extracted from it go out of the library. The file itself stays where it is.`,
      "Remove",
    ))
  )
    return false;
  try {
    await startJob({ kind: "remove", ...(library ? { library } : {}), arguments: { videos: [video.id] } });
    return true;
  } catch (error) {
    toast(/** @type {Error} */ (error).message);
    return false;
  }
}
