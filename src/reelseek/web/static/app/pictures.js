// Thumbnails, and strips of frames that run under the pointer.
import { h, icon } from "./dom.js";
import { address } from "./api.js";
import { picture } from "../media.js";

const HOVER_MS = 140; // a pointer that only passes asks for nothing

/** A thumbnail that is asked for again while the server is busy. @param {string} source @param {string} [instead] what stands there where there is none */
export function thumbnail(source, instead = "") {
  const image = h("img", { alt: "", loading: "lazy", decoding: "async", draggable: "false" });
  picture(image, address(source), () => image.replaceWith(h("span", { class: "no-picture" }, icon("sound"), instead)));
  return image;
}

/**
 * Show the frames of a strip in a box while the pointer is over it: its place from left to right is the place in time. Under
 * the keyboard's focus they run by themselves.
 * @param {HTMLElement} box @param {string|null} source address of one picture of frames side by side
 */
export function hoverStrip(box, source) {
  if (!source) return;
  const frames = Number(new URL(address(source), location.href).searchParams.get("frames")) || 10;
  const film = h("div", { class: "film", hidden: true }),
    place = h("i", { class: "film-place" });
  let timer = 0,
    run = 0;
  box.append(film);
  const show = (/** @type {number} */ share) => {
    const frame = Math.min(frames - 1, Math.max(0, Math.floor(share * frames)));
    film.style.backgroundPosition = `${frames > 1 ? (100 * frame) / (frames - 1) : 0}% 0`;
    place.style.width = `${(100 * (frame + 1)) / frames}%`;
  };
  const load = () => {
    if (film.dataset.asked) return;
    film.dataset.asked = "yes";
    const sprite = new Image();
    sprite.addEventListener("load", () => {
      const aspect = sprite.naturalWidth / frames / sprite.naturalHeight,
        wide = aspect >= box.clientWidth / box.clientHeight;
      Object.assign(film.style, {
        backgroundImage: `url("${sprite.src}")`,
        backgroundSize: `${100 * frames}% 100%`,
        aspectRatio: String(aspect),
        width: wide ? "100%" : "auto",
        height: wide ? "auto" : "100%",
      });
      film.after(place);
      film.hidden = place.hidden = !box.dataset.hover;
    });
    sprite.addEventListener("error", () => {
      delete film.dataset.asked;
    });
    sprite.src = address(source);
  };
  const enter = () => {
    box.dataset.hover = "yes";
    timer = window.setTimeout(load, HOVER_MS);
    if (film.style.backgroundImage) film.hidden = place.hidden = false;
  };
  const leave = () => {
    delete box.dataset.hover;
    clearTimeout(timer);
    clearInterval(run);
    film.hidden = place.hidden = true;
  };
  box.addEventListener("pointerenter", (event) => {
    if (event.pointerType === "mouse") enter();
  });
  box.addEventListener("pointermove", (event) => {
    const bounds = box.getBoundingClientRect();
    show((event.clientX - bounds.left) / bounds.width);
  });
  box.addEventListener("pointerleave", leave);
  const holder = box.closest("button, a");
  holder?.addEventListener("focus", () => {
    if (!holder.matches(":focus-visible") || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    enter();
    let frame = 0;
    clearInterval(run);
    run = window.setInterval(() => {
      if (!film.isConnected) clearInterval(run);
      show((frame++ % frames) / frames + 1e-6);
    }, 350);
  });
  holder?.addEventListener("blur", leave);
}
