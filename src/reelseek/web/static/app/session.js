// Who is signed in, and what they may do: what they may not, the page does not offer.
import { get, offers, Refusal, withdraw } from "./api.js";

/** @type {{name: string, scopes: string[]}|null} */
let current = null;

/** Ask the server who one is; without accounts everybody on this machine may do everything. */
export async function loadSession() {
  current = (await offers("GET", "/v1/session")) ? await get("/v1/session") : null;
  if (!(await offers("GET", "/v1/jobs"))) return;
  await get("/v1/jobs", { limit: 1 }).catch((error) => {
    if (!(error instanceof Refusal) || ![404, 503].includes(error.status)) throw error;
    withdraw("/v1/jobs", "/v1/collections", "/v1/reviews", "/v1/reports", "/v1/libraries/{name}/folders"); // they need a folder that outlives the server
  });
}

export const session = () => current;

/** Whether one may do something, and the server offers it. @param {string} scope @param {string} method @param {string} path */
export async function may(scope, method, path) {
  return (current === null || current.scopes.includes(scope)) && offers(method, path);
}
