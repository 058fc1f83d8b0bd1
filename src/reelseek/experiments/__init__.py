"""The papers' claims as runnable comparisons; `EXPERIMENTS` is the list of them."""

from reelseek.experiments.crossclr import CROSSCLR
from reelseek.experiments.eao import EAO
from reelseek.experiments.experiment import Experiment
from reelseek.experiments.mdmmt import MDMMT
from reelseek.experiments.mmv import MMV
from reelseek.experiments.moments import MOMENTS
from reelseek.experiments.umi import UMI

__all__ = ["EXPERIMENTS", "Experiment"]

EXPERIMENTS: dict[str, Experiment] = {paper.name: paper for paper in (UMI, EAO, CROSSCLR, MDMMT, MMV, MOMENTS)}
