// The hits of a question, a page at a time; those of the last few questions stay, so that Back shows them at once.
import { post, Refusal } from "./api.js";
import { toAddress, toBody } from "./question.js";

const FIRST_PAGE = 60,
  NEXT_PAGE = 100;
const REMEMBERED = 12;
/** @type {Map<string, Results>} */
const remembered = new Map();

/** @typedef {{modality: string, gave: number, matched: string, sentence: string}} Reason */
/**
 * @typedef {{moment: string, video: string, name: string, start: number, end: number|null, score: number, confidence: number|null,
 *   strength: "strong"|"likely"|"weak"|null, rank: number, thumbnail: string, strip: string|null, play: string|null, why: Reason[]}} Hit
 */

export class Results {
  /** @param {import("./question.js").Question} question */
  constructor(question) {
    this.question = question;
    /** @type {Hit[]} */
    this.hits = [];
    this.unread = "";
    /** @type {string[]} */
    this.notes = [];
    this.clips = 0;
    this.seconds = 0; // until the first hits were here
    this.ended = false;
    this.changed = false; // whether the library has, so that there are no further pages of these
    this.scroll = 0;
    /** @type {Error|null} */
    this.failure = null;
    /** @type {string|null} */
    this._token = null;
    /** @type {Promise<void>|null} */
    this._loading = null;
  }

  /** Load the next page, unless one is on its way or there is none; `failure` says why it did not come. */
  more() {
    if (this.ended || this._loading) return this._loading || Promise.resolve();
    this.failure = null;
    this._loading = post("/v1/search", {
      ...toBody(this.question),
      limit: this._token ? NEXT_PAGE : FIRST_PAGE,
      ...(this._token ? { page_token: this._token } : {}),
    })
      .then(
        (answer) => this._take(answer),
        (error) => this._refuse(error),
      )
      .finally(() => {
        this._loading = null;
      });
    return this._loading;
  }

  get loading() {
    return this._loading !== null;
  }

  /** @param {any} answer */
  _take(answer) {
    const shown = new Set(this.hits.map((hit) => hit.moment));
    this.hits.push(...answer.data.filter((/** @type {Hit} */ hit) => !shown.has(hit.moment)));
    this._token = answer.page.next_token;
    this.ended = !this._token;
    this.clips = answer.page.total_clips;
    this.unread = answer.unread || "";
    this.notes = answer.notes || [];
  }

  /** @param {Error} error */
  _refuse(error) {
    this.failure = error;
    if (!(error instanceof Refusal) || error.status !== 409 || !this._token) return;
    this.failure = null; // the library changed since: what is shown stays, and the rest would be of another order
    this.ended = this.changed = true;
  }
}

/** The results of a question, as they were left. @param {import("./question.js").Question} question */
export function resultsOf(question) {
  const key = toAddress(question).toString(),
    known = remembered.get(key);
  const results = known && !known.failure ? known : new Results(question);
  remembered.delete(key);
  remembered.set(key, results);
  if (remembered.size > REMEMBERED) remembered.delete(/** @type {string} */ (remembered.keys().next().value));
  return results;
}

/** Forget what was asked before: the library has changed. */
export const forgetResults = () => remembered.clear();
