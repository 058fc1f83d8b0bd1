"""A clip of three seconds that comes with the package, and what an expert makes of it here and now."""

import time
from dataclasses import dataclass
from pathlib import Path

from reelseek.errors import MediaError
from reelseek.experts.extract import extract, prepare_worker
from reelseek.media.container import Limits

__all__ = ["SAMPLE_CLIP", "SAMPLE_SECONDS", "SampleRun", "run_on_sample"]

SAMPLE_CLIP = Path(__file__).parent / "sample.mp4"
"""A bouncing ball, the title OPEN DAY, a melody and a spoken line; `benchmarks/packaged/sample_clip.py` makes it."""
SAMPLE_SECONDS = 3.0


@dataclass(frozen=True)
class SampleRun:
    """What became of an expert on the sample clip.

    Attributes:
        steps: of its track.
        seconds: that it took, with its weights loaded before.
        error: why it made no track, else empty.
    """

    steps: int = 0
    seconds: float = 0.0
    error: str = ""


def run_on_sample(spec: str) -> SampleRun:
    """Run an expert on the sample clip in this process, as a worker of `add` would."""
    prepare_worker([spec])
    try:
        extract(SAMPLE_CLIP, [spec], Limits(), pictures=False)  # loads what is loaded at first use
        started = time.perf_counter()
        extracted = extract(SAMPLE_CLIP, [spec], Limits(), pictures=False)
    except MediaError as error:
        return SampleRun(error=f"the sample clip cannot be decoded: {error}")
    if spec in extracted.errors:
        return SampleRun(error=extracted.errors[spec])
    return SampleRun(len(extracted.tracks[spec].values), time.perf_counter() - started)
