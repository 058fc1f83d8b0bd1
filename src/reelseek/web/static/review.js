import { picture, whenPlayable } from "./media.js";

const by = (id) => document.getElementById(id);
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text; // text only: what videos are called is never read as HTML
  return node;
};
const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
const VERDICTS = [["d", "duplicate"], ["n", "near-duplicate"], ["x", "not"], ["?", "unsure"], ["b", "screensaver"]];
const BATCH = 10, AHEAD = 6, AROUND = 3;
const session = sessionStorage.getItem("session") || crypto.getRandomValues(new Uint32Array(4)).join("-");
sessionStorage.setItem("session", session);
const state = { who: "", view: "queue", items: [], current: 0, ended: false, loading: null, counts: null, passing: new Set() };
const nodes = new Map(); // place in items -> its card

async function ask(address, body) {
  const response = await fetch(address, body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ who: state.who, token: session, ...body }) });
  const told = await response.json();
  if (!response.ok) throw new Error(told.detail || told.title);
  if (told.counts) showCounts(told.counts);
  return told;
}
function attempt(work) { return work.catch((error) => { by("message").textContent = error.message === "Failed to fetch" ? "The server does not answer. What it acknowledged is kept; start it again and go on." : error.message; }); }

function showCounts(counts) {
  state.counts = counts;
  const share = counts.pairs ? counts.seen / counts.pairs : 0;
  by("done").style.width = `${100 * share}%`;
  const parts = ["duplicate", "near-duplicate", "not", "unsure", "screensaver", "looked-at", "disagreement", "waiting"].filter((name) => counts[name]);
  by("counts").textContent = `${counts.seen} of ${counts.pairs} pairs seen` + (parts.length ? ": " : "") + parts.map((name) => `${counts[name]} ${name}`).join(" · ");
}

// The list: every card has one height, so only those near the window are in the page, however many there are.
const height = () => parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--card-height"));
let listTop = 0;
function measure() { listTop = by("list").getBoundingClientRect().top + window.scrollY; }

function render() {
  const tall = height(), head = document.querySelector("header").offsetHeight;
  by("list").style.height = `${state.items.length * tall}px`;
  const first = Math.max(0, Math.floor((window.scrollY + head - listTop) / tall) - AROUND);
  const last = Math.min(state.items.length - 1, Math.ceil((window.scrollY + window.innerHeight - listTop) / tall) + AROUND);
  for (const [place, node] of nodes) if (place < first || place > last) { node.remove(); nodes.delete(place); }
  for (let place = first; place <= last; place++) {
    if (!nodes.has(place)) { nodes.set(place, card(state.items[place], place)); by("list").append(nodes.get(place)); }
    nodes.get(place).style.top = `${place * tall}px`;
  }
  const node = nodes.get(state.current);
  for (const [place, other] of nodes) other.classList.toggle("current", place === state.current);
  if (node) open(node, state.items[state.current]);
}

function side(facts, window_) {
  const box = make("div", "side"), screen = make("div", "screen", facts.play ? "" : "no file at hand");
  const size = facts.width ? `${facts.width}×${facts.height}` : "", long = facts.duration ? clock(facts.duration) : "";
  const weight = facts.bytes ? `${(facts.bytes / 1e6).toFixed(1)} MB` : "";
  box.append(make("div", "name", facts.name), make("div", "facts", [`${clock(facts.start)}–${clock(facts.start + window_)}`, long && `of ${long}`, size, weight].filter(Boolean).join(" · ")), screen);
  box.firstChild.title = facts.name;
  if (facts.strip) {
    const still = make("img");
    still.alt = ""; still.loading = "lazy";
    picture(still, `${facts.strip}?start=${facts.start}&seconds=${window_}&frames=1&height=300`, () => still.replaceWith("no picture: the file is gone or damaged"));
    screen.replaceChildren(still);
    const strip = make("img", "strip");
    strip.alt = ""; strip.loading = "lazy";
    picture(strip, `${facts.strip}?start=${facts.start}&seconds=${window_}`, () => strip.remove());
    strip.addEventListener("click", preview);
    box.append(strip);
  }
  return box;
}

