"""Figures, each saved as PNG and as SVG."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelseek.evaluation.report import ending

__all__ = ["curves", "figure_axes", "heat_map", "picture_map", "save_figure", "similarity_graph"]

Matrix = npt.NDArray[np.floating]


def figure_axes(width: float, height: float) -> tuple[Any, Any]:
    """Create a figure of a size in inches, and its axes."""
    figure = _figure(width, height)
    return figure, figure.add_subplot()


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # not pyplot, which would look for a window system

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path) -> Path:
    """Save a figure as PNG and SVG; return the path of the PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".svg", ".png"):
        figure.savefig(ending(path, suffix), dpi=150)
    return ending(path, ".png")


def heat_map(
    path: Path,
    values: Matrix,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    *,
    lower_is_better: bool = False,
) -> Path:
    """Draw numbers in coloured cells; better is darker.

    Args:
        values: [row, column]; NaN leaves a cell empty.
    """
    figure, axes = figure_axes(2.2 + 0.9 * len(columns) + 0.07 * max(map(len, rows)), 1.3 + 0.34 * len(rows))
    image = axes.imshow(values, aspect="auto", cmap="viridis" if lower_is_better else "viridis_r")
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = value < middle if lower_is_better else value > middle
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color="white" if dark else "black", size=8)
    axes.set_title(title)
    figure.colorbar(image, ax=axes)
    return save_figure(figure, path)


def curves(
    path: Path,
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    x: str,
    *,
    log: bool = False,
) -> Path:
    """Draw panels side by side, each with named lines (x values, y values).

    Args:
        panels: lines by title and name.
        x: label of the x axes.
        log: logarithmic y axes.
    """
    figure = _figure(4.6 * len(panels), 3.6)
    for place, (title, lines) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), place)
        for name, (across, up) in lines.items():
            axes.plot(across, up, marker="o" if len(across) < 12 else None, label=name)
        axes.set_title(title)
        axes.set_xlabel(x)
        if log:
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(fontsize=8)
    return save_figure(figure, path)


def picture_map(
    path: Path, points: Matrix, pictures: Sequence[bytes | None], labels: Sequence[str], title: str
) -> Path:
    """Draw points [item, 2] as their thumbnails (JPEG), and those without one as dots with labels."""
    figure, axes = figure_axes(11, 9)
    axes.scatter(points[:, 0], points[:, 1], s=6, c="#5b6ee1")
    for point, picture, label in zip(points, pictures, labels, strict=True):
        if picture is None:
            axes.annotate(label[:24], point, fontsize=5)
        else:
            axes.add_artist(_thumbnail(picture, point))
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    return save_figure(figure, path)


def _thumbnail(jpeg: bytes, point: Matrix) -> Any:
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage
    from PIL import Image

    image = Image.open(BytesIO(jpeg)).convert("RGB")
    image.thumbnail((96, 64))
    return AnnotationBbox(OffsetImage(np.asarray(image), zoom=0.45), (point[0], point[1]), pad=0.05, frameon=True)


def similarity_graph(
    path: Path, points: Matrix, edges: Sequence[tuple[int, int]], connectivity: Matrix, title: str
) -> Path:
    """Draw samples [item, 2] with edges between similar ones; size and colour show the connectivity [item]."""
    from matplotlib.collections import LineCollection

    figure, axes = figure_axes(9, 8)
    axes.add_collection(LineCollection([points[list(edge)] for edge in edges], colors="#9aa3b5", linewidths=0.4))
    span = float(np.ptp(connectivity)) or 1.0
    dots = axes.scatter(
        points[:, 0],
        points[:, 1],
        s=8 + 90 * (connectivity - connectivity.min()) / span,
        c=connectivity,
        cmap="plasma_r",
    )
    figure.colorbar(dots, ax=axes, label="mean similarity to all others")
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    return save_figure(figure, path)
