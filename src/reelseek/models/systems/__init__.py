"""Published systems, a file each; `SYSTEMS` is the one list of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from reelseek.errors import ModelError
from reelseek.models.model import RetrievalModel
from reelseek.models.systems import ce, concepts, coot, eao, mdmmt, mee, mmt, umi

__all__ = ["SYSTEMS", "System"]


@dataclass(frozen=True)
class System:
    """One entry: its configuration, how to build it, and what `models list` says of it."""

    config: type[Any]
    create: Callable[[Any], RetrievalModel]
    trained: bool
    paper: str
    composition: str
    missing: str

    def build(self, settings: Mapping[str, Any]) -> RetrievalModel:
        """A model from plain settings.

        Raises:
            ModelError: a misspelt or wrong setting; says which.
        """
        try:
            return self.create(TypeAdapter(self.config).validate_python(dict(settings)))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ModelError(f"settings of the model are wrong: {problems}") from error


SYSTEMS: dict[str, System] = {
    "concepts": System(
        concepts.ConceptsConfig,
        concepts.Concepts,
        trained=False,
        paper="none: labels, speech, on-screen text and the query meet in one frozen sentence-embedding space",
        composition="labels/text -> sentence space, mean over steps, plain sum of slots",
        missing="mask: an absent modality adds nothing",
    ),
    "mmt": System(
        mmt.MMTConfig,
        mmt.MMT,
        trained=True,
        paper="Gabeur, Sun, Alahari, Schmid. Multi-modal Transformer for Video Retrieval. ECCV 2020",
        composition="linear+L2 -> [CLS], aggregate + steps -> transformer, full -> aggregates; gated text unit a slot",
        missing="mask (default): key mask and zero weight, renormalised; keep: as released, absent experts still score",
    ),
    "mdmmt": System(mdmmt.MDMMTConfig, mdmmt.MDMMT, trained=True, paper="", composition="", missing=""),
    "mee": System(mee.MEEConfig, mee.MEE, trained=True, paper="", composition="", missing=""),
    "ce": System(ce.CEConfig, ce.CE, trained=True, paper="", composition="", missing=""),
    "eao": System(eao.EAOConfig, eao.EAO, trained=True, paper="", composition="", missing=""),
    "coot": System(coot.COOTConfig, coot.COOT, trained=True, paper="", composition="", missing=""),
    "crossclr": System(coot.CrossCLRModelConfig, coot.CrossCLRModel, trained=True, paper="", composition="", missing=""),
    "umi": System(umi.UMIConfig, umi.UMI, trained=True, paper="", composition="", missing=""),
}
