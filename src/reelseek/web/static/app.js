"use strict";
const by = (id) => document.getElementById(id);
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text; // text only: what videos say is never read as HTML
  return node;
};
const clock = (seconds) => {
  if (seconds === null) return "end";
  const whole = Math.floor(seconds), pad = (n) => String(n).padStart(2, "0");
  return whole >= 3600 ? `${Math.floor(whole / 3600)}:${pad(Math.floor(whole / 60) % 60)}:${pad(whole % 60)}` : `${Math.floor(whole / 60)}:${pad(whole % 60)}`;
};
let asked = 0;

async function fetchJson(address) {
  const response = await fetch(address);
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail || body.title);
  return body;
}

function reasons(hit) {
  const box = make("div", "why");
  for (const why of hit.why.slice(0, 3)) {
    box.append(make("span", "", why.modality));
    const right = make("span", "", why.matched ? why.matched.slice(0, 90) : "");
    const bar = make("i");
    bar.style.width = `${Math.max(2, Math.min(100, Math.round(why.gave * 120)))}%`;
    right.append(bar);
    box.append(right);
  }
  return box;
}

function card(hit) {
  const item = make("li"), button = make("button", "hit"), frame = make("div", "picture"), words = make("div", "words");
  button.type = "button";
  const image = make("img");
  image.alt = "";
  image.loading = "lazy";
  picture(image, hit.thumbnail, () => image.remove());
  frame.append(image, make("time", "", hit.end === null ? "whole video" : `${clock(hit.start)}–${clock(hit.end)}`));
  const sure = hit.confidence === null ? "" : ` · confidence ${Math.round(hit.confidence * 100)}%`;
  words.append(make("div", "name", hit.video), make("div", "score", `similarity ${hit.similarity.toFixed(2)}${sure}`), reasons(hit));
  button.append(frame, words);
  button.addEventListener("click", () => play(hit));
  item.append(button);
  return item;
}

function play(hit) {
  if (!hit.play) { by("status").textContent = "This video's file is not at hand: only its features are in the library."; return; }
  const video = by("video");
  by("player").hidden = false;
  by("title").textContent = `${hit.video}  ${clock(hit.start)}–${clock(hit.end)}`;
  by("reasons").replaceChildren(...hit.why.map((why) => make("li", "", `${why.modality} ${why.gave.toFixed(2)}${why.matched ? `: ${why.matched}` : ""}`)));
  by("status").textContent = "";
  video.onloadedmetadata = async () => {
    // A file that is played as it is may start at any time of its own; what search calls second 0 is there.
    const { start_offset: offset } = await fetchJson(`/api/videos/${hit.id}/clock`).catch(() => ({ start_offset: 0 }));
    if (video.dataset.id !== hit.id) return;
    notice("");
    video.dataset.offset = offset;
    video.currentTime = offset + hit.start; video.play().catch(() => {});
  };
  video.onerror = () => { if (video.getAttribute("src")) notice("The video cannot be played: its file is gone or cannot be decoded."); };
  if (video.dataset.id !== hit.id || by("seconds").dataset.query !== hit.query) {
    video.dataset.id = hit.id;
    by("seconds").dataset.query = hit.query;
    seconds(hit);
  }
  if (video.getAttribute("src") === hit.play && video.readyState > 0) video.onloadedmetadata();
  else load(hit);
  window.scrollTo({ top: 0, behavior: "smooth" });
}

let loads = 0;
async function load(hit) {
  const video = by("video"), mine = ++loads, wanted = () => mine === loads && !by("player").hidden;
  video.pause(); video.removeAttribute("src"); video.load();
  notice("Opening the video…");
  try {
    if (await whenPlayable(hit.play, wanted, (reason) => notice(reason, true))) { notice("Opening the video…"); video.src = hit.play; }
  } catch (error) { if (wanted()) notice(`The video cannot be played: ${error.message}`); }
}

// What stands over the player; with a bar that moves while something is being prepared.
function notice(text, preparing = false) {
  const box = by("notice");
  box.hidden = !text;
  box.replaceChildren(make("span", "", text), ...(preparing ? [make("progress")] : []));
}

