// The application: its places, what is on the keyboard everywhere, and who is using it.
import { Unreachable } from "./api.js";
import { Box } from "./box.js";
import { searched, usualLibrary } from "./catalog.js";
import { closeDialog, dialogOpen } from "./dialog.js";
import { by, fill, h, icon, iconButton } from "./dom.js";
import { showHelp, shortcutsOn } from "./help.js";
import { keeping } from "./keeping.js";
import { go, onRoute, read, write } from "./route.js";
import { loadSession, may } from "./session.js";
import { SearchView, searchedBy } from "./search.js";
import { account, showSignIn } from "./account.js";
import { switchTheme } from "./theme.js";

/**
 * A page of the application.
 * @typedef {{root: HTMLElement, title?: string, show: (route: import("./route.js").Route) => any, hide?: () => void, key?: (event: KeyboardEvent) => boolean}} Page
 */

/** Places that stand in the navigation, what the server has to offer for them, and the module of their page. */
const PLACES = [
  { view: "search", words: "Search", icon: "search", needs: ["POST", "/v1/search"] },
  { view: "collections", words: "Collections", icon: "keep", needs: ["GET", "/v1/collections"] },
  { view: "library", words: "Library", icon: "library", needs: ["GET", "/v1/libraries"] },
  { view: "review", words: "Review", icon: "review", needs: ["GET", "/v1/reviews"], scope: "review" },
  { view: "reports", words: "Reports", icon: "report", needs: ["GET", "/v1/reports"] },
  { view: "jobs", words: "Jobs", icon: "jobs", needs: ["GET", "/v1/jobs"] },
];
const MODULES = new Map([
  ["video", "./video.js"],
  ["collections", "./collections.js"],
  ["library", "./library.js"],
  ["jobs", "./jobs.js"],
  ["review", "./review.js"],
  ["reports", "./reports.js"],
]);

const LIBRARY_VIEWS = ["search", "library", "video"];

/** @type {Map<string, Page>} */
const pages = new Map();
/** @type {Page|null} */
let shown = null;
/** @type {SearchView} */
let search;
/** @type {Set<string>} */
let offered = new Set();
let turn = 0;

/** @param {string} view @returns {Promise<Page>} */
async function page(view) {
  if (!pages.has(view)) pages.set(view, (await import(/** @type {string} */ (MODULES.get(view)))).create());
  return /** @type {Page} */ (pages.get(view));
}

async function route() {
  const mine = ++turn,
    place = read(),
    view = pages.has(place.view) || MODULES.has(place.view) ? place.view : "search";
  by("main").querySelector(":scope > .trouble")?.remove();
  try {
    const next = await page(view);
    if (mine !== turn || !(await libraryNamed(place, view)) || mine !== turn) return;
    if (next !== shown) {
      shown?.hide?.();
      fill(by("main"), next.root);
      if (shown) {
        scrollTo({ top: 0 });
        by("main").focus({ preventScroll: true });
      }
      shown = next;
    }
    if (view !== "search") document.title = `${next.title || view} · Reelseek`;
    drawPlaces(view);
    await next.show(place);
  } catch (error) {
    if (mine === turn) showTrouble(/** @type {Error} */ (error), route);
  }
}

/**
 * Where there are several libraries an address names one; one that does not leads to the usual one.
 * @param {import("./route.js").Route} place @param {string} view @returns {Promise<boolean>} whether it does
 */
async function libraryNamed(place, view) {
  const named = place.parameters.get("library") || "";
  if (!named && LIBRARY_VIEWS.includes(view)) {
    const usual = await usualLibrary().catch(() => "");
    if (usual) {
      place.parameters.set("library", usual);
      go(write(view, place.id, place.parameters), { replace: true });
      return false;
    }
  }
  if (named) localStorage.setItem("library", named);
  const current = named || (await usualLibrary().catch(() => ""));
  search.useLibrary(current, place.parameters.get("model") || "");
  await keeping.use(current).catch(() => {});
  if (LIBRARY_VIEWS.includes(view)) {
    const select = by("corner").querySelector("select");
    if (select) select.value = named;
  }
  return true;
}

