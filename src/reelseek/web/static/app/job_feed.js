// A job as it goes on: its events from the server, as long as somebody looks.
import { address } from "./api.js";

/**
 * Follow a job.
 * @param {string} id
 * @param {{progress?: (progress: any) => void, log?: (line: any) => void, end?: (job: any) => void, broken?: () => void}} on
 * @returns {() => void} stops following
 */
export function followJob(id, { progress, log, end, broken }) {
  const source = new EventSource(address(`/v1/jobs/${id}/events`));
  const read = (/** @type {any} */ event) => JSON.parse(event.data);
  source.addEventListener("progress", (event) => progress?.(read(event)));
  source.addEventListener("log", (event) => log?.(read(event)));
  source.addEventListener("end", (event) => { source.close(); end?.(read(event)); });
  source.addEventListener("error", () => broken?.()); // the browser connects again by itself
  return () => source.close();
}
