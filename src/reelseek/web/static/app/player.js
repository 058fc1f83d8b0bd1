// A video with its notice while a copy of it is being prepared, and the controls below it.
import { address } from "./api.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { Scrubber } from "./scrubber.js";
import { clock } from "./words.js";
import { whenPlayable } from "../media.js";

const FRAME = 0.04; // seconds that `,` and `.` step

export class Player {
  /** @param {{onTime?: (seconds: number) => void}} [options] */
  constructor({ onTime = () => {} } = {}) {
    this.video = h("video", { playsinline: true, preload: "auto", "aria-label": "Video" });
    this.video.muted = localStorage.getItem("muted") === "yes";
    this._notice = h("p", { class: "notice", role: "status", hidden: true });
    this.scrubber = new Scrubber((seconds) => this.seek(seconds));
    this._toggle = iconButton("play", "Play (space)", () => this.toggle(), { bare: true });
    this._mute = iconButton("sound", "Sound off", () => this.mute(), { bare: true });
    this._time = h("span", { class: "time" }, "0:00");
    const screen = h("div", { class: "screen" }, this.video, this._notice);
    const controls = h(
      "div",
      { class: "controls" },
      this._toggle,
      this._time,
      h("span", { class: "space" }),
      this._mute,
      iconButton("full", "Full screen", () => screen.requestFullscreen?.(), { bare: true }),
    );
    this.root = h("div", { class: "player" }, screen, this.scrubber.root, controls);
    this._offset = 0;
    this._loads = 0;
    this._start = 0;
    this._source = "";
    this.onTime = onTime;
    this.video.addEventListener("timeupdate", () => this._tick());
    this.video.addEventListener("seeking", () => this._tick());
    this.video.addEventListener("play", () => this._playing(true));
    this.video.addEventListener("pause", () => this._playing(false));
    this.video.addEventListener("click", () => this.toggle());
    this.video.addEventListener("loadedmetadata", () => this._loaded());
    this.video.addEventListener("error", () => {
      if (this.video.getAttribute("src"))
        this.say("The video cannot be played: its file is gone or cannot be decoded.");
    });
    this._playing(false);
    this._showMuted();
  }

  /** Seconds of the video. */
  get time() {
    return Math.max(0, this.video.currentTime - this._offset);
  }

  /**
   * Play from a second on; one film that is open already only seeks.
   * @param {string|null} play the file's address; null where it is not at hand @param {number} start
   * @param {{poster?: string, autoplay?: boolean, detail?: Promise<any>}} [options] what the server tells of the video: its `duration`, and
   *   its `start_offset`, at which a file that is played as it is has second 0 of the video
   */
  async open(play, start, { poster = "", autoplay = true, detail = Promise.resolve(null) } = {}) {
    this._start = start;
    this._autoplay = autoplay;
    if (play && play === this._source && !this.video.error) {
      this.seek(start); // also of a film that is still being opened: it begins there
      if (autoplay && this.video.readyState > 0) this.play();
      return;
    }
    this.stop();
    const mine = this._loads,
      waiting = () => mine === this._loads && this.root.isConnected;
    this.scrubber.setTime(start);
    this._time.textContent = clock(start);
    if (poster) this.video.poster = address(poster);
    if (!play) {
      this.say("This video’s file is not at hand: only its features are in the library.");
      return;
    }
    this._source = play;
    const file = address(play);
    this.say("Opening the video…", true);
    try {
      const playable = await whenPlayable(file, waiting, (reason) => this.say(reason, true));
      const about = playable && (await detail.catch(() => null));
      if (!playable || !waiting()) {
        if (mine === this._loads) this._source = "";
        return;
      } // it is opened anew when somebody is back
      this._offset = about?.start_offset || 0;
      this.video.src = file;
    } catch (error) {
      if (!waiting()) return;
      this._source = ""; // it may be opened again
      this.say(`The video cannot be played: ${/** @type {Error} */ (error).message}`);
    }
  }

  _loaded() {
    this.say("");
    if (!this.scrubber.length && Number.isFinite(this.video.duration))
      this.scrubber.setLength(this.video.duration - this._offset);
    this.seek(this._start);
    if (this._autoplay) this.play();
  }

  /** Stop and let the file go; one that is still being opened does not begin to play later. */
  stop() {
    this._loads += 1;
    this._source = "";
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }

  /** @param {number} seconds */
  seek(seconds) {
    this._start = seconds;
    if (this.video.readyState > 0) this.video.currentTime = this._offset + seconds;
    this.scrubber.setTime(seconds);
    this.onTime(seconds);
  }

  /** Start; where sound needs a click first, without sound. */
  play() {
    this.video.play().catch(() => {
      this.video.muted = true;
      this._showMuted();
      return this.video.play().catch(() => {});
    });
  }

  toggle() {
    if (this.video.paused) this.play();
    else this.video.pause();
  }

  mute() {
    this.video.muted = !this.video.muted;
    localStorage.setItem("muted", this.video.muted ? "yes" : "no");
    this._showMuted();
  }

  /** Whether a key was one of the player's. @param {KeyboardEvent} event */
  key(event) {
    const step = { ",": -FRAME, ".": FRAME, "<": -5, ">": 5 }[event.key];
    if (event.key === " " || event.key === "k") this.toggle();
    else if (step !== undefined) {
      if (Math.abs(step) < 1) this.video.pause();
      this.seek(Math.max(0, this.time + step));
    } else return false;
    return true;
  }

  /** Say something over the picture. @param {string} text @param {boolean} [preparing] with a bar that moves */
  say(text, preparing = false) {
    this._notice.hidden = !text;
    fill(this._notice, h("span", {}, text), preparing && h("progress", { "aria-label": "preparing" }));
  }

  _tick() {
    this.scrubber.setTime(this.time);
    this._time.textContent = `${clock(this.time)} / ${clock(this.scrubber.length)}`;
    this.onTime(this.time);
  }

  /** @param {boolean} playing */
  _playing(playing) {
    fill(this._toggle, icon(playing ? "pause" : "play"));
    this._toggle.setAttribute("aria-label", playing ? "Pause" : "Play");
    this._toggle.title = playing ? "Pause (space)" : "Play (space)";
  }

  _showMuted() {
    fill(this._mute, icon(this.video.muted ? "mute" : "sound"));
    this._mute.setAttribute("aria-label", this.video.muted ? "Sound on" : "Sound off");
    this._mute.title = this.video.muted ? "Sound on" : "Sound off";
  }
}