/** @param {string} view */
function drawPlaces(view) {
  const links = PLACES.filter((place) => offered.has(place.view)).map((place) =>
    h(
      "a",
      { href: write(place.view), "aria-current": place.view === view ? "page" : undefined },
      icon(/** @type {any} */ (place.icon)),
      h("span", {}, place.words),
    ),
  );
  fill(by("places"), ...(links.length > 1 ? links : []));
  document.body.classList.toggle("with-places", links.length > 1);
}

/** @param {Error} error @param {() => void} retry */
function showTrouble(error, retry) {
  if (by("sign-in")) return; // it says what is missing
  const words =
    error instanceof Unreachable
      ? "The server does not answer. It may have been stopped, or the network is down."
      : error.message;
  const box = h(
    "div",
    { class: "trouble", role: "alert" },
    h("p", {}, words),
    iconButton("retry", "Try again", () => {
      box.remove();
      retry();
    }),
  );
  by("main").querySelector(":scope > .trouble")?.remove();
  by("main").prepend(box);
}

/** @param {KeyboardEvent} event */
function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const target = /** @type {HTMLElement} */ (event.target),
    typing = target.matches("input:not([type=checkbox], [type=range]), textarea, select");
  if (event.key === "Escape") {
    if (dialogOpen()) return; // it closes itself
    if (typing) target.blur();
    else if (!shown?.key?.(event)) return;
    event.preventDefault();
    return;
  }
  if (typing || dialogOpen() || !shortcutsOn()) return;
  if (
    event.key === " " &&
    target.matches("button, a, summary, [role=slider], input") &&
    !target.closest("[data-place].current")
  )
    return;
  if (shown?.key?.(event)) {
    event.preventDefault();
    return;
  }
  if (event.key === "/") search.focusBox();
  else if (event.key === "?") showHelp(offered);
  else if (event.key === "t") switchTheme();
  else return;
  event.preventDefault();
}

async function drawCorner() {
  const listed = await searched().catch(() => []);
  const current = read().parameters.get("library") || listed[0]?.name;
  const select =
    listed.length > 1 &&
    h(
      "select",
      {
        "aria-label": "Library",
        onchange: (/** @type {any} */ event) =>
          go(write(read().view === "library" ? "library" : "search", "", { library: event.target.value })),
      },
      ...listed.map(({ name }) => h("option", { value: name, selected: name === current }, name)),
    );
  fill(
    by("corner"),
    select,
    iconButton("theme", "Dark or light (t)", switchTheme, { bare: true }),
    iconButton("help", "Help (?)", () => showHelp(offered), { bare: true }),
    account(),
  );
}

async function start() {
  history.scrollRestoration = "manual";
  for (const [id, name, label] of [
    ["go", "search", "Search"],
    ["by-picture", "picture", "Search by a picture or a clip"],
  ]) {
    fill(by(id), icon(/** @type {any} */ (name)));
    by(id).setAttribute("aria-label", label);
    by(id).title = label;
  }
  await open();
}

async function open() {
  if (read().view === "shared") {
    await openShared();
    return;
  }
  await loadSession();
  const can = await searchedBy();
  const answers = await Promise.all(PLACES.map((place) => may(place.scope || "read", place.needs[0], place.needs[1])));
  offered = new Set(PLACES.filter((_, place) => answers[place]).map((place) => place.view));
  await keeping.load().catch(() => {});
  const box = new Box({ search: (text) => search.askWords(text), upload: (file) => search.upload(file) });
  search = new SearchView({ box, canSearchBy: can });
  if (can.has("uploads")) box.takeFiles();
  pages.set("search", search);
  onRoute(route);
  document.addEventListener("keydown", key);
  await drawCorner();
  await route();
  if (!location.hash) by("query").focus();
}

/** What somebody shared by a link needs nobody to sign in, and has nothing around it. */
async function openShared() {
  by("search").hidden = true;
  fill(by("corner"), iconButton("theme", "Dark or light (t)", switchTheme, { bare: true }));
  const next = (await import("./shared.js")).create();
  fill(by("main"), next.root);
  await next.show(read());
  onRoute(() => location.reload());
}

/** Once more, until the server answers. */
function begin() {
  start().catch((error) => showTrouble(error, begin));
}

window.addEventListener("signed-out", () => {
  closeDialog();
  showSignIn(() => location.reload());
});
begin();
