"""MDMMT (Dzabraev, Kalashnikov, Komkov, Petiushko, CVPRW 2021): MMT, deeper, on three strong experts and many datasets.

Its network is MMT's to the bit. A video's slots are concatenated into one vector of unit parts, and a caption's weights
are multiplied into its slots, so that one dot product ranks: with every slot scored and weights that sum to one, MMT's
mixture is that dot product.
"""

from typing import Literal

from pydantic.dataclasses import dataclass

from reelseek.models.blocks.arrange import Subsampling
from reelseek.models.settings import STRICT
from reelseek.models.systems.mmt import MMT, MMTConfig

__all__ = ["MDMMT", "MDMMTConfig"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MDMMTConfig(MMTConfig):
    """Section 4 and the released configuration: 9 layers, 8 heads, dropout .2, the first steps of a long track.

    `missing` is `mask` here; as released it is `keep`, where an absent expert's slot is the output of its empty token.
    """

    depth: int = 9
    heads: int = 8
    dropout: float = 0.2
    longer: Subsampling = "first"
    aggregate: Literal["all", "kept"] = "kept"


class MDMMT(MMT):
    """MMT with MDMMT's sizes and choices."""

    system = "mdmmt"