function card(item, place) {
  const node = make("section", "pair"), head = make("div", "head"), sides = make("div", "sides"), buttons = make("div", "verdicts");
  head.append(make("b", "", `#${item.place + 1}`), make("span", "", `score ${item.score.toFixed(3)}`));
  if (item.sound !== null) head.append(make("span", "", item.sound > 0.35 ? `same sound (${item.sound.toFixed(2)})` : `other sound (${item.sound.toFixed(2)})`));
  for (const said of item.said) head.append(make("span", `badge ${said.verdict}`, `${said.who === state.who ? "you" : said.who}: ${said.verdict}`));
  sides.append(side(item.test, item.window), side(item.train, item.window));
  for (const [key, verdict] of VERDICTS) {
    const button = make("button", "", `${verdict} (${key})`);
    button.type = "button";
    button.setAttribute("aria-pressed", item.mine === verdict);
    button.addEventListener("click", () => { state.current = place; attempt(say(verdict)); });
    buttons.append(button);
  }
  node.append(head, sides, buttons);
  node.addEventListener("pointerdown", () => { if (state.current !== place) { state.current = place; render(); } });
  return node;
}
function redraw(place) { const old = nodes.get(place); if (old) { old.remove(); nodes.delete(place); render(); } }

// Only the current pair has players; they loop over the matching window, the second following the first.
function open(node, item) {
  if (node.querySelector("video") || !(item.test.play || item.train.play)) return;
  for (const other of document.querySelectorAll("#list video")) close(other);
  const screens = node.querySelectorAll(".screen"), players = [];
  [item.test, item.train].forEach((facts, index) => {
    if (!facts.play) return;
    const video = player(facts);
    video.poster = screens[index].querySelector("img")?.src || "";
    screens[index].replaceChildren(video);
    players.push([video, facts]);
  });
  loop(players, item.window);
  if (!by("preview").open) for (const [video] of players) start(video);
}
function close(video) { // a still takes its place, and the connection is given back
  const still = make("img");
  still.alt = ""; still.src = video.poster;
  video.pause(); video.removeAttribute("src"); video.load();
  video.parentNode.replaceChildren(still);
}
function player(facts) {
  const video = make("video"), fail = (reason) => { if (video.parentNode) video.parentNode.textContent = `cannot be played: ${reason}`; };
  const say = (reason) => { video.parentNode.querySelector(".notice")?.remove(); const notice = make("div", "notice", reason); notice.append(make("progress")); video.after(notice); };
  video.muted = true; video.playsInline = true; video.preload = "auto";
  facts.at = facts.start; // where second `start` is in the file that is played, which may start at any time of its own
  video.addEventListener("error", () => { if (video.getAttribute("src")) fail("its file is gone or damaged"); });
  setTimeout(() => { // when it is in the page; whoever leaves it waits for it no longer
    whenPlayable(facts.play, () => video.isConnected, say).then(async (ready) => {
      if (!ready) return;
      const { start_offset: offset } = await fetch(facts.play.replace(/media$/, "clock")).then((answer) => answer.json()).catch(() => ({}));
      facts.at = facts.start + (offset || 0);
      video.parentNode.querySelector(".notice")?.remove();
      video.src = `${facts.play}#t=${facts.at}`;
      if (video.startsWhenReady) start(video);
    }).catch((error) => fail(error.message));
  });
  return video;
}
function start(video) {
  if (video.getAttribute("src")) video.play().catch(() => {});
  else video.startsWhenReady = true;
}
function stop(video) { video.startsWhenReady = false; video.pause(); }
function loop(players, seconds) {
  if (!players.length) return;
  const [[lead, first], second] = players;
  lead.addEventListener("loadedmetadata", () => { lead.currentTime = first.at; });
  if (second) second[0].addEventListener("loadedmetadata", () => { second[0].currentTime = second[1].at; });
  lead.addEventListener("timeupdate", () => {
    if (!lead.paused && (lead.currentTime > first.at + seconds || lead.ended)) lead.currentTime = first.at;
    if (second) {
      const wanted = second[1].at + lead.currentTime - first.at;
      if (Math.abs(second[0].currentTime - wanted) > 0.2 && !second[0].seeking) second[0].currentTime = wanted;
      if (!lead.paused && second[0].paused) second[0].play().catch(() => {});
    }
  });
  lead.addEventListener("ended", () => { lead.currentTime = first.at; lead.play().catch(() => {}); });
  lead.addEventListener("pause", () => second && second[0].pause());
}
const shown = () => [...(by("preview").open ? by("preview") : nodes.get(state.current) || document.createElement("div")).querySelectorAll("video")];
function toggle() { const players = shown(); if (players.length) players.forEach(players[0].paused && !players[0].startsWhenReady ? start : stop); }

