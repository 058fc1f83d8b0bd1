// A pair of videos as a card: both sides at the place that matches, what was said of it, and the verdicts.
import { h } from "./dom.js";
import { clock } from "./words.js";
import { picture } from "../media.js";

export const VERDICTS = [
  ["d", "duplicate"],
  ["n", "near-duplicate"],
  ["x", "not"],
  ["?", "unsure"],
  ["b", "screensaver"],
];

/**
 * @typedef {{place: number, score: number, sound: number|null, window: number, test: any, train: any, mine: string|null, said: any[], opinions: number, seen?: boolean, asked?: boolean}} Pair
 * @typedef {(side: any, start: number, seconds: number, frames: number, height: number) => string} Strip
 */

/** @param {any} facts @param {number} seconds @param {{strip: Strip, preview: () => void}} options */
function side(facts, seconds, { strip, preview }) {
  const screen = h("div", { class: "screen" }, facts.play ? "" : "no file at hand");
  const about = [
    `${clock(facts.start)}–${clock(facts.start + seconds)}`,
    facts.duration && `of ${clock(facts.duration)}`,
    facts.width && `${facts.width}×${facts.height}`,
    facts.bytes && `${(facts.bytes / 1e6).toFixed(1)} MB`,
  ]
    .filter(Boolean)
    .join(" · ");
  const box = h(
    "div",
    { class: "side" },
    h("div", { class: "name", title: facts.name }, facts.name),
    h("div", { class: "facts" }, about),
    screen,
  );
  if (!facts.strip) return box;
  const still = h("img", { alt: "", loading: "lazy" }),
    frames = h("img", { class: "strip", alt: "", loading: "lazy", onclick: preview });
  picture(still, strip(facts, facts.start, seconds, 1, 300), () =>
    still.replaceWith("no picture: the file is gone or damaged"),
  );
  screen.replaceChildren(still);
  picture(frames, strip(facts, facts.start, seconds, 6, 108), () => frames.remove());
  box.append(frames);
  return box;
}

/**
 * @param {Pair} pair
 * @param {{who: string, strip: Strip, say: (verdict: string) => void, preview: () => void, choose: () => void}} options
 */
export function pairCard(pair, { who, strip, say, preview, choose }) {
  const heard =
    pair.sound !== null && h("span", {}, `${pair.sound > 0.35 ? "same" : "other"} sound (${pair.sound.toFixed(2)})`);
  const badges = pair.said.map(({ who: other, verdict }) =>
    h("span", { class: `badge ${verdict}` }, `${other === who ? "you" : other}: ${verdict}`),
  );
  const buttons = VERDICTS.map(([key, verdict]) =>
    h(
      "button",
      { type: "button", "aria-pressed": String(pair.mine === verdict), onclick: () => say(verdict) },
      `${verdict} (${key})`,
    ),
  );
  return h(
    "section",
    { class: "pair", "aria-label": `Pair ${pair.place + 1}`, onpointerdown: choose },
    h(
      "div",
      { class: "head" },
      h("b", {}, `#${pair.place + 1}`),
      h("span", {}, `score ${pair.score.toFixed(3)}`),
      heard,
      badges,
    ),
    h(
      "div",
      { class: "sides" },
      side(pair.test, pair.window, { strip, preview }),
      side(pair.train, pair.window, { strip, preview }),
    ),
    h("div", { class: "verdicts" }, buttons),
  );
}
