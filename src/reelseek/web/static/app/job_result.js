// What a job that is over has made, in words and numbers, with links to it.
import { h, iconButton, toast } from "./dom.js";
import { write } from "./route.js";
import { clock, count } from "./words.js";

const SHOWN = 5;

/** @param {any} job @param {Record<string, string>} [more] @returns {Record<string, string>} parameters of an address that shows something of its library */
const place = (job, more = {}) => ({ ...(job.library ? { library: job.library } : {}), ...more });

/** @param {string} hash @param {string} words */
const link = (hash, words) => h("a", { href: hash }, words);

/** @param {number} share */
const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** @param {any} job @param {(body: any) => Promise<any>} start a job */
function trained(job, start) {
  const { model, validation, warnings } = job.result;
  const measured =
    validation && validation.recall_at_1 !== undefined
      ? ` Its best epoch is ${validation.epoch}: of ${percent(validation.recall_at_1)} of the captions of “${validation.split}” the right video comes first, of ${percent(validation.recall_at_10)} among the first ten.`
      : "";
  const body = { kind: "index", ...(job.library ? { library: job.library } : {}), arguments: { model } };
  return [
    h("p", {}, `The model “${model}” is trained.${measured}`),
    ...(warnings || []).map((/** @type {string} */ text) => h("p", { class: "soft" }, text)),
    h("p", {}, link(write("reports", `training-${job.id}`), "Its epochs, and what was measured since")),
    start &&
      h(
        "p",
        {},
        iconButton("search", "Make it searchable", () =>
          start(body).catch((/** @type {Error} */ error) => toast(error.message)),
        ),
      ),
  ];
}

/** @param {any} job */
function indexed(job) {
  const { model, action } = job.arguments || {};
  return (
    model && action !== "verify" && h("p", {}, link(write("search", "", place(job, { model })), `Search with ${model}`))
  );
}

/** @param {any} job */
function evaluated(job) {
  const [report] = job.result.documents,
    ways = {
      "Captions that find their video": report.text_to_video,
      "Videos that find their caption": report.video_to_text,
    };
  const row = (/** @type {string} */ name, /** @type {any} */ figures) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, name),
      ...[figures.recall_at_1, figures.recall_at_5, figures.recall_at_10].map((share) => h("td", {}, percent(share))),
      h("td", {}, String(figures.median_rank)),
    );
  const table = h(
    "table",
    { class: "figures" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("td", {}),
        ...["first", "in five", "in ten", "median rank"].map((name) => h("th", { scope: "col" }, name)),
      ),
    ),
    h(
      "tbody",
      {},
      ...Object.entries(ways)
        .filter(([, figures]) => figures)
        .map(([name, figures]) => row(name, figures)),
    ),
  );
  return [
    h(
      "div",
      {
        class: "table-frame",
        tabindex: "0",
        role: "region",
        "aria-label": `Figures of ${report.split || "all captions"}, job ${job.id}`,
      },
      table,
    ),
    h(
      "p",
      { class: "soft" },
      `${count(report.queries, "caption")}, ${count(report.gallery, "video")}, protocol ${report.protocol}. `,
      link(write("reports", `evaluation-${job.id}`), "The whole report"),
    ),
  ];
}

/** @param {any} job */
function scanned(job) {
  const { pairs, best } = job.result;
  const film = (/** @type {string} */ id, /** @type {string} */ name, /** @type {number} */ start) =>
    link(write("video", id, place(job, { t: String(start) })), `${name} at ${clock(start)}`);
  return [
    h(
      "p",
      {},
      pairs ? `${count(pairs, "pair")} of videos, those that look most alike first:` : "No pair of videos looks alike.",
    ),
    pairs > 0 && h("p", {}, link(write("review", job.id), "Judge them side by side")),
    h(
      "ol",
      {},
      ...best
        .slice(0, SHOWN)
        .map((/** @type {any} */ pair) =>
          h(
            "li",
            {},
            film(pair.test_id, pair.test, pair.test_start),
            " and ",
            film(pair.train_id, pair.train, pair.train_start),
            ` (${pair.score.toFixed(2)})`,
          ),
        ),
    ),
  ];
}

/** @param {any} job */
function captioned(job) {
  const { documents } = job.result,
    lines = documents.reduce((/** @type {number} */ sum, /** @type {any} */ one) => sum + one.lines.length, 0);
  return [
    h("p", {}, `${count(lines, "line")} for ${count(documents.length, "video")}:`),
    h(
      "ul",
      {},
      ...documents
        .slice(0, SHOWN)
        .map((/** @type {any} */ one) =>
          h(
            "li",
            {},
            link(write("video", one.id, place(job)), one.video),
            one.lines.length ? `: ${one.lines[0].text}` : ": nothing, for want of evidence",
          ),
        ),
    ),
    documents.length > SHOWN &&
      h("p", { class: "soft" }, `and ${count(documents.length - SHOWN, "more video", "more videos")}`),
  ];
}

/**
 * What a job has made; nothing while it runs, and for who may not see it.
 * @param {any} job @param {((body: any) => Promise<any>)|null} start a further job; null for who may not
 */
export function jobResult(job, start) {
  const { result, kind } = job;
  if (!result) return null;
  const output = result.output?.trim().split("\n").slice(-2).join(" ");
  const parts = [];
  if (kind === "train" && result.model) parts.push(trained(job, start));
  else if (kind === "scan" && result.best) parts.push(scanned(job));
  else if (kind === "caption" && result.documents) parts.push(captioned(job));
  else if (kind === "evaluate" && result.documents) parts.push(evaluated(job));
  else if (output) parts.push(h("p", { class: "soft job-output" }, output));
  if (job.state === "succeeded" && kind === "index") parts.push(indexed(job));
  if (kind === "add" || kind === "remove")
    parts.push(h("p", {}, link(write("library", job.library), "See the library")));
  return h("div", { class: "job-result" }, ...parts.flat());
}
