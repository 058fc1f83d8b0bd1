// Where one is: `#/search?q=…`. All state that a link, Back and Forward shall bring back stands in the address.

/** @typedef {{view: string, id: string, parameters: URLSearchParams}} Route */

/** @param {string} [hash] @returns {Route} */
export function read(hash = location.hash) {
  const text = hash.replace(/^#/, "");
  if (text && !text.startsWith("/"))
    return { view: "search", id: "", parameters: new URLSearchParams({ q: decoded(text) }) }; // `#a cat`
  const cut = text.indexOf("?"),
    path = cut < 0 ? text : text.slice(0, cut),
    [, view, id] = path.split("/");
  return {
    view: view || "search",
    id: decoded(id || ""),
    parameters: new URLSearchParams(cut < 0 ? "" : text.slice(cut + 1)),
  };
}

/** @param {string} view @param {string} [id] @param {URLSearchParams|Record<string, string>} [parameters] */
export function write(view, id = "", parameters = new URLSearchParams()) {
  const query = new URLSearchParams(parameters).toString();
  return `#/${view}${id ? `/${encodeURIComponent(id)}` : ""}${query ? `?${query}` : ""}`;
}

/** Go somewhere; `replace` leaves no step behind for Back. @param {string} hash @param {{replace?: boolean}} [options] */
export function go(hash, { replace = false } = {}) {
  if (hash === location.hash) return;
  if (replace) history.replaceState(history.state, "", hash);
  else history.pushState(null, "", hash);
  window.dispatchEvent(new Event("route"));
}

/** Call whenever the address changes. @param {() => void} listener */
export function onRoute(listener) {
  window.addEventListener("route", listener);
  window.addEventListener("popstate", listener);
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
