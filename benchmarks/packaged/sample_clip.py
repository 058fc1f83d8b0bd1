"""Writes the clip that `reelseek doctor` runs every expert on: src/reelseek/experts/sample.mp4.

Three seconds that the studio draws, with a title, a spoken line (so espeak-ng is needed) and a melody: something for
each modality. Run: python benchmarks/packaged/sample_clip.py
"""

import tempfile
from pathlib import Path

from reelseek.experts.sample import SAMPLE_CLIP
from reelseek.studio.films import Film, Shot, shoot


def main() -> None:
    film = Film(
        name="sample",
        shots=(Shot("ball", "pan right", 0.0, 3.0),),
        title="OPEN DAY",
        title_shot=0,
        sound="melody",
        line="the museum opens at nine",
        voice="en",
        subtitled=False,
        format=(".mp4", "libx264", "aac"),
        size=(320, 240),
        rate=12,
        captions=(),
        seed=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        SAMPLE_CLIP.write_bytes(shoot(film, Path(folder)).read_bytes())
    print(SAMPLE_CLIP, SAMPLE_CLIP.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
