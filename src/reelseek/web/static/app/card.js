// A hit as a card: its picture with a strip of frames under the pointer, how sure it is, and why.
import { h, iconButton } from "./dom.js";
import { hoverStrip, thumbnail } from "./pictures.js";
import { clock, split } from "./words.js";

/** @typedef {import("./results.js").Hit} Hit */

/** How sure a hit is, in a word and a number. @param {Hit} hit */
export function sureness(hit) {
  if (hit.confidence === null || hit.confidence === undefined)
    return h(
      "span",
      { class: "sure", title: "How near it is; this kind of search has no confidence" },
      `similarity ${hit.score.toFixed(2)}`,
    );
  const percent = Math.round(100 * hit.confidence);
  return h(
    "span",
    {
      class: `sure ${hit.strength || ""}`,
      title: `Of unrelated searches, ${percent} % find nothing as near in this library`,
    },
    h("i", { "aria-hidden": "true" }),
    `${hit.strength || "match"} · ${percent} %`,
  );
}

/** A reason in a sentence, its kind set off from what was matched. @param {import("./results.js").Reason} reason @param {string} [tag] */
export function reasonLine({ sentence, modality, matched }, tag = "p") {
  const text = sentence || (matched ? `${modality}: ${matched}` : modality),
    cut = text.indexOf(": ");
  return h(tag, { class: "reason" }, cut > 0 ? [h("b", {}, text.slice(0, cut + 1)), ` ${text.slice(cut + 2)}`] : text);
}

/** What speaks for a hit, each sentence once: the same line may fit by its words and by its sense. @param {Hit} hit */
const reasons = ({ why }) =>
  why
    .filter(({ gave }) => gave > 0)
    .filter(
      (reason, place, all) =>
        !reason.sentence || all.findIndex(({ sentence }) => sentence === reason.sentence) === place,
    );

/** @param {Hit} hit */
export const span = (hit) =>
  hit.end === null ? (hit.start ? `from ${clock(hit.start)}` : "whole video") : `${clock(hit.start)}–${clock(hit.end)}`;

/**
 * @param {Hit} hit
 * @param {{open: () => void, keep?: () => void, more?: () => void, less?: () => void, kept: boolean, current: boolean}} actions
 */
export function card(hit, { open, keep, more, less, kept, current }) {
  const [folder, name] = split(hit.name);
  const frame = h("span", { class: "picture" }, thumbnail(hit.thumbnail, "no picture"), h("time", {}, span(hit)));
  const words = h(
    "span",
    { class: "words" },
    h(
      "span",
      { class: "name", title: hit.name },
      folder && h("span", { class: "folder" }, folder),
      h("span", {}, name),
    ),
    sureness(hit),
    ...reasons(hit)
      .slice(0, 2)
      .map((reason) => reasonLine(reason, "span")),
  );
  const button = h(
    "button",
    { type: "button", class: "open", onclick: open, "aria-pressed": String(current) },
    frame,
    words,
  );
  const actions = h(
    "span",
    { class: "actions" },
    keep &&
      iconButton("keep", kept ? "Kept" : "Keep (s)", keep, {
        bare: true,
        tabindex: "-1",
        "aria-pressed": String(kept),
      }),
    more && iconButton("more", "More like this (m)", more, { bare: true, tabindex: "-1" }),
    less && iconButton("less", "Less like this (x)", less, { bare: true, tabindex: "-1" }),
  );
  const item = h("li", { class: current ? "card current" : "card" }, button, actions);
  hoverStrip(frame, hit.strip);
  return item;
}
