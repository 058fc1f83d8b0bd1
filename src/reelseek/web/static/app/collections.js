// Collections of moments: notes, a link to share, and files for other programs.
import { address, get, post, request } from "./api.js";
import { askText, confirm, openDialog } from "./dialog.js";
import { fill, h, icon, iconButton, toast } from "./dom.js";
import { keeping } from "./keeping.js";
import { momentCard } from "./moment_card.js";
import { go, write } from "./route.js";
import { may } from "./session.js";
import { TagField } from "./tags.js";
import { clock, count, split, when } from "./words.js";

const FORMATS = [
  ["csv", "CSV, for tables"],
  ["jsonl", "JSON lines, for programs"],
  ["edl", "EDL, for video editors"],
  ["otio", "OpenTimelineIO, for video editors"],
  ["srt", "SRT, the notes as subtitles"],
  ["zip", "ZIP, the moments as files, cut without loss"],
  ["zip&mode=exact", "ZIP, the moments as files, cut at the very frames"],
];

class CollectionsPage {
  constructor() {
    this.title = "Collections";
    this.root = h("section", { class: "page wide-page", "aria-label": "Collections" });
  }

  /** @param {import("./route.js").Route} route */
  async show({ id }) {
    this._writes = await may("review", "POST", "/v1/collections");
    if (id) await this._showOne(id);
    else await this._showAll();
  }

  async _showAll() {
    await keeping.load();
    this.title = "Collections";
    document.title = "Collections · Reelseek";
    const several = new Set(keeping.collections.map((row) => row.library)).size > 1;
    const rows = keeping.collections.map((row) =>
      h(
        "li",
        {},
        h(
          "div",
          { class: "grow" },
          h("p", {}, h("a", { href: write("collections", row.id) }, row.name)),
          h(
            "p",
            { class: "soft" },
            [count(row.moments, "moment"), several ? row.library : "", when(row.changed)].filter(Boolean).join(" · "),
          ),
        ),
        this._writes &&
          (row.id === keeping.current?.id
            ? h("span", { class: "state running" }, "the key s keeps to this one")
            : h(
                "button",
                { type: "button", class: "quiet", onclick: () => keeping.choose(row).then(() => this._showAll()) },
                "Keep to this one",
              )),
      ),
    );
    fill(
      this.root,
      h(
        "div",
        { class: "page-head" },
        h("h1", {}, "Collections"),
        this._writes && iconButton("more", "New collection", () => this._create()),
      ),
      rows.length
        ? h("ul", { class: "rows" }, ...rows)
        : h(
            "div",
            { class: "empty" },
            h("p", {}, "Nothing is kept yet. In a search press s on a hit, or its bookmark, and it is kept here."),
            h("a", { class: "quiet", href: write("search") }, "Search"),
          ),
    );
  }

  async _create() {
    const name = await askText("New collection", "Name");
    if (name)
      await keeping.create(name).then(
        (collection) => go(write("collections", collection.id)),
        (error) => toast(error.message),
      );
  }

  /** @param {string} id */
  async _showOne(id) {
    this._draw(await get(`/v1/collections/${encodeURIComponent(id)}`));
  }

  /** @param {any} collection */
  _draw(collection) {
    this._collection = collection;
    this.title = collection.name;
    document.title = `${collection.name} · Reelseek`;
    const note = h("textarea", {
      rows: "2",
      class: "secret",
      "aria-label": "Notes on the collection",
      placeholder: "Notes",
      maxlength: "4000",
      readonly: !this._writes,
      onchange: () => this._patch({ note: note.value }),
    });
    note.value = collection.note;
    const actions = this._writes
      ? [
          iconButton("link", "Share", () => this._share()),
          iconButton("edit", "Rename", () => this._rename()),
          iconButton("trash", "Delete", () => this._delete(), { bare: true }),
        ]
      : [];
    fill(
      this.root,
      h(
        "div",
        { class: "page-head" },
        h(
          "a",
          {
            class: "quiet bare",
            href: write("collections"),
            "aria-label": "All collections",
            title: "All collections",
          },
          icon("previous"),
        ),
        h("h1", {}, collection.name),
        collection.data.length > 0 && iconButton("download", "Export", () => this._export()),
        ...actions,
      ),
      note,
      h("p", { class: "soft" }, count(collection.data.length, "moment")),
      collection.data.length
        ? h("ul", { class: "moments" }, ...collection.data.map((/** @type {any} */ row) => this._card(row)))
        : h(
            "div",
            { class: "empty" },
            h("p", {}, "This collection is empty. In a search press s on a hit, and it is kept here."),
          ),
    );
  }

