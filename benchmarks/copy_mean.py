"""Writes what pictures have in common, which the expert `copy` takes away: src/reelseek/experts/copy_mean.npy.

The mean of its unit vectors over the studio's films (24, seed 5) and over the sample pictures that come with
scikit-image and scikit-learn, each half of it. Run: python benchmarks/copy_mean.py
"""

import tempfile
from pathlib import Path

import numpy as np
import skimage
import sklearn
from PIL import Image

from reelseek.experts.copy import embed_pictures
from reelseek.media.decode import read_frames
from reelseek.media.streams import FrameStream
from reelseek.media.suffixes import MEDIA_SUFFIXES
from reelseek.studio import write_archive

OUT = Path(__file__).parents[1] / "src" / "reelseek" / "experts" / "copy_mean.npy"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_archive(Path(folder), 24, seed=5, clips=False)
        films = [
            embed_pictures(batch.pixels)
            for path in sorted(Path(folder).iterdir())
            if path.suffix in MEDIA_SUFFIXES
            for batch in read_frames(path, FrameStream(fps=1, short_side=320))
        ]
    pictures = []
    for package in (skimage, sklearn):
        for path in sorted(Path(package.__path__[0]).rglob("*")):
            if path.suffix in (".png", ".jpg"):
                pixels = np.asarray(Image.open(path).convert("RGB"))
                if min(pixels.shape[:2]) >= 100:
                    pictures.append(embed_pictures(pixels[None]))
    mean = (np.concatenate(films).mean(0) + np.concatenate(pictures).mean(0)) / 2
    np.save(OUT, mean.astype(np.float16))
    print(f"{sum(map(len, films))} frames, {len(pictures)} pictures; length {np.linalg.norm(mean):.3f}: {OUT}")


if __name__ == "__main__":
    main()
