// Two films side by side that play the same seconds in step.
import { h } from "./dom.js";
import { whenPlayable } from "../media.js";

/** @typedef {{name: string, play: string|null, strip: string|null, start: number, at?: number}} Side */
/** @typedef {[HTMLVideoElement, Side]} Playing */

export class PairPlayers {
  /** @param {(side: Side) => Promise<number>} offset where second 0 of a video is in the file that is played */
  constructor(offset) {
    this._offset = offset;
    /** @type {WeakSet<HTMLVideoElement>} */
    this._startWhenReady = new WeakSet();
  }

  /** A film that is looked for as soon as it is in the page. @param {Side} side @returns {HTMLVideoElement} */
  player(side) {
    const video = h("video", { playsinline: true, preload: "auto", "aria-label": side.name }),
      fail = (/** @type {string} */ reason) => {
        if (video.parentNode) video.parentNode.textContent = `cannot be played: ${reason}`;
      };
    const say = (/** @type {string} */ reason) => {
      video.parentNode?.querySelector(".notice")?.remove();
      video.after(h("div", { class: "notice" }, reason, h("progress", { "aria-label": "preparing" })));
    };
    video.muted = true;
    side.at = side.start; // where second `start` is in the file, which may start at any time of its own
    video.addEventListener("error", () => {
      if (video.getAttribute("src")) fail("its file is gone or damaged");
    });
    setTimeout(() => this._load(video, side, say).catch((error) => fail(error.message))); // whoever leaves it waits for it no longer
    return video;
  }

  /** @param {any} video @param {Side} side @param {(reason: string) => void} say */
  async _load(video, side, say) {
    if (!(await whenPlayable(/** @type {string} */ (side.play), () => video.isConnected, say))) return;
    side.at = side.start + ((await this._offset(side).catch(() => 0)) || 0);
    if (!video.isConnected) return;
    video.parentNode.querySelector(".notice")?.remove();
    video.src = `${side.play}#t=${side.at}`;
    if (this._startWhenReady.has(video)) this.start(video);
  }

  /** @param {HTMLVideoElement} video */
  start(video) {
    if (video.getAttribute("src")) video.play().catch(() => {});
    else this._startWhenReady.add(video);
  }

  /** @param {HTMLVideoElement} video */
  stop(video) {
    this._startWhenReady.delete(video);
    video.pause();
  }

  /** @param {HTMLVideoElement[]} videos */
  toggle(videos) {
    if (!videos.length) return;
    const paused = videos[0].paused && !this._startWhenReady.has(videos[0]);
    for (const video of videos)
      if (paused) this.start(video);
      else this.stop(video);
  }

  /** Play the same seconds again and again, the second film following the first. @param {Playing[]} players @param {number} seconds */
  loop(players, seconds) {
    if (!players.length) return;
    const [[lead, first], second] = players,
      begin = () => first.at ?? first.start;
    lead.addEventListener("loadedmetadata", () => {
      lead.currentTime = begin();
    });
    if (second)
      second[0].addEventListener("loadedmetadata", () => {
        second[0].currentTime = second[1].at ?? second[1].start;
      });
    lead.addEventListener("timeupdate", () => {
      if (!lead.paused && (lead.currentTime > begin() + seconds || lead.ended)) lead.currentTime = begin();
      if (!second) return;
      const place = (second[1].at ?? second[1].start) + lead.currentTime - begin();
      if (Math.abs(second[0].currentTime - place) > 0.2 && !second[0].seeking) second[0].currentTime = place;
      if (!lead.paused && second[0].paused) second[0].play().catch(() => {});
    });
    lead.addEventListener("ended", () => {
      lead.currentTime = begin();
      lead.play().catch(() => {});
    });
    lead.addEventListener("pause", () => second && second[0].pause());
  }
}

/** A picture takes the place of a film, and the connection is given back. @param {HTMLVideoElement} video */
export function closePlayer(video) {
  const still = h("img", { alt: "", src: video.poster || undefined });
  video.pause();
  video.removeAttribute("src");
  video.load();
  video.parentNode?.replaceChildren(still);
}
