// What a search consists of besides its words, as chips that can be taken away.
import { address } from "./api.js";
import { h, icon } from "./dom.js";
import { chipWords } from "./filters.js";
import { modalityWords } from "./modalities.js";
import { clock } from "./words.js";

/** @typedef {import("./question.js").Question} Question */

/** A moment's id, read. @param {string} id VIDEO@START-END, behind which :MODALITY may stand */
export function readMoment(id) {
  const match = /^([^@]+)@(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?|end|)(?::([\w-]+))?$/.exec(id);
  return match
    ? {
        video: match[1],
        start: Number(match[2]),
        end: match[3] === "" || match[3] === "end" ? null : Number(match[3]),
        modality: match[4] || "",
      }
    : null;
}

/** @param {string} words @param {() => void} remove @param {{picture?: string, kind?: string}} [look] */
function chip(words, remove, { picture = "", kind = "" } = {}) {
  const button = h(
    "button",
    { type: "button", class: "quiet bare", "aria-label": `Remove: ${words}`, title: "Remove", onclick: remove },
    icon("close"),
  );
  return h(
    "li",
    { class: `chip ${kind}` },
    picture && h("img", { src: address(picture), alt: "" }),
    h("span", {}, words),
    button,
  );
}

/** @param {string} words @param {string} id @param {Question} question @param {() => void} remove @param {string} [kind] */
function momentChip(words, id, question, remove, kind = "") {
  const moment = readMoment(id);
  if (!moment) return chip(`${words} an upload`, remove, { kind });
  if (moment.modality) words = `${words}, by ${modalityWords(moment.modality).toLowerCase()},`;
  const middle = ((moment.start + (moment.end ?? moment.start)) / 2).toFixed(2),
    library = question.library ? `&library=${encodeURIComponent(question.library)}` : "";
  return chip(`${words} ${clock(moment.start)}`, remove, {
    picture: `/v1/videos/${moment.video}/thumbnail?at=${middle}${library}`,
    kind,
  });
}

/** @param {Question} question @param {(changed: Partial<Question>) => void} change @returns {HTMLElement[]} */
export function chips(question, change) {
  const without = (/** @type {any[]} */ list, /** @type {any} */ one) => list.filter((other) => other !== one);
  const weighted = Object.entries(question.weights).filter(([, weight]) => weight !== 1);
  return [
    question.image &&
      chip(`like the picture ${question.label}`, () => change({ image: "", label: "" }), { kind: "example" }),
    question.clip &&
      chip(`like the clip ${question.label}`, () => change({ clip: "", label: "" }), { kind: "example" }),
    question.moment && momentChip("like", question.moment, question, () => change({ moment: "" }), "example"),
    ...question.like.map((id) =>
      momentChip("more like", id, question, () => change({ like: without(question.like, id) }), "example"),
    ),
    ...question.unlike.map((id) =>
      momentChip("less like", id, question, () => change({ unlike: without(question.unlike, id) }), "against"),
    ),
    ...question.terms.map((term) => chip(chipWords(term), () => change({ terms: without(question.terms, term) }))),
    ...question.without.map((name) =>
      chip(`without ${modalityWords(name).toLowerCase()}`, () => change({ without: without(question.without, name) }), {
        kind: "against",
      }),
    ),
    ...weighted.map(([name, weight]) =>
      chip(`${modalityWords(name).toLowerCase()} × ${weight}`, () => {
        const { [name]: _, ...rest } = question.weights;
        change({ weights: rest });
      }),
    ),
    question.sources.length > 0 &&
      chip(`only ${question.sources.map(modalityWords).join(", ").toLowerCase()}`, () => change({ sources: [] })),
    question.model && chip(`by the model ${question.model}`, () => change({ model: "", weights: {}, without: [] })),
    question.then && chip(`then ${question.then.query} within ${question.then.within} s`, () => change({ then: null })),
  ].filter(Boolean);
}