function preview() {
  const item = state.items[state.current];
  if (!item) return;
  const players = [];
  shown().forEach(stop);
  by("previewed").textContent = `${item.test.name}  ·  ${item.train.name}`;
  const screens = by("preview").querySelector(".screens");
  screens.replaceChildren(...[item.test, item.train].map((facts) => {
    if (!facts.play) return make("p", "", "no file at hand");
    const video = player(facts);
    video.controls = true;
    players.push([video, facts]);
    const frame = make("div", "frame");
    frame.append(video);
    return frame;
  }));
  by("preview").showModal();
  loop(players, item.window);
  for (const [video] of players) start(video);
}
by("preview").addEventListener("close", () => by("preview").querySelector(".screens").replaceChildren());

// Going on
async function load() {
  if (state.loading || state.ended) return state.loading;
  const last = state.items.length ? state.items[state.items.length - 1].place : -1;
  const view = state.view, next = { after: last, count: BATCH };
  state.loading = (view === "queue" ? ask("/api/queue", next) : ask("/api/pairs", { view, ...next })).then(({ data }) => {
    if (view !== state.view) return;
    state.items.push(...data);
    state.ended = data.length < BATCH;
    by("end").hidden = !state.ended;
    by("end").textContent = state.items.length ? "These are all for now." : (view === "queue" ? "Nothing is left to judge here." : "Nothing here.");
    measure();
    render();
  }).finally(() => { state.loading = null; });
  return state.loading;
}
async function show(view) {
  if (state.loading) await state.loading.catch(() => {});
  Object.assign(state, { view, items: [], current: 0, ended: false });
  for (const node of nodes.values()) node.remove();
  nodes.clear();
  by("message").textContent = by("agreement").textContent = "";
  for (const button of by("views").children) button.setAttribute("aria-pressed", button.dataset.view === view);
  window.scrollTo(0, 0);
  await load();
  if (view === "disagreements") {
    const { data } = await ask("/api/agreement");
    by("agreement").textContent = data.map((a) => `${a.one} and ${a.two}: ${a.pairs} pairs judged by both, ${Math.round(100 * a.equal)} % alike, kappa ${a.kappa.toFixed(2)}`).join(" · ") || "No pair was judged by two people yet.";
    measure();
    render();
  }
}
function go(place, smooth = true) {
  if (place < 0) return;
  if (place >= state.items.length) { if (state.ended) return; attempt(load().then(() => { if (place < state.items.length) go(place); })); return; }
  state.current = place;
  const head = document.querySelector("header").offsetHeight;
  window.scrollTo({ top: listTop + place * height() - head - 8, behavior: smooth ? "smooth" : "auto" });
  render();
  if (place + AHEAD > state.items.length) attempt(load());
}
async function say(verdict) {
  const place = state.current, item = state.items[place];
  if (!item) return;
  by("message").textContent = "";
  item.asked = true; // a pair that is being judged is not also logged as scrolled past
  const told = await ask("/api/verdicts", { places: [item.place], verdict, settles: state.view === "disagreements" }).catch((error) => { item.asked = false; throw error; });
  Object.assign(item, told.data[0]);
  redraw(place);
  if (by("preview").open) by("preview").close();
  if (state.current === place) { if (place + 1 < state.items.length || !state.ended) go(place + 1); else render(); }
}
async function undo() {
  const { place, verdict, card } = await ask("/api/undo", {});
  if (place === null || place === undefined) { by("message").textContent = "There is nothing of yours to undo."; return; }
  const at = state.items.findIndex((item) => item.place === place);
  by("message").textContent = `Taken back: ${verdict} on #${place + 1}.`;
  if (at < 0) { await show("queue"); by("message").textContent = `Taken back: ${verdict} on #${place + 1}.`; return; }
  Object.assign(state.items[at], card, { asked: false });
  redraw(at);
  go(at);
}
// What is scrolled past is logged as looked at. A pair that no frame of the page ever showed is not.
function passed() {
  if (state.view !== "queue") return;
  const tall = height(), top = window.scrollY + document.querySelector("header").offsetHeight;
  const gone = [];
  for (const place of nodes.keys()) {
    const item = state.items[place], end = listTop + (place + 1) * tall - 14;
    if (end < top + 2 && item.seen && !item.mine && !item.asked) { item.asked = true; gone.push(item); }
    else if (end > top && listTop + place * tall + tall / 2 < window.scrollY + window.innerHeight) item.seen = true;
  }
  if (gone.length) attempt(ask("/api/verdicts", { places: gone.map((item) => item.place), verdict: "looked-at" }).then(({ data }) => data.forEach((told, i) => { Object.assign(gone[i], told, { mine: null }); redraw(state.items.indexOf(gone[i])); }), (error) => { gone.forEach((item) => { item.asked = false; }); throw error; }));
}
let waiting = false, byHand = 0;
window.addEventListener("wheel", () => { byHand = Date.now(); }, { passive: true });
window.addEventListener("touchmove", () => { byHand = Date.now(); }, { passive: true });
window.addEventListener("scroll", () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    passed();
    if (Date.now() - byHand < 1500) { // by hand: the first card that is mostly there is the current one
      const top = window.scrollY + document.querySelector("header").offsetHeight - listTop;
      state.current = Math.min(state.items.length - 1, Math.max(0, Math.round(top / height())));
    }
    render();
    if (state.current + AHEAD > state.items.length) attempt(load());
  });
}, { passive: true });
window.addEventListener("resize", () => { measure(); render(); });
by("views").addEventListener("click", (event) => { if (event.target.dataset.view) attempt(show(event.target.dataset.view)); });
document.addEventListener("keydown", (event) => {
  if (by("enter").open || event.ctrlKey || event.metaKey || event.altKey) return;
  const verdict = VERDICTS.find(([key]) => key === event.key);
  const inside = by("preview").open;
  const seek = { ArrowLeft: -1, ArrowRight: 1, ",": -0.04, ".": 0.04 }[event.key];
  if (verdict) attempt(say(verdict[1]));
  else if (event.key === "u" && !inside) attempt(undo());
  else if (event.key === " ") toggle();
  else if (seek && inside) shown().forEach((video) => { video.pause(); video.currentTime += seek; });
  else if (event.key === "p" || event.key === "Enter") { if (inside) by("preview").close(); else preview(); }
  else if ((event.key === "j" || event.key === "ArrowDown") && !inside) go(state.current + 1);
  else if ((event.key === "k" || event.key === "ArrowUp") && !inside) go(state.current - 1);
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") { /* a preview is open: nothing moves */ }
  else return;
  event.preventDefault();
});
window.addEventListener("pagehide", () => { if (state.who) navigator.sendBeacon("/api/leave", new Blob([JSON.stringify({ who: state.who, token: session })], { type: "application/json" })); });
setInterval(() => { if (state.who) attempt(ask("/api/held", { places: state.items.slice(-200).filter((item) => !item.mine && !item.asked).map((item) => item.place) })); }, 60000);

async function enter(name) {
  state.who = name.trim();
  const about = await ask("/api/enter", {}).catch((error) => { state.who = ""; throw error; });
  localStorage.setItem("reviewer", state.who);
  by("who").textContent = state.who;
  by("about").textContent = about.title + (about.opinions > 1 ? ` · ${about.opinions} opinions a pair` : "");
  await show("queue");
}
function askName() {
  by("name").value = localStorage.getItem("reviewer") || "";
  by("enter").showModal();
}
by("enter").addEventListener("cancel", (event) => event.preventDefault());
by("enter").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(by("name").value).then(() => by("enter").close()).catch((error) => { by("refused").textContent = error.message; });
});
const given = new URLSearchParams(location.search).get("name") || sessionStorage.getItem("entered");
if (given) enter(given).then(() => sessionStorage.setItem("entered", given)).catch((error) => { by("refused").textContent = error.message; askName(); });
else askName();
