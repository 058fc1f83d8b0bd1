"""Pictures of one video: predicted and annotated spans over a heat map of similarities [text, second]."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelseek.evaluation.figures import figure_axes, save_figure
from reelseek.evaluation.pages import render_page
from reelseek.evaluation.report import ending

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
        """Render a self-contained page: the heat map, a line that follows the player; a click plays from that second.

        Args:
            media: address of the video, relative to the page; None leaves the player out.
        """
        timeline = {
            "texts": list(self.texts),
            "shades": np.round(self._shades().T, 3).tolist(),
            "spans": {name: [list(span) for span in spans] for name, spans in self.spans.items()},
            "colours": _COLOURS,
        }
        return render_page("timeline.html", title=self.title, media=media, timeline=timeline)


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _address(page: Path, media: Path | None) -> str | None:
    """Address of the video relative to the page, so that both can be moved together."""
    if media is None:
        return None
    from urllib.parse import quote

    return quote(os.path.relpath(media.resolve(), page.resolve().parent))
