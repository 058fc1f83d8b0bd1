// The page of `reelseek overlap review`: who reviews, and the desk.
import { by } from "./app/dom.js";
import { ReviewDesk } from "./app/review_desk.js";

const session = sessionStorage.getItem("session") || crypto.getRandomValues(new Uint32Array(4)).join("-");
sessionStorage.setItem("session", session);
let who = "";

/** @param {string} address @param {any} [body] without one it is a GET */
async function request(address, body) {
  const response = await fetch(
    `/api/${address}`,
    body && {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ who, token: session, ...body }),
    },
  );
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail || answer.title);
  return answer;
}

const desk = new ReviewDesk({
  ask: (action, body) => request(action, action === "agreement" ? undefined : body),
  strip: (side, start, seconds, frames, height) =>
    `${side.strip}?start=${start}&seconds=${seconds}&frames=${frames}&height=${height}`,
  offset: async (side) =>
    (await fetch(side.play.replace(/media$/, "clock")).then((answer) => answer.json())).start_offset,
});
by("desk").append(desk.root);

/** @param {string} name */
async function enter(name) {
  who = name.trim();
  const about = await request("enter", {}).catch((error) => {
    who = "";
    throw error;
  });
  localStorage.setItem("reviewer", who);
  await desk.begin(about, who);
}

function askName() {
  by("name").value = localStorage.getItem("reviewer") || "";
  by("enter").showModal();
}

document.addEventListener("keydown", (event) => {
  if (by("enter").open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/** @type {HTMLElement} */ (event.target).matches("input, select, summary, .bulk *")) return;
  if (desk.key(event)) event.preventDefault();
});
addEventListener("pagehide", () => {
  if (who)
    navigator.sendBeacon(
      "/api/leave",
      new Blob([JSON.stringify({ who, token: session })], { type: "application/json" }),
    );
});
by("enter").addEventListener("cancel", (/** @type {Event} */ event) => event.preventDefault());
by("enter")
  .querySelector("form")
  .addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    enter(by("name").value)
      .then(() => by("enter").close())
      .catch((error) => {
        by("refused").textContent = error.message;
      });
  });
const given = new URLSearchParams(location.search).get("name") || sessionStorage.getItem("entered");
if (given)
  enter(given)
    .then(() => sessionStorage.setItem("entered", given))
    .catch((error) => {
      by("refused").textContent = error.message;
      askName();
    });
else askName();
