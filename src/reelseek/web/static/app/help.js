// What is on the keyboard, and how to ask.
import { openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { KEYS } from "./filters.js";

const EVERYWHERE = [
  ["/", "to the search box"],
  ["?", "this help"],
  ["t", "dark or light"],
  ["Esc", "close what is open"],
];
const HITS = [
  ["← ↑ → ↓", "from hit to hit"],
  ["Enter", "play the moment"],
  ["n p", "the next one, the previous one"],
  ["s", "keep it"],
  ["m", "more like this"],
  ["x", "less like this"],
  ["a", "sounds like this"],
  ["v", "open the whole video"],
  ["f w e", "filters, weights, “then”"],
];
const PLAYER = [
  ["space", "play or pause"],
  [", .", "a frame back, a frame on"],
  ["< >", "five seconds back, five on"],
  ["← →", "on the curve: a second back, a second on"],
];
const ASKING = [
  ["dog -cat", "a dog, and no cat"],
  ["dog^2 beach", "the dog weighs double"],
  ['"open door"', "must be said or stand on the screen"],
  ...Object.entries(KEYS).map(([key, { example, explain }]) => [`${key}:${example}`, explain]),
];

export const shortcutsOn = () => localStorage.getItem("shortcuts") !== "off";

/** @param {string} title @param {string[][]} rows @param {string} tag */
const table = (title, rows, tag) =>
  h(
    "section",
    {},
    h("h3", {}, title),
    h(
      "dl",
      { class: "keys" },
      ...rows.flatMap(([keys, words]) => [
        h("dt", {}, ...(tag === "kbd" ? keys.split(" ").map((key) => h("kbd", {}, key)) : [h("code", {}, keys)])),
        h("dd", {}, words),
      ]),
    ),
  );

/** @param {Set<string>} offered places that this server has */
export function showHelp(offered) {
  const hits = HITS.filter(([keys]) => keys !== "s" || offered.has("collections"));
  const box = h("input", {
    type: "checkbox",
    checked: shortcutsOn(),
    onchange: () => localStorage.setItem("shortcuts", box.checked ? "on" : "off"),
  });
  openDialog(
    "Help",
    h(
      "div",
      { class: "help" },
      table("Everywhere", EVERYWHERE, "kbd"),
      table("On a hit", hits, "kbd"),
      table("Player", PLAYER, "kbd"),
      table("How to ask", ASKING, "code"),
    ),
    h("label", { class: "line" }, box, " single keys do this"),
  );
}
