// Keeping moments: which collection they go to, and which ones are in it.
import { get, post, request } from "./api.js";
import { toast } from "./dom.js";
import { may } from "./session.js";

/** @typedef {{id: string, library: string, name: string, moments: number, changed: number}} Collection */

class Keeping extends EventTarget {
  constructor() {
    super();
    this.offered = false;
    /** @type {Collection[]} */
    this.collections = [];
    /** @type {Set<string>} moments of the collection that `s` keeps to */
    this.moments = new Set();
    this._library = "";
  }

  /** The collection of the library at hand that `s` keeps to: the one used last. */
  get current() {
    const here = this.collections.filter((collection) => !this._library || collection.library === this._library);
    return (
      here.find((collection) => collection.id === localStorage.getItem(`collection ${this._library}`)) ||
      here[0] ||
      null
    );
  }

  /** Another library is at hand. @param {string} library "" where there is one only */
  async use(library) {
    if (library === this._library) return;
    this._library = library;
    await this._loadMoments();
  }

  /** Load what there is. */
  async load() {
    this.offered = await may("review", "POST", "/v1/collections");
    if (!(await may("read", "GET", "/v1/collections"))) return;
    this.collections = (await get("/v1/collections")).data;
    await this._loadMoments();
  }

  async _loadMoments() {
    const collection = this.current && (await get(`/v1/collections/${this.current.id}`));
    this._take(collection?.data || []);
  }

  /** @param {{moment: string}[]} rows of the current collection */
  _take(rows) {
    this.moments = new Set(rows.map((row) => row.moment));
    this.dispatchEvent(new Event("change"));
  }

  /** Whether a moment is kept; one without an end is kept with the end of its video. @param {string} moment @returns {string|undefined} as it is kept */
  find(moment) {
    const open = moment.replace(/end$/, "");
    return open.endsWith("-")
      ? [...this.moments].find((other) => other.startsWith(open))
      : this.moments.has(moment)
        ? moment
        : undefined;
  }

  /** @param {Collection} collection */
  async choose(collection) {
    localStorage.setItem(`collection ${this._library ? collection.library : ""}`, collection.id);
    await this._loadMoments();
  }

  /** @param {string} name @returns {Promise<Collection>} */
  async create(name) {
    const collection = await post("/v1/collections", { name, ...(this._library ? { library: this._library } : {}) });
    this.collections = [collection, ...this.collections];
    await this.choose(collection);
    return collection;
  }

  /** Keep a moment, or let one go that is kept. @param {string} moment */
  async toggle(moment) {
    const collection = this.current || (await this.create("Kept")),
      kept = this.find(moment);
    if (kept) await this.remove(collection.id, kept);
    else this._take((await post(`/v1/collections/${collection.id}/moments`, { moments: [{ moment }] })).data);
    toast(kept ? `Taken out of “${collection.name}”.` : `Kept in “${collection.name}”.`, {
      label: "Undo",
      act: () => this.toggle(moment).catch((error) => toast(error.message)),
    });
  }

  /** @param {string} id of a collection @param {string} moment @returns {Promise<any>} the collection without it */
  async remove(id, moment) {
    const collection = await request("DELETE", `/v1/collections/${id}/moments`, { body: { moments: [moment] } });
    if (id === this.current?.id) this._take(collection.data);
    return collection;
  }
}

export const keeping = new Keeping();
