"""What a library says of its own spaces, followed and said once: the encoder of its text, its joint model."""

from typing import TYPE_CHECKING

from reelseek.cli.show import say

if TYPE_CHECKING:
    from reelseek.library import Library
    from reelseek.models import RetrievalModel

__all__ = ["follow_library", "say_joint_model"]


def follow_library(library: "Library") -> None:
    """Embed text by the encoder that the library records, unless REELSEEK_SENTENCE_ENCODER names one."""
    from reelseek.library.text_space import follow_text_space

    if name := follow_text_space(library):
        say(f"text is embedded by {name}, as {library.path} records")


def say_joint_model(model: "RetrievalModel") -> None:
    """Name the joint model of images and texts that a search compares pictures in, if there is one."""
    if name := getattr(model.config, "clip_model", None):
        say(f"pictures are compared with the query by {name}, which made the library's clip tracks")
