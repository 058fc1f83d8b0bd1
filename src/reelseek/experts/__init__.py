"""Frames, sound and text -> a feature track per modality.

`EXPERTS` names every expert: a function from an optional model (folder or hub name) to an Expert. A package adds its
own by an entry point in the group `reelseek.experts`, `name = "package.module:function"`; what it is written with
stands here too: streams and their batches, `Track`, `fingerprint`, `PerFrame`.
"""

from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module

from reelseek.errors import ExpertUnavailable, ReelseekError, UsageError, suggest
from reelseek.experts.expert import (
    MODALITIES,
    Expert,
    PerFrame,
    Session,
    Text,
    Track,
    check_expert,
    fingerprint,
    likeliest,
    spans_of_cells,
)
from reelseek.media.streams import FrameBatch, FrameStream, SoundBatch, SoundStream, Subtitle, SubtitleStream
from reelseek.plugins import Plugins, describe_error, find_plugins

__all__ = [
    "DEFAULT_EXPERTS",
    "EXPERTS",
    "MODALITIES",
    "Expert",
    "FrameBatch",
    "FrameStream",
    "PerFrame",
    "Session",
    "SoundBatch",
    "SoundStream",
    "Subtitle",
    "SubtitleStream",
    "Text",
    "Track",
    "available",
    "expert_faults",
    "fingerprint",
    "known_experts",
    "likeliest",
    "load_expert",
    "spans_of_cells",
]

EXPERTS: dict[str, str] = {
    "appearance": "reelseek.experts.efficientnet:appearance",
    "object": "reelseek.experts.efficientnet:object_labels",
    "motion": "reelseek.experts.flow:motion",
    "audio": "reelseek.experts.logmel:audio",
    "speech": "reelseek.experts.speech:speech",
    "ocr": "reelseek.experts.ocr:ocr",
    "face": "reelseek.experts.face:face",
    "clip": "reelseek.experts.clip:clip",
    "video": "reelseek.experts.windows:video",
    "scene": "reelseek.experts.scene:scene",
    "detection": "reelseek.experts.detection:detection",
    "sound": "reelseek.experts.sound:sound",
    "clap": "reelseek.experts.sound:clap",
    "copy": "reelseek.experts.copy:copy",
    "plain": "reelseek.experts.plain:plain",
    "vision_net": "reelseek.experts.networks:vision_net",
    "audio_net": "reelseek.experts.networks:audio_net",
}
DEFAULT_EXPERTS = ("appearance", "object", "motion", "audio", "speech", "ocr")


def _plugins() -> Plugins:
    return find_plugins("reelseek.experts", EXPERTS)


@cache
def known_experts() -> dict[str, str]:
    """List EXPERTS and those that installed packages add."""
    return {name: plugin.target for name, plugin in _plugins().usable.items()} | EXPERTS


def expert_faults() -> dict[str, str]:
    """List the entry points that name no expert at all, each with the reason in one line."""
    return dict(_plugins().faults)


@cache
def load_expert(spec: str) -> Expert:
    """Load an expert by `name`, or `name@model` with a folder or hub name; one instance per process.

    Raises:
        UsageError: no expert of that name.
        ExpertUnavailable: it cannot run here, or breaks the interface; the text says why.
    """
    name, _, model = spec.partition("@")
    if name in _plugins().faults:
        raise ExpertUnavailable(_plugins().faults[name])
    if name not in known_experts():
        raise UsageError(
            f"no expert named {name!r}{suggest(name, known_experts())}; there are {', '.join(sorted(known_experts()))}"
        )
    module, _, function = known_experts()[name].partition(":")
    try:
        create: Callable[[str | None], Expert] = getattr(import_module(module), function)
        expert = create(model or None)
        check_expert(expert, name)
    except ImportError as error:
        raise ExpertUnavailable(f"{name} cannot run here: {error}") from error
    except ReelseekError:
        raise
    except (Exception, SystemExit) as error:  # foreign code: whatever it raises is its own failure
        raise ExpertUnavailable(f"{name} ({known_experts()[name]}) cannot run here: {describe_error(error)}") from error
    return expert


def available(specs: Iterable[str]) -> tuple[list[Expert], dict[str, str]]:
    """Load the experts that can run here; returns them, and by spec why the others cannot."""
    experts, missing = [], {}
    for spec in specs:
        try:
            experts.append(load_expert(spec))
        except ExpertUnavailable as error:
            missing[spec] = str(error)
    return experts, missing
