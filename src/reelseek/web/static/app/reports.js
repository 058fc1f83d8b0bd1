// What was measured: evaluations and trainings as tables, and pages that a report wrote, each in the application's frame.
import { address, get } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { go, write } from "./route.js";
import { count, size, when } from "./words.js";

const KINDS = { evaluation: "Evaluation", training: "Training", page: "Page" };

/** A number with its interval, which stands smaller. @param {string} cell */
function figure(cell) {
  const cut = cell.indexOf(" [");
  return cut < 0 ? cell : [cell.slice(0, cut), " ", h("small", {}, cell.slice(cut + 1))];
}

/** @param {{title: string, columns: string[], rows: {cells: string[], report: string|null}[], note: string}} table */
function tableOf({ title, columns, rows, note }) {
  const row = (/** @type {any} */ { cells: [name, ...rest], report }) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, report ? h("a", { href: write("reports", report) }, name) : name),
      ...rest.map((/** @type {string} */ cell) => h("td", { class: "number" }, figure(cell))),
    );
  return h(
    "section",
    { class: "measured" },
    h("h2", {}, title),
    h(
      "div",
      { class: "table-frame", tabindex: "0", role: "region", "aria-label": title },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ...columns.map((column, place) =>
              column ? h("th", { scope: "col", class: place ? "number" : "" }, column) : h("td", {}),
            ),
          ),
        ),
        h("tbody", {}, ...rows.map(row)),
      ),
    ),
    note && h("p", { class: "soft" }, note),
  );
}

class ReportsPage {
  constructor() {
    this.title = "Reports";
    this.root = h("section", { class: "page wide-page", "aria-label": "Reports" });
  }

  /** @param {import("./route.js").Route} route */
  async show({ id }) {
    this._id = id;
    if (id) await this._showOne(id);
    else await this._showAll();
  }

  async _showAll() {
    document.title = "Reports · Reelseek";
    const { data } = await get("/v1/reports");
    if (this._id) return;
    const several = new Set(data.map((/** @type {any} */ row) => row.library).filter(Boolean)).size > 1;
    const rows = data.map((/** @type {any} */ row) =>
      h(
        "li",
        {},
        h(
          "div",
          { class: "grow" },
          h("p", {}, h("a", { href: write("reports", row.id) }, row.title)),
          h(
            "p",
            { class: "soft" },
            [KINDS[row.kind], several && row.library, when(row.time), row.summary].filter(Boolean).join(" · "),
          ),
        ),
      ),
    );
    fill(
      this.root,
      h("h1", {}, "Reports"),
      h(
        "p",
        { class: "soft" },
        "What models were measured to do here, how they were trained, and pages that ",
        h("code", {}, "reelseek report"),
        " wrote into the folder ",
        h("code", {}, "reports"),
        " of the server’s state.",
      ),
      rows.length
        ? h("ul", { class: "rows" }, ...rows)
        : h(
            "div",
            { class: "empty" },
            h("p", {}, "Nothing was measured here yet. A job that evaluates or trains a model leaves its report here."),
          ),
    );
  }

  /** @param {string} id */
  async _showOne(id) {
    const report = await get(`/v1/reports/${encodeURIComponent(id)}`);
    if (id !== this._id) return;
    document.title = `${report.title} · Reelseek`;
    const back = h(
      "a",
      {
        class: "quiet bare",
        href: write("reports"),
        "aria-label": "All reports",
        title: "All reports",
        onclick: (/** @type {Event} */ event) => {
          event.preventDefault();
          go(write("reports"));
        },
      },
      icon("previous"),
    );
    const files = report.files.map((/** @type {any} */ file) =>
      h(
        "li",
        {},
        h("a", { class: "grow", href: address(file.url), download: "" }, file.name),
        h("span", { class: "soft" }, size(file.bytes)),
      ),
    );
    fill(
      this.root,
      h("div", { class: "page-head" }, back, h("h1", {}, report.title)),
      h("p", { class: "soft" }, [KINDS[report.kind], report.library, when(report.time)].filter(Boolean).join(" · ")),
      ...report.notes.map((/** @type {string} */ note) => h("p", { class: "soft" }, note)),
      ...report.tables.map(tableOf),
      report.page && h("iframe", { class: "report-page", src: address(report.page), sandbox: "", title: report.title }),
      files.length > 0 &&
        h("details", {}, h("summary", {}, count(files.length, "file")), h("ul", { class: "rows" }, ...files)),
    );
  }
}

export const create = () => new ReportsPage();
