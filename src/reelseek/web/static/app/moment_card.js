// A moment that is kept, as a card.
import { h } from "./dom.js";
import { thumbnail } from "./pictures.js";
import { clock, split } from "./words.js";

/**
 * @param {{name: string, start: number, end: number, thumbnail: string|null}} row
 * @param {{href?: string, onclick?: () => void}} target where it leads @param {...any} foot what stands below it
 */
export function momentCard(row, target, ...foot) {
  const [, name] = split(row.name),
    picture = h(
      "span",
      { class: "picture" },
      row.thumbnail
        ? thumbnail(row.thumbnail, "no picture")
        : h("span", { class: "no-picture" }, "no longer in the library"),
      h("time", {}, `${clock(row.start)}–${clock(row.end)}`),
    );
  const words = h("span", { class: "words" }, h("span", { class: "name", title: row.name }, h("span", {}, name)));
  const open = target.href
    ? h("a", { class: "open", href: target.href }, picture, words)
    : h(
        "button",
        { type: "button", class: "open", disabled: !target.onclick, onclick: target.onclick },
        picture,
        words,
      );
  return h("li", { class: "card" }, open, foot.length > 0 && h("div", { class: "moment-foot" }, ...foot));
}
