"""Captions that a machine writes: what they are written from, learning to write them, and how good they are.

Source: Lei et al. 2020 (MART), on embeddings as Ging et al. 2020 (COOT) and Zolfaghari et al. 2021 (CrossCLR) do it.
"""

from reelseek.training.captions.scores import MeasuredCaptions, measure_captions, nearest_captions
from reelseek.training.captions.stories import Story, stories_of
from reelseek.training.captions.train import CaptionRecipe, read_caption_recipe, train_captions
from reelseek.training.captions.writer import Writer, check_place, load_writer

__all__ = [
    "CaptionRecipe",
    "MeasuredCaptions",
    "Story",
    "Writer",
    "check_place",
    "load_writer",
    "measure_captions",
    "nearest_captions",
    "read_caption_recipe",
    "stories_of",
    "train_captions",
]
