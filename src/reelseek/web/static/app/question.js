// What is asked: words, filters and examples; how it stands in the address, and how it goes to the server.
import { readTerms, writeTerms } from "./filters.js";

/**
 * @typedef {object} Question
 * @property {string} library name, "" where there is one only
 * @property {string} words
 * @property {import("./filters.js").Term[]} terms
 * @property {string} image id of an uploaded picture
 * @property {string} clip id of an uploaded clip
 * @property {string} label the name of the file that was uploaded
 * @property {string} moment id of a moment to find the like of
 * @property {string[]} like ids of moments
 * @property {string[]} unlike ids of moments
 * @property {string[]} sources modalities that alone count; none: all
 * @property {string[]} without experts or modalities that do not count
 * @property {Record<string, number>} weights of experts or modalities, where they are not 1
 * @property {{query: string, within: number}|null} then what must follow, within seconds
 * @property {string} model name, "" is the server's own
 * @property {"moment"|"video"} group
 */

/** @returns {Question} */
export const blank = (library = "") => ({
  library,
  words: "",
  terms: [],
  image: "",
  clip: "",
  label: "",
  moment: "",
  like: [],
  unlike: [],
  sources: [],
  without: [],
  weights: {},
  then: null,
  model: "",
  group: "moment",
});

/** Whether there is nothing to search by. @param {Question} question */
export const isBlank = ({ words, image, clip, moment, like }) => !words && !image && !clip && !moment && !like.length;

/** @param {URLSearchParams} parameters @returns {Question} */
export function fromAddress(parameters) {
  /** @type {Record<string, number>} */
  const weights = Object.create(null);
  for (const pair of parameters.getAll("weight")) {
    const cut = pair.lastIndexOf(":"),
      weight = Number(pair.slice(cut + 1));
    if (cut > 0 && Number.isFinite(weight) && weight >= 0) weights[pair.slice(0, cut)] = weight;
  }
  const then = parameters.get("then");
  return {
    library: parameters.get("library") || "",
    words: parameters.get("q") || "",
    terms: readTerms(parameters.get("filter") || "").terms,
    image: parameters.get("image") || "",
    clip: parameters.get("clip") || "",
    label: parameters.get("file") || "",
    moment: parameters.get("of") || "",
    like: parameters.getAll("like"),
    unlike: parameters.getAll("unlike"),
    sources: parameters.getAll("by"),
    without: parameters.getAll("without"),
    weights,
    then: then ? { query: then, within: Number(parameters.get("within")) || 30 } : null,
    model: parameters.get("model") || "",
    group: parameters.get("group") === "video" ? "video" : "moment",
  };
}

/** @param {Question} question @returns {URLSearchParams} what differs from a blank one */
export function toAddress(question) {
  const parameters = new URLSearchParams();
  const plain = {
    library: question.library,
    q: question.words,
    filter: writeTerms(question.terms),
    image: question.image,
    clip: question.clip,
    file: question.label,
    of: question.moment,
    model: question.model,
  };
  for (const [name, value] of Object.entries(plain)) if (value) parameters.set(name, value);
  for (const [name, values] of Object.entries({
    like: question.like,
    unlike: question.unlike,
    by: question.sources,
    without: question.without,
  }))
    for (const value of values) parameters.append(name, value);
  for (const [name, weight] of Object.entries(question.weights))
    if (weight !== 1) parameters.append("weight", `${name}:${weight}`);
  if (question.then) {
    parameters.set("then", question.then.query);
    parameters.set("within", String(question.then.within));
  }
  if (question.group === "video") parameters.set("group", "video");
  return parameters;
}

/** The body of `POST /v1/search`, without what is not asked for. @param {Question} question */
export function toBody(question) {
  const body = {
    library: question.library,
    query: question.words,
    filter: writeTerms(question.terms),
    image: question.image,
    clip: question.clip,
    moment: question.moment,
    like: question.like,
    unlike: question.unlike,
    sources: question.sources,
    without: question.without,
    weights: Object.fromEntries(Object.entries(question.weights).filter(([, weight]) => weight !== 1)),
    then: question.then,
    model: question.model,
    group_by: question.group,
    explain: true,
  };
  return Object.fromEntries(
    Object.entries(body).filter(([, value]) =>
      Array.isArray(value) ? value.length : value && typeof value === "object" ? Object.keys(value).length : value,
    ),
  );
}
