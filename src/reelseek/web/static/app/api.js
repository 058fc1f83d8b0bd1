// The server: requests, refusals in words, and what this server can do.

/** Where the application lies; a proxy may have put it under a prefix. */
const BASE = new URL("./", document.baseURI.split("#")[0]);

/** What the server answered instead: a problem document. */
export class Refusal extends Error {
  /** @param {number} status @param {{title?: string, detail?: string}} problem */
  constructor(status, problem) {
    super(problem.detail || problem.title || `the server answers ${status}`);
    this.status = status;
  }
}

/** The server does not answer at all. */
export class Unreachable extends Error {
  constructor() {
    super("The server does not answer.");
  }
}

/** The address of something that the server named or offers. @param {string} path @param {Record<string, any>} [parameters] */
export function address(path, parameters = {}) {
  const prefix = BASE.pathname,
    inside = prefix !== "/" && path.startsWith(prefix);
  const url = new URL(inside ? path : path.replace(/^\//, ""), BASE);
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value])
      if (one !== undefined && one !== null && one !== "") url.searchParams.append(name, one);
  }
  return url.origin === location.origin ? url.pathname + url.search : `${BASE.pathname}elsewhere`; // which leads nowhere
}

/**
 * @param {string} method @param {string} path
 * @param {{parameters?: Record<string, any>, body?: any, type?: string, signal?: AbortSignal}} [options] a body is sent as JSON unless it has a type
 * @returns {Promise<any>} the answer's JSON, or null where it has none
 */
export async function request(method, path, { parameters, body, type, signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = body === undefined ? {} : { "Content-Type": type || "application/json" };
  let response;
  try {
    response = await fetch(address(path, parameters), {
      method,
      headers,
      body: body === undefined || type ? body : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Unreachable();
  }
  const content = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.ok) return content;
  const refusal = new Refusal(response.status, content || {});
  if (refusal.status === 401) window.dispatchEvent(new CustomEvent("signed-out", { detail: refusal }));
  throw refusal;
}

export const get = (
  /** @type {string} */ path,
  /** @type {Record<string, any>} */ parameters = {},
  /** @type {AbortSignal|undefined} */ signal = undefined,
) => request("GET", path, { parameters, signal });
export const post = (
  /** @type {string} */ path,
  /** @type {any} */ body = {},
  /** @type {AbortSignal|undefined} */ signal = undefined,
) => request("POST", path, { body, signal });

/** @type {Promise<Record<string, Record<string, unknown>>>|null} */
let paths = null;

/** @type {string[]} */
let withdrawn = [];

/** Take back what the server describes and yet has not, such as jobs without a folder for them. @param {...string} prefixes of paths */
export function withdraw(...prefixes) {
  withdrawn = [...withdrawn, ...prefixes];
}

/** Whether this server offers an operation: what it does not offer, the page does not show. @param {string} method @param {string} path with {names} */
export async function offers(method, path) {
  if (withdrawn.some((prefix) => path.startsWith(prefix))) return false;
  paths ??= get("openapi.json")
    .then((document_) => shaped(document_.paths))
    .catch((error) => {
      paths = null;
      throw error;
    });
  return Boolean((await paths)[shape(path)]?.[method.toLowerCase()]);
}

const shape = (/** @type {string} */ path) => path.replace(/\{[^}]*\}/g, "{}");
const shaped = (/** @type {Record<string, any>} */ listed) =>
  Object.fromEntries(Object.entries(listed || {}).map(([path, operations]) => [shape(path), operations]));
