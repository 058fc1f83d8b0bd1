// Elements of the page. What videos, people and files say reaches it as text nodes only, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Paths of the icons, on a grid of 24 x 24, drawn as lines. */
const ICONS = {
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14M16.2 16.2 21 21",
  close: "M6 6l12 12M18 6 6 18",
  picture: "M4 5h16v14H4zM4 16l4.5-4.5 4 4L15 13l5 4M15.5 9.2h.01",
  filter: "M4 6h16M7 12h10M10 18h4",
  sliders: "M5 4v6M5 14v6M12 4v3M12 11v9M19 4v9M19 17v3M3 12h4M10 9h4M17 15h4",
  then: "M4 12h13M12 7l5 5-5 5M21 6v12",
  keep: "M6 4h12v16l-6-4.5L6 20z",
  more: "M12 5v14M5 12h14",
  less: "M5 12h14",
  sound: "M4 10v4h3l5 4V6L7 10zM16 9a4.5 4.5 0 0 1 0 6M18.5 6.5a8 8 0 0 1 0 11",
  mute: "M4 10v4h3l5 4V6L7 10zM16 9.5l5 5M21 9.5l-5 5",
  play: "M8 5.5v13l10.5-6.5z",
  pause: "M8 5v14M16 5v14",
  full: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  film: "M4 5h16v14H4zM8 5v14M16 5v14M4 9.7h4M4 14.3h4M16 9.7h4M16 14.3h4",
  library: "M4 6l2-2h4l2 2h8v13H4z",
  jobs: "M12 4a8 8 0 1 0 8 8M12 8v4l3 2M16 4h4v4",
  link: "M10 14a4 4 0 0 0 6 0l3-3a4.2 4.2 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4.2 4.2 0 0 0 6 6l1-1",
  help: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M9.5 9.3a2.6 2.6 0 1 1 3.6 2.4c-.8.4-1.1.9-1.1 1.8M12 16.8h.01",
  theme: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8M4.5 20a7.5 7.5 0 0 1 15 0",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
  retry: "M19 12a7 7 0 1 1-2-5M19 4v4h-4",
  previous: "M15 5l-7 7 7 7",
  next: "M9 5l7 7-7 7",
  review: "M3 6h8v12H3zM13 6h8v12h-8M6 12l1.5 1.5L10 10.5",
  report: "M5 20V4M5 20h15M9 16v-5M13 16V8M17 16v-3",
};

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, any>} [properties] `class`, `on…` handlers, `data-…`, `aria-…` and other attributes;
 *   undefined, null and false leave an attribute out.
 * @param {...any} children text or elements, or lists of them; null, undefined and false are nothing.
 * @returns {any}
 */
export function h(tag, properties = {}, ...children) {
  const element = /** @type {any} */ (document.createElement(tag));
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...present(children));
  return element;
}

/** Replace what an element holds. @param {Element} element @param {...any} children */
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
  return element;
}

/** @param {any[]} children */
function present(children) {
  return children
    .flat()
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child)));
}

/** An icon; beside text or within a labelled button, so it says nothing itself. @param {keyof typeof ICONS} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg"),
    path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * A button with an icon, and its words beside it or, `bare`, as its label only.
 * @param {keyof typeof ICONS} name @param {string} label @param {((event: any) => any)|null} onclick @param {Record<string, any>} [properties]
 */
export function iconButton(name, label, onclick, properties = {}) {
  const { bare = false, ...rest } = properties;
  const button = h(
    "button",
    { type: "button", class: bare ? "quiet bare" : "quiet", title: label, onclick, ...rest },
    icon(name),
    bare ? null : h("span", {}, label),
  );
  if (bare) button.setAttribute("aria-label", label);
  return button;
}

/** @param {string} id @returns {any} */
export const by = (id) => document.getElementById(id);

/** Say something in passing, aloud for screen readers too. @param {string} text @param {{label: string, act: () => void}} [action] */
export function toast(text, action) {
  const bubble = h("div", { class: "toast" }, h("span", {}, text));
  const gone = setTimeout(() => bubble.remove(), action ? 9000 : 5000);
  if (action)
    bubble.append(
      h(
        "button",
        {
          type: "button",
          class: "quiet",
          onclick: () => {
            clearTimeout(gone);
            bubble.remove();
            action.act();
          },
        },
        action.label,
      ),
    );
  by("toasts").append(bubble);
  while (by("toasts").children.length > 3) by("toasts").firstChild.remove();
}