// Every second of the video that plays, the darker the nearer it is to the query; a click plays from there.
async function seconds(hit) {
  const strip = by("seconds"), canvas = strip.querySelector("canvas");
  strip.hidden = true;
  const parameters = new URLSearchParams({ q: hit.query });
  for (const box of document.querySelectorAll("#experts input:not(:checked)")) parameters.append("without", box.value);
  const told = await fetchJson(`/api/videos/${hit.id}/curve?${parameters}`).catch(() => null);
  if (!told || by("video").dataset.id !== hit.id) return;
  const low = Math.min(...told.curve), high = Math.max(...told.curve), pen = canvas.getContext("2d");
  canvas.width = told.curve.length;
  told.curve.forEach((value, at) => { pen.fillStyle = `hsl(214 70% ${94 - 55 * (value - low) / (high - low || 1)}%)`; pen.fillRect(at, 0, 1, 1); });
  if (told.merged > 1) strip.title = `How near each ${told.merged} seconds are; click to play from there`;
  const length = told.spans[told.spans.length - 1][1];
  for (const old of strip.querySelectorAll("b")) old.remove();
  for (const peak of told.peaks) {
    const mark = make("b");
    Object.assign(mark.style, { left: `${100 * peak.start / length}%`, width: `${100 * (peak.end - peak.start) / length}%` });
    mark.title = `${clock(peak.start)}–${clock(peak.end)}, similarity ${peak.similarity.toFixed(2)}`;
    strip.append(mark);
  }
  strip.onclick = (event) => { const box = strip.getBoundingClientRect(); by("video").currentTime = Number(by("video").dataset.offset || 0) + (event.clientX - box.left) / box.width * length; by("video").play().catch(() => {}); };
  by("video").ontimeupdate = () => { strip.querySelector("i").style.left = `${Math.min(100, 100 * (by("video").currentTime - Number(by("video").dataset.offset || 0)) / length)}%`; };
  strip.hidden = false;
}

function closePlayer() {
  by("video").pause();
  by("player").hidden = true;
}

async function search() {
  const query = by("query").value.trim(), mine = ++asked;
  if (!query) return;
  const parameters = new URLSearchParams({ q: query, group_by: by("group").checked ? "video" : "moment" });
  for (const box of document.querySelectorAll("#experts input:not(:checked)")) parameters.append("without", box.value);
  history.replaceState(null, "", `#${encodeURIComponent(query)}`);
  by("status").textContent = "Searching…";
  const slow = "Still searching: leaving this out for the first time embeds every clip again, and the result is kept.";
  const patience = setTimeout(() => { if (mine === asked && parameters.has("without")) by("status").textContent = slow; }, 1500);
  try {
    const { data } = await fetchJson(`/api/search?${parameters}`);
    if (mine !== asked) return;
    const cards = data.map(card), weak = data.findIndex((hit) => hit.confidence !== null && hit.confidence < 0.5);
    if (weak >= 0) cards.splice(weak, 0, make("li", "weak", "Weak matches: unrelated queries score as high as these on this library"));
    by("hits").replaceChildren(...cards);
    by("status").textContent = data.length ? "" : "Nothing found. Quoted words must occur in speech or on screen; try without quotes.";
  } catch (error) {
    if (mine === asked) { by("hits").replaceChildren(); by("status").textContent = error.message; }
  } finally { clearTimeout(patience); }
}

by("form").addEventListener("submit", (event) => { event.preventDefault(); search(); });
by("options").addEventListener("change", search);
by("close").addEventListener("click", closePlayer);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") closePlayer();
  if (event.key === "/" && document.activeElement !== by("query")) { event.preventDefault(); by("query").select(); }
});
fetchJson("/api/library").then((about) => {
  by("status").textContent = `${about.videos} videos, ${about.clips} clips in ${about.name}`;
  by("experts").replaceChildren(...about.experts.map((expert) => {
    const label = make("label"), box = make("input");
    box.type = "checkbox"; box.checked = true; box.value = expert;
    label.append(box, ` ${expert}`);
    return label;
  }));
  if (location.hash.length > 1) { by("query").value = decodeURIComponent(location.hash.slice(1)); search(); }
}).catch((error) => { by("status").textContent = error.message; });
