"""Experts as people choose them today, by name: `--preset standard`.

Licences, sizes and revisions are those of the models' pages on the hub, as of November 2026. Each model has weights as
safetensors, without which none is loaded; a revision is named where they lie in a commit of their own.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from reelseek.errors import ExpertUnavailable, UsageError, suggest
from reelseek.experts.hub import is_pulled

__all__ = ["PRESETS", "Expansion", "Member", "Preset", "expand_presets", "find_preset", "missing_models"]

_PREFIX = "preset:"


@dataclass(frozen=True)
class Member:
    """An expert of a preset.

    Args:
        expert: as `--experts` takes it, `name` or `name@model`; `text@model` is the sentence encoder.
        licence: SPDX name, as the model's page states it; of a packaged expert that of its package.
        megabytes: of its weights, 0 where they are packaged.
        adds: what a search or a model gains by it.
        revision: the commit of its repository that is fetched; None is the newest.
    """

    expert: str
    licence: str
    megabytes: int
    adds: str
    revision: str | None = None

    @property
    def name(self) -> str:
        """The expert's name."""
        return self.expert.partition("@")[0]

    @property
    def model(self) -> str:
        """The hub name of its model; '' of a packaged expert."""
        return self.expert.partition("@")[2]


@dataclass(frozen=True)
class Preset:
    """A list of experts, and the encoder of what is said and written."""

    name: str
    members: tuple[Member, ...]

    @property
    def experts(self) -> tuple[str, ...]:
        """What `--experts` would name."""
        return tuple(member.expert for member in self.members if member.name != "text")

    @property
    def text_encoder(self) -> str:
        """The model that embeds speech, on-screen text and queries; '' is the packaged one."""
        return next((member.model for member in self.members if member.name == "text"), "")

    @property
    def models(self) -> tuple[Member, ...]:
        """The members whose models are fetched, each model once."""
        return _by_model(self.members)


def _by_model(members: Sequence[Member]) -> tuple[Member, ...]:
    first: dict[str, Member] = {}
    for member in members:
        if member.model:
            first.setdefault(member.model, member)
    return tuple(first.values())


_OBJECT = Member(
    "object", "Apache-2.0", 0, "1,000 kinds of things by name (ImageNet), which search compares with the query"
)
_SCENES = "indoor and outdoor places by name; the same model as clip's, fetched once"
_OCR = Member("ocr", "Apache-2.0", 0, "what is written on screen")
_CLAP = Member(
    "clap@laion/larger_clap_general",
    "Apache-2.0",
    776,
    "sounds as vectors near those of their descriptions, for trained models",
    revision="16c8cc3159a3c8a31e8ff5ef1f66b0d9ab3667db",
)
_TAGGER = Member(
    "sound@MIT/ast-finetuned-audioset-10-10-0.4593", "BSD-3-Clause", 346, "527 kinds of sounds by name (AudioSet)"
)
_TEXT = Member(
    "text@sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
    "Apache-2.0",
    471,
    "speech, on-screen text and queries in some 50 languages, in one space",
)

_OFFLINE = Preset(
    "offline",
    (
        Member("appearance", "Apache-2.0", 0, "what pictures look like (EfficientNet-Lite0)"),
        _OBJECT,
        Member("motion", "Apache-2.0", 0, "how much moves, and where to (optical flow)"),
        Member("audio", "Apache-2.0", 0, "log-mel spectrogram, for models that learn from sound"),
        Member("speech", "MIT", 0, "subtitles, else when somebody speaks"),
        _OCR,
    ),
)
_STANDARD = Preset(
    "standard",
    (
        Member(
            "clip@google/siglip2-base-patch16-224",
            "Apache-2.0",
            1501,
            "pictures and queries in one space, in many languages: what search weighs first",
        ),
        _OBJECT,
        Member(
            "video@microsoft/xclip-base-patch32",
            "MIT",
            786,
            "motion in windows of two seconds, as vectors for trained models",
        ),
        Member(
            "detection@PekingU/rtdetr_v2_r50vd", "Apache-2.0", 172, "80 kinds of things that are surely there, by name"
        ),
        Member("scene@google/siglip2-base-patch16-224", "Apache-2.0", 1501, _SCENES),
        _CLAP,
        _TAGGER,
        Member("speech@openai/whisper-large-v3-turbo", "MIT", 1620, "what is said, in 99 languages, with word times"),
        _OCR,
        _TEXT,
    ),
)
_BEST = Preset(
    "best",
    (
        Member(
            "clip@google/siglip2-so400m-patch14-384",
            "Apache-2.0",
            4540,
            "pictures and queries in one space, in many languages; finer than the standard one's",
        ),
        _OBJECT,
        Member(
            "video@MCG-NJU/videomae-large-finetuned-kinetics",
            "CC-BY-NC-4.0",
            1220,
            "motion in windows of two seconds, finer; its licence forbids commercial use",
        ),
        Member(
            "detection@PekingU/rtdetr_r101vd_coco_o365",
            "Apache-2.0",
            307,
            "80 kinds of things that are surely there, by name",
        ),
        Member("scene@google/siglip2-so400m-patch14-384", "Apache-2.0", 4540, _SCENES),
        _CLAP,
        _TAGGER,
        Member("speech@openai/whisper-large-v3", "Apache-2.0", 3090, "what is said, in 99 languages, with word times"),
        _OCR,
        _TEXT,
    ),
)
PRESETS: dict[str, Preset] = {entry.name: entry for entry in (_OFFLINE, _STANDARD, _BEST)}


def find_preset(name: str) -> Preset:
    """Find a preset by name.

    Raises:
        UsageError: there is none of that name; names those there are.
    """
    if name not in PRESETS:
        raise UsageError(f"no preset named {name!r}{suggest(name, PRESETS)}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def missing_models(preset: Preset, *, without: Collection[str] = ()) -> list[Member]:
    """List the members whose models are not on this machine, `without` experts of some names."""
    used = [member for member in preset.members if member.name not in without]
    return [member for member in _by_model(used) if not is_pulled(member.model)]


@dataclass(frozen=True)
class Expansion:
    """Experts with presets written out, and the encoder of text that a preset names ('': none does)."""

    experts: tuple[str, ...]
    text_encoder: str = ""


def expand_presets(specs: Sequence[str]) -> Expansion:
    """Write out `preset:NAME` among experts; an expert that is named beside it takes the place of the preset's.

    Raises:
        UsageError: there is no such preset, or more than one is named.
        ExpertUnavailable: models of a preset are not on this machine; names the command that fetches them.
    """
    presets = [find_preset(spec.removeprefix(_PREFIX)) for spec in specs if spec.startswith(_PREFIX)]
    explicit = tuple(spec for spec in specs if not spec.startswith(_PREFIX))
    if not presets:
        return Expansion(explicit)
    if len(presets) > 1:
        raise UsageError(f"{len(presets)} presets are named; name one, and further experts beside it")
    (preset,) = presets
    names = {spec.partition("@")[0] for spec in explicit}
    if missing := missing_models(preset, without=names):
        raise ExpertUnavailable(
            f"preset {preset.name} needs {len(missing)} models that are not on this machine "
            f"({', '.join(member.model for member in missing)}); fetch them with: "
            f"reelseek models pull --preset {preset.name}"
        )
    experts = tuple(spec for spec in preset.experts if spec.partition("@")[0] not in names)
    return Expansion((*experts, *explicit), preset.text_encoder)
