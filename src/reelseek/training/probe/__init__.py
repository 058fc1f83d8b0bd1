"""What a representation is worth: a linear classifier on it, frozen or tuned with it.

Source: the protocols of Alayrac et al. 2020 (MMV), section 4.1: features standardised, a linear classifier, several
windows of a video averaged; sound by mean average precision; pictures through a video network.
"""

from reelseek.training.probe.linear import Classifier, linear_decisions
from reelseek.training.probe.probe import Probed, probe

__all__ = ["Classifier", "Probed", "linear_decisions", "probe"]
