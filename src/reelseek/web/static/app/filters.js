// The grammar of filters as the box has it: `key:value`, `-` in front of one negates it, a value with blanks stands in
// double quotes. The server reads it for good; here it is read so that each term can be a chip.

/** @typedef {{key: string, value: string, negated: boolean}} Term */

/** The keys, what stands on their chips, and an example of a value. */
export const KEYS = {
  folder: { chip: "in folder", example: "holiday", explain: "videos of a folder" },
  name: { chip: "named", example: "pancake", explain: "part of a video's name" },
  after: { chip: "from", example: "2020-05", explain: "taken on or after a date" },
  before: { chip: "before", example: "2021", explain: "taken before a date" },
  longer: { chip: "longer than", example: "1m", explain: "videos longer than" },
  shorter: { chip: "shorter than", example: "10m", explain: "videos shorter than" },
  has: { chip: "has", example: "speech", explain: "videos with speech, text or sound" },
  split: { chip: "split", example: "test", explain: "one split of a dataset" },
  tag: { chip: "tagged", example: "holiday", explain: "videos that have a tag, or a moment that has it" },
};

const TERM = /(?<!\S)(-?)([A-Za-z]{2,}):(?!\/\/|:)(?:"([^"]*)"|([^\s"]+))(?!\S)/g;

/** Take the terms of known keys out of a text. @param {string} typed @returns {{words: string, terms: Term[]}} */
export function readTerms(typed) {
  /** @type {Term[]} */
  const terms = [];
  const text = typed
    .normalize("NFKC")
    .replace(/[“”„‟«»「」『』〝〞]/g, '"')
    .replaceAll("\u2212", "-");
  const quoted = phrases(text);
  const words = text.replace(TERM, (match, minus, key, value, plain, place) => {
    const name = key.toLowerCase();
    if (!Object.hasOwn(KEYS, name) || quoted.some(([start, end]) => start <= place && place < end)) return match;
    terms.push({ key: name, value: value ?? plain, negated: minus === "-" });
    return " ";
  });
  return { words: (terms.length ? words : typed).replace(/\s+/g, " ").trim(), terms };
}

/** Spans of a text in double quotes that are no term's value: they are words. @param {string} text */
function phrases(text) {
  return [...text.matchAll(/(?<!\S)-?"[^"]*"/g)].map((match) => [match.index, match.index + match[0].length]);
}

/** @param {Term} term */
export const writeTerm = ({ key, value, negated }) =>
  `${negated ? "-" : ""}${key}:${/\s|^:|^\/\//.test(value) ? `"${value}"` : value}`;

/** @param {Term[]} terms */
export const writeTerms = (terms) => terms.map(writeTerm).join(" ");

/** @param {Term} term */
export const chipWords = ({ key, value, negated }) => `${negated ? "not " : ""}${KEYS[key].chip} ${value}`;

/** Add a term; one of the same key and value, or of a key that holds once and is negated alike, makes room. @param {Term[]} terms @param {Term} added */
export function withTerm(terms, added) {
  const once = ["after", "before", "longer", "shorter"].includes(added.key);
  return [
    ...terms.filter(
      (term) => term.key !== added.key || (once ? term.negated !== added.negated : term.value !== added.value),
    ),
    added,
  ];
}

/**
 * What the last word of a text may become.
 * @param {string} text
 * @param {Record<string, string[]>} values of some keys, as the library has them
 * @returns {{text: string, label: string, explain: string}[]}
 */
export function completions(text, values) {
  const match = /(?:^|\s)(-?)([A-Za-z]*)(:?)(?:"([^"]*)|([^\s"]*))$/.exec(text);
  if (!match || (!match[2] && !match[3])) return [];
  const [, minus, word, colon, quoted, plain] = match,
    part = quoted ?? plain,
    head = text.slice(0, text.length - match[0].trimStart().length);
  if (!colon) {
    if (word.length < 2) return [];
    return Object.keys(KEYS)
      .filter((key) => key.startsWith(word.toLowerCase()))
      .map((key) => ({
        text: `${head}${minus}${key}:`,
        label: `${minus}${key}:`,
        explain: `${KEYS[key].explain}, as ${key}:${KEYS[key].example}`,
      }));
  }
  const key = word.toLowerCase();
  return (Object.hasOwn(KEYS, key) ? values[key] || [] : [])
    .filter((value) => value.toLowerCase().includes(part.toLowerCase()))
    .slice(0, 8)
    .map((value) => {
      const term = writeTerm({ key, value, negated: Boolean(minus) });
      return { text: `${head}${term} `, label: term, explain: KEYS[key].explain };
    });
}
