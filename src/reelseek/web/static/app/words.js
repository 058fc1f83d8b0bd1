// Times, sizes and counts as people write them.

const pad = (/** @type {number} */ number) => String(number).padStart(2, "0");

/** Seconds as a clock reads: 0:07, 1:02:33. @param {number|null|undefined} seconds */
export function clock(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "end";
  const total = Math.max(0, Math.floor(seconds)),
    minutes = Math.floor(total / 60);
  return minutes >= 60
    ? `${Math.floor(minutes / 60)}:${pad(minutes % 60)}:${pad(total % 60)}`
    : `${minutes}:${pad(total % 60)}`;
}

/** A length of time in words: 40 s, 12 min, 3 h 20 min. @param {number} seconds */
export function spell(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** @param {number} bytes */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  while (bytes >= 1000 && place < units.length - 1) {
    bytes /= 1000;
    place += 1;
  }
  return `${place && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${units[place]}`;
}

/** @param {number} number @param {string} one @param {string} [many] */
export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** The last part of a video's name, which often is a path; and what stands before it. @param {string} name @returns {[string, string]} */
export function split(name) {
  const cut = name.lastIndexOf("/");
  return cut < 0 ? ["", name] : [name.slice(0, cut + 1), name.slice(cut + 1)];
}

/** @param {string|number|null|undefined} time in ISO 8601, or seconds since 1970 */
export function when(time) {
  if (time === null || time === undefined || time === "") return "";
  const date = new Date(typeof time === "number" ? time * 1000 : time);
  return Number.isNaN(date.getTime())
    ? String(time)
    : date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}
