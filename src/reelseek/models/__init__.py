"""Tokens of any subset of modalities, and captions -> embeddings whose similarity ranks moments."""

from reelseek.models.model import Embedding, RetrievalModel, load_model
from reelseek.models.systems import SYSTEMS

__all__ = ["SYSTEMS", "Embedding", "RetrievalModel", "load_model"]
