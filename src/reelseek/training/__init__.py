"""Learning from a library's captions, and measuring what was learnt."""

from reelseek.training.dataset import FeatureDataset
from reelseek.training.loop import train
from reelseek.training.measure import Measured, evaluate
from reelseek.training.recipe import Recipe, read_recipe

__all__ = ["FeatureDataset", "Measured", "Recipe", "evaluate", "read_recipe", "train"]
