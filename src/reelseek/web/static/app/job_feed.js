// A job as it goes on: its events from the server, as long as somebody looks.
import { address, get } from "./api.js";

/** @param {any} job */
export const isOver = (job) => ["succeeded", "failed", "cancelled"].includes(job.state);

/**
 * Follow a job.
 * @param {string} id
 * @param {{progress?: (progress: any) => void, log?: (line: any) => void, end?: (job: any) => void}} on
 * @returns {() => void} stops following
 */
export function followJob(id, { progress, log, end }) {
  const source = new EventSource(address(`/v1/jobs/${id}/events`));
  const read = (/** @type {any} */ event) => JSON.parse(event.data);
  source.addEventListener("progress", (event) => progress?.(read(event)));
  source.addEventListener("log", (event) => log?.(read(event)));
  source.addEventListener("end", async () => {
    const job = await get(`/v1/jobs/${id}`).catch(() => null);
    if (!job || !isOver(job) || source.readyState === EventSource.CLOSED) return; // an earlier attempt ended
    source.close();
    end?.(job);
  });
  return () => source.close(); // until then the browser connects again by itself
}
