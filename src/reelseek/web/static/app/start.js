// What stands where nothing is asked yet: examples from the library itself, and its videos.
import { get, offers } from "./api.js";
import { fill, h } from "./dom.js";
import { thumbnail } from "./pictures.js";
import { DETECTED } from "./modalities.js";
import { clock, split } from "./words.js";

const VIDEOS = 24;
const LOOKED_INTO = 6; // videos whose words are looked through for examples

/** The words of a file's name. @param {string} name */
const nameWords = (name) =>
  split(name)[1]
    .replace(/\.[a-z0-9]{2,4}$/i, "")
    .toLowerCase()
    .split(/[^\p{L}]+/u)
    .filter((word) => word.length > 2);

/** Words that stand in so many names that they tell nothing. @param {string[]} names */
function commonWords(names) {
  const counts = new Map();
  for (const name of names) for (const word of new Set(nameWords(name))) counts.set(word, (counts.get(word) || 0) + 1);
  return new Set([...counts].filter(([, number]) => number > 2).map(([word]) => word));
}

/** The first words of what is said or written. @param {string} text */
const few = (text) => text.trim().split(/\s+/).slice(0, 4).join(" ").replace(/["“”]/g, "");

/**
 * Searches that find something here.
 * @param {any[]} videos as `GET /v1/videos/{id}` has them @param {string[]} names of more videos of the library
 * @returns {{query: string, explain: string}[]}
 */
export function examples(videos, names) {
  const rows = [],
    common = commonWords(names);
  for (const video of videos) {
    const spoken = video.texts?.find(
        (/** @type {any} */ line) => line.source === "speech" && line.text !== DETECTED && few(line.text).length > 6,
      ),
      written = video.texts?.find(
        (/** @type {any} */ line) => line.source === "ocr" && /\p{L}{3}/u.test(few(line.text)),
      );
    const caption = video.captions?.[0]?.text;
    if (caption) rows.push({ query: caption.length < 48 ? caption : few(caption), explain: "described" });
    else {
      const words = nameWords(video.name)
        .filter((word) => !common.has(word))
        .slice(0, 4)
        .join(" ");
      if (words) rows.push({ query: words, explain: "named" });
    }
    if (spoken) rows.push({ query: `"${few(spoken.text)}"`, explain: "said" });
    if (written) rows.push({ query: `"${few(written.text)}"`, explain: "on screen" });
  }
  const queries = new Set(),
    kinds = {};
  return rows
    .filter(({ query, explain }) => {
      if (queries.has(query) || (kinds[explain] || 0) >= 3) return false;
      queries.add(query);
      kinds[explain] = (kinds[explain] || 0) + 1;
      return true;
    })
    .slice(0, 8);
}

/** @param {any} video @param {(video: any) => void} open */
function tile(video, open) {
  const [, name] = split(video.name);
  return h(
    "li",
    { class: "card" },
    h(
      "button",
      { type: "button", class: "open", onclick: () => open(video) },
      h(
        "span",
        { class: "picture" },
        video.thumbnail ? thumbnail(video.thumbnail, "no picture") : h("span", { class: "no-picture" }, "no picture"),
        video.duration ? h("time", {}, clock(video.duration)) : null,
      ),
      h("span", { class: "words" }, h("span", { class: "name", title: video.name }, name)),
    ),
  );
}

/**
 * @param {HTMLElement} root @param {string} library @param {string} filter
 * @param {{search: (query: string) => void, open: (video: any) => void, add?: () => void, current: () => boolean}} actions
 */
export async function showStart(root, library, filter, { search, open, add, current }) {
  fill(root);
  if (!(await offers("GET", "/v1/videos"))) return;
  const { data } = await get("/v1/videos", { library, filter, limit: VIDEOS });
  if (!current()) return;
  if (!data.length && filter) {
    fill(root, h("div", { class: "empty" }, h("p", {}, "No video is like that. Take a filter away.")));
    return;
  }
  if (!data.length) {
    fill(
      root,
      h(
        "div",
        { class: "empty" },
        h("h2", {}, "This library is empty"),
        h(
          "p",
          {},
          "Add a folder of videos; what is seen, heard and written in them is searchable as soon as it is read.",
        ),
        add && h("button", { type: "button", onclick: add }, "Add a folder"),
      ),
    );
    return;
  }
  const list = h("ul", { class: "examples" });
  fill(
    root,
    h("h2", { class: "quiet-head" }, "Try"),
    list,
    h("h2", { class: "quiet-head" }, filter ? "Videos that are searched" : "In this library"),
    h("ul", { class: "tiles" }, ...data.map((/** @type {any} */ video) => tile(video, open))),
  );
  const readable = data.filter((/** @type {any} */ video) => video.duration),
    step = Math.max(1, Math.floor(readable.length / LOOKED_INTO));
  const picked = readable
    .filter((/** @type {any} */ _, /** @type {number} */ place) => place % step === 0)
    .slice(0, LOOKED_INTO);
  const videos = await Promise.all(
    picked.map((/** @type {any} */ video) => get(`/v1/videos/${video.id}`, { library }).catch(() => video)),
  );
  if (!current()) return;
  fill(
    list,
    ...examples(
      videos,
      data.map((/** @type {any} */ video) => video.name),
    ).map(({ query, explain }) =>
      h(
        "li",
        {},
        h(
          "button",
          { type: "button", class: "example", onclick: () => search(query) },
          h("span", {}, query),
          h("small", {}, explain),
        ),
      ),
    ),
  );
}
