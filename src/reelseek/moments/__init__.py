"""Inside one video: similarity second by second, localisation of steps, segmentation, and their timelines."""

from reelseek.moments.crosstask import MeasuredSteps, measure_steps
from reelseek.moments.localization import Localized, Step, localize
from reelseek.moments.segmentation import Part, Segmented, segment
from reelseek.moments.segmented_videos import MeasuredSegments, measure_segments
from reelseek.moments.timeline import Timeline

__all__ = [
    "Localized",
    "MeasuredSegments",
    "MeasuredSteps",
    "Part",
    "Segmented",
    "Step",
    "Timeline",
    "localize",
    "measure_segments",
    "measure_steps",
    "segment",
]