  /** @param {any} row a moment that is kept */
  _card(row) {
    const label = `${split(row.name)[1]} ${clock(row.start)}`,
      library = this._collection.library;
    const note = h("input", {
      type: "text",
      value: row.note,
      placeholder: "Note",
      maxlength: "4000",
      readonly: !this._writes,
      "aria-label": `Note on ${label}`,
      onchange: () =>
        this._put(row, { note: note.value }).then(
          () => toast("Noted."),
          (error) => toast(error.message),
        ),
    });
    const put = async (/** @type {string[]} */ tags) => (await this._put(row, { tags })).tags;
    const writes = this._writes && {
      add: (/** @type {string[]} */ added) => put([...new Set([...row.tags, ...added])]),
      remove: (/** @type {string} */ tag) => put(row.tags.filter((/** @type {string} */ other) => other !== tag)),
    };
    const tags = row.thumbnail ? new TagField(label, { library, tags: row.tags, ...writes }).root : null;
    return momentCard(
      row,
      row.thumbnail ? { href: write("video", row.video, { library, t: row.start.toFixed(1) }) } : {},
      note,
      tags,
      this._writes &&
        iconButton("close", "Take out", () =>
          keeping.remove(this._collection.id, row.moment).then(
            (collection) => this._draw(collection),
            (error) => toast(error.message),
          ),
        ),
    );
  }

  /** Change a kept moment. @param {any} row @param {any} changed @returns {Promise<any>} it as it is then */
  async _put(row, changed) {
    const { data } = await post(`/v1/collections/${this._collection.id}/moments`, {
      moments: [{ moment: row.moment, note: row.note, ...changed }],
    });
    return Object.assign(
      row,
      data.find((/** @type {any} */ other) => other.moment === row.moment),
    );
  }

  /** @param {any} changed */
  async _patch(changed) {
    await request("PATCH", `/v1/collections/${this._collection.id}`, { body: changed }).then(
      () => toast("Noted."),
      (error) => toast(error.message),
    );
  }

  async _rename() {
    const name = await askText("Rename", "Name", this._collection.name);
    if (name) {
      await this._patch({ name });
      await this._showOne(this._collection.id);
    }
  }

  async _delete() {
    if (
      !(await confirm(
        `Delete “${this._collection.name}”?`,
        "The collection and its notes are deleted; no video is, and no tag.",
        "Delete",
      ))
    )
      return;
    await request("DELETE", `/v1/collections/${this._collection.id}`).then(
      () => go(write("collections")),
      (error) => toast(error.message),
    );
  }

  _export() {
    const links = FORMATS.map(([format, words]) =>
      h(
        "li",
        {},
        h(
          "a",
          {
            class: "grow",
            href: `${address(`/v1/collections/${this._collection.id}/export`)}?format=${format}`,
            download: "",
          },
          words,
        ),
      ),
    );
    openDialog(`Export “${this._collection.name}”`, h("ul", { class: "rows" }, ...links));
  }

  async _share() {
    const share = await post(`/v1/collections/${this._collection.id}/share`).catch((error) => {
      toast(error.message);
      return null;
    });
    if (!share) return;
    const link = new URL(write("shared", share.secret), location.href).href,
      field = h("input", { class: "secret", readonly: true, value: link, "aria-label": "Link" });
    openDialog(
      "Share",
      h(
        "p",
        {},
        "Whoever has this link sees the moments of this collection, and nothing else. It is shown this once; sharing again makes a new link and ends this one.",
      ),
      field,
      h(
        "div",
        { class: "row" },
        iconButton("link", "Copy", () =>
          navigator.clipboard.writeText(link).then(
            () => toast("The link is copied."),
            () => field.select(),
          ),
        ),
        iconButton("close", "End the link", () => this._unshare()),
      ),
    );
    field.select();
  }

  async _unshare() {
    await request("DELETE", `/v1/collections/${this._collection.id}/share`).then(
      () => toast("The link is ended."),
      (error) => toast(error.message),
    );
  }
}

export const create = () => new CollectionsPage();
