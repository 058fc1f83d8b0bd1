"""Pictures of one video: predicted and annotated spans over a heat map of similarities [text, second]."""

import html
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelseek.evaluation.figures import figure_axes, save_figure
from reelseek.evaluation.report import STYLE, ending

__all__ = ["Timeline"]

_COLOURS = {"prediction": "#d7263d", "ground truth": "#2f9e59"}


@dataclass(frozen=True)
class Timeline:
    """A heat map with spans, to be saved as a page or a picture.

    Attributes:
        texts: the labels of the rows.
        similarity: [second, text]; each row has its own scale, from its lowest to its highest value.
        spans: by name ("prediction", "ground truth") the (row, start, end) in seconds.
    """

    title: str
    texts: Sequence[str]
    similarity: npt.NDArray[np.floating]
    spans: Mapping[str, Sequence[tuple[int, float, float]]] = field(default_factory=dict)

    def save(self, path: Path, *, media: Path | None = None) -> Path:
        """Write a page with the video for `.html`, else PNG and SVG; return the path of the page or the PNG.

        Args:
            media: the file of the video, which the page plays.
        """
        if path.suffix == ".html":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.html(_address(path, media)), "utf-8")
            return path
        seconds, rows = self.similarity.shape
        figure, axes = figure_axes(10.0, 1.4 + 0.42 * rows)
        axes.imshow(
            self._shades().T, aspect="auto", cmap="Blues", extent=(0, seconds, rows - 0.5, -0.5), vmin=0, vmax=1.3
        )
        for name, spans in self.spans.items():
            low, tall = (-0.42, 0.84) if name == "prediction" else (0.3, 0.14)
            for place, (row, start, end) in enumerate(spans):
                colour = _COLOURS.get(name, "#444444")
                box = {"fc": "none", "ec": colour, "lw": 1.8} if name == "prediction" else {"fc": colour, "lw": 0}
                label = name if place == 0 else None
                axes.broken_barh([(start, end - start)], (row + low, tall), label=label, **box)
        axes.set_yticks(range(rows), [_short(text) for text in self.texts])
        axes.set_xlabel("seconds")
        axes.set_title(self.title)
        if self.spans:
            figure.legend(loc="outside lower center", ncols=len(self.spans), frameon=False)
        return save_figure(figure, ending(path, ".png"))

    def _shades(self) -> npt.NDArray[np.float64]:
        low, high = self.similarity.min(0, keepdims=True), self.similarity.max(0, keepdims=True)
        shades: npt.NDArray[np.float64] = (self.similarity - low) / np.maximum(high - low, 1e-9)
        return shades

    def html(self, media: str | None = None) -> str:
        """Return a self-contained page: the heat map, a line that follows the player; a click plays from that second.

        Args:
            media: address of the video, relative to the page; None leaves the player out.
        """
        content = {
            "texts": list(self.texts),
            "shades": np.round(self._shades().T, 3).tolist(),
            "spans": {name: [list(span) for span in spans] for name, spans in self.spans.items()},
            "colours": _COLOURS,
        }
        data = json.dumps(content).replace("<", "\\u003c")
        player = f'<video controls muted playsinline src="{html.escape(media)}"></video>' if media else ""
        return _PAGE.format(title=html.escape(self.title), style=STYLE, player=player, data=data)


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _address(page: Path, media: Path | None) -> str | None:
    """Address of the video relative to the page, so that both can be moved together."""
    if media is None:
        return None
    from urllib.parse import quote

    return quote(os.path.relpath(media.resolve(), page.resolve().parent))


_PAGE = """<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{title}</title><style>{style}
video{{max-width:100%;max-height:45vh;display:block;margin:0 0 1rem;background:#000}}
#rows{{position:relative;cursor:pointer;user-select:none}}.line{{display:flex;align-items:center;gap:.6rem;margin:2px 0}}
.line span{{flex:0 0 14rem;text-align:right;font-size:.85rem;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}}
.line>div{{position:relative;flex:1;height:26px}}canvas{{width:100%;height:100%;display:block}}
.line .box{{position:absolute;box-sizing:border-box;pointer-events:none}}
#now{{position:absolute;top:0;bottom:0;width:2px;background:#f5a623;pointer-events:none}}
@media(max-width:40rem){{.line{{display:block}}.line span{{display:block;text-align:left}}}}
</style><h1>{title}</h1>{player}<div id=rows></div><p id=key></p>
<script type="application/json" id=data>{data}</script><script>
"use strict";
const timeline = JSON.parse(document.getElementById("data").textContent), rows = document.getElementById("rows");
const seconds = timeline.shades[0].length, player = document.querySelector("video"), lines = [];
timeline.texts.forEach((text, row) => {{
  const line = document.createElement("div"), name = document.createElement("span"), strip = document.createElement("div");
  line.className = "line"; name.textContent = name.title = text;
  const canvas = document.createElement("canvas"); canvas.width = seconds; canvas.height = 1;
  const pen = canvas.getContext("2d");
  timeline.shades[row].forEach((shade, at) => {{ pen.fillStyle = `hsl(214 70% ${{96 - 55 * shade}}%)`; pen.fillRect(at, 0, 1, 1); }});
  canvas.style.imageRendering = "pixelated";
  strip.append(canvas); line.append(name, strip); rows.append(line); lines.push(strip);
  strip.addEventListener("click", (event) => {{
    const box = strip.getBoundingClientRect();
    if (player) {{ player.currentTime = (event.clientX - box.left) / box.width * seconds; player.play(); }}
  }});
}});
for (const [name, spans] of Object.entries(timeline.spans)) for (const [row, start, end] of spans) {{
  const box = document.createElement("div"), colour = timeline.colours[name] || "#444";
  box.className = "box"; box.title = `${{name}}: ${{start}}–${{end}} s`;
  const inside = name === "prediction";
  Object.assign(box.style, {{ left: `${{100 * start / seconds}}%`, width: `${{100 * (end - start) / seconds}}%`, [inside ? "border" : "background"]: inside ? `2px solid ${{colour}}` : colour, top: inside ? "1px" : "80%", height: inside ? "24px" : "5px" }});
  lines[row].append(box);
}}
document.getElementById("key").append(...Object.keys(timeline.spans).map((name) => {{ const word = document.createElement("small"); word.style.color = timeline.colours[name]; word.textContent = `▮ ${{name}}  `; return word; }}));
const now = document.createElement("div"); now.id = "now"; rows.append(now); now.hidden = !player;
if (player) (function follow() {{
  const box = lines[0].getBoundingClientRect(), home = rows.getBoundingClientRect();
  now.style.left = `${{box.left - home.left + box.width * Math.min(1, player.currentTime / seconds)}}px`;
  requestAnimationFrame(follow);
}})();
</script></html>
"""
