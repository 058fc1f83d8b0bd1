"""Tokens of any subset of modalities, and captions -> embeddings whose similarity ranks moments.

What a system of another package is written with stands here: `LearnedModel`, `SystemConfig`, `System`, and their parts.
"""

from reelseek.library.tokens import Steps, Tokens
from reelseek.models.batch import Batch
from reelseek.models.embedding import Embedding
from reelseek.models.learned import LearnedModel, SystemConfig
from reelseek.models.losses import LossConfig
from reelseek.models.model import RetrievalModel, load_model
from reelseek.models.settings import STRICT
from reelseek.models.systems import SYSTEMS, System
from reelseek.models.text import TextConfig

__all__ = [
    "STRICT",
    "SYSTEMS",
    "Batch",
    "Embedding",
    "LearnedModel",
    "LossConfig",
    "RetrievalModel",
    "Steps",
    "System",
    "SystemConfig",
    "TextConfig",
    "Tokens",
    "load_model",
]
