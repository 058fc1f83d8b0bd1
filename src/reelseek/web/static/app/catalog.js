// The libraries that this server has, and what each consists of; asked for once, and again when a job has changed it.
import { get, offers } from "./api.js";

/** @typedef {{name: string, videos: number, clips: number, experts: any[], [more: string]: any}} Library */

/** @type {Promise<Library[]>|null} */
let all = null;
/** @type {Map<string, Promise<any>>} */
const details = new Map();

/** All that the visitor may see. @returns {Promise<Library[]>} */
export async function libraries() {
  all ??= offers("GET", "/v1/libraries")
    .then((offered) => (offered ? get("/v1/libraries") : { data: [] }))
    .then((answer) => answer.data);
  return all.catch((error) => {
    all = null;
    throw error;
  });
}

/** Those that can be searched; one that was only begun holds nothing yet. @returns {Promise<Library[]>} */
export async function searched() {
  return (await libraries()).filter((row) => row.state !== "begun");
}

/** The library to show where the address names none: "" where there is one only, else the one shown last. */
export async function usualLibrary() {
  const names = (await searched()).map(({ name }) => name),
    last = localStorage.getItem("library") || "";
  return names.length < 2 ? "" : names.includes(last) ? last : names[0];
}

/** One with its experts, failures and folders; null where the server tells nothing of it. @param {string} [name] "" is the only or first one */
export async function library(name = "") {
  const listed = await libraries(),
    chosen = name || listed[0]?.name;
  if (!chosen) return null;
  if (!details.has(chosen))
    details.set(
      chosen,
      get(`/v1/libraries/${encodeURIComponent(chosen)}`).catch((error) => {
        details.delete(chosen);
        throw error;
      }),
    );
  return details.get(chosen);
}

let forgotten = 0;

/** Another number whenever what was asked is no longer so. */
export const edition = () => forgotten;

/** What was asked is no longer so. */
export function forgetLibraries() {
  forgotten += 1;
  all = models = null;
  details.clear();
  forgetTags();
}

/** @type {Map<string, Promise<string[]>>} */
const tagged = new Map();

/** The tags of a library. @param {string} [name] "" is the only one @returns {Promise<string[]>} */
export async function tags(name = "") {
  if (!(await offers("GET", "/v1/tags"))) return [];
  if (!tagged.has(name))
    tagged.set(
      name,
      get("/v1/tags", { library: name })
        .then(({ data }) => data.map((/** @type {any} */ row) => row.tag))
        .catch((error) => {
          tagged.delete(name);
          throw error;
        }),
    );
  return /** @type {Promise<string[]>} */ (tagged.get(name));
}

/** Tags were added or taken off. */
export function forgetTags() {
  tagged.clear();
  window.dispatchEvent(new Event("tags"));
}

/** @type {Promise<any[]>|null} */
let models = null;

/** What searches a library, and what may once it is indexed. @param {string} [name] "" is the only or first one @returns {Promise<any[]>} */
async function modelsOf(name = "") {
  models ??= offers("GET", "/v1/models")
    .then((offered) => (offered ? get("/v1/models") : { data: [] }))
    .then((answer) => answer.data);
  const listed = await models.catch((error) => {
    models = null;
    throw error;
  });
  return listed.filter((row) => row.library === (name || listed[0].library));
}

/** Names of the models that a library can be searched by, the server's own first. @param {string} [name] "" is the only or first one @returns {Promise<string[]>} */
export async function searchableModels(name = "") {
  return (await modelsOf(name)).filter((row) => row.searchable).map((row) => row.name);
}

/**
 * The kinds of evidence that searches of a library compare with words.
 * @param {string} [name] "" is the only or first one @param {string} [model] "" is the server's own @returns {Promise<string[]>}
 */
export async function modalities(name = "", model = "") {
  const listed = await modelsOf(name),
    row = model ? listed.find((one) => one.name === model) : listed.find((one) => one.default) || listed[0];
  return row ? [...new Set(/** @type {string[]} */ (Object.values(row.modalities)))] : [];
}
