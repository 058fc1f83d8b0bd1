"""Worlds of feature tracks whose truth is known: what every video shows, who sees it, and what a caption says of it.

A clip holds one value of each of seven facts. Seven modalities carry them, each its own fact strongly and others
weakly, so that what a caption says is found in several modalities or in one alone. A caption names some of the facts,
in one of two words each. Nothing here is drawn from real footage: a world answers how a method behaves where the truth
is known, not how well it does on films.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["FACTS", "MODALITIES_OF_WORLD", "World", "WorldConfig", "generator_hash", "make_world"]

Array = npt.NDArray[np.float32]

# A fact, how a caption puts it, and its values, each with the words that mean it.
FACTS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "person": ("{}", (
        ("woman", "lady"), ("man", "guy"), ("girl", "schoolgirl"), ("boy", "lad"), ("baby", "infant"), ("chef", "cook"),
        ("soldier", "trooper"), ("nurse", "medic"), ("farmer", "grower"), ("singer", "vocalist"), ("king", "monarch"),
        ("pilot", "aviator"), ("clown", "jester"), ("judge", "magistrate"), ("waiter", "server"), ("painter", "artist"),
    )),
    "action": ("{}", (
        ("running", "jogging"), ("cooking", "frying"), ("dancing", "twirling"), ("sleeping", "dozing"),
        ("fighting", "boxing"), ("swimming", "diving"), ("reading", "studying"), ("jumping", "hopping"),
        ("driving", "steering"), ("painting", "drawing"), ("climbing", "scaling"), ("eating", "dining"),
        ("digging", "shovelling"), ("sewing", "stitching"), ("skating", "gliding"), ("throwing", "tossing"),
    )),
    "object": ("with a {}", (
        ("dog", "puppy"), ("car", "automobile"), ("guitar", "ukulele"), ("ball", "sphere"), ("knife", "blade"),
        ("horse", "pony"), ("phone", "mobile"), ("cake", "pie"), ("boat", "canoe"), ("chair", "stool"),
        ("camera", "camcorder"), ("bicycle", "bike"), ("lamp", "lantern"), ("bottle", "flask"), ("hat", "cap"),
        ("drum", "tambour"),
    )),
    "place": ("in the {}", (
        ("kitchen", "galley"), ("beach", "seaside"), ("forest", "woods"), ("street", "road"), ("office", "bureau"),
        ("garden", "yard"), ("desert", "dunes"), ("stadium", "arena"), ("church", "chapel"), ("river", "stream"),
        ("mountain", "hill"), ("garage", "workshop"), ("school", "classroom"), ("market", "bazaar"),
        ("hospital", "clinic"), ("castle", "fortress"),
    )),
    "sound": ("while {} is heard", (
        ("music", "melody"), ("applause", "clapping"), ("thunder", "rumbling"), ("barking", "woofing"),
        ("laughter", "giggling"), ("traffic", "honking"), ("rain", "drizzle"), ("whistling", "piping"),
        ("crying", "sobbing"), ("drilling", "hammering"), ("bells", "chimes"), ("wind", "gusts"),
        ("engines", "motors"), ("birdsong", "chirping"), ("sirens", "alarms"), ("footsteps", "steps"),
    )),
    "topic": ("talking about {}", (
        ("politics", "elections"), ("football", "soccer"), ("recipes", "ingredients"), ("weather", "climate"),
        ("money", "finance"), ("movies", "cinema"), ("health", "medicine"), ("travel", "tourism"),
        ("history", "antiquity"), ("love", "romance"), ("science", "physics"), ("fashion", "clothing"),
        ("games", "puzzles"), ("war", "conflict"), ("school", "lessons"), ("farming", "crops"),
    )),
    "sign": ("under a sign that says {}", (
        ("sale", "discount"), ("danger", "warning"), ("exit", "out"), ("welcome", "hello"), ("winner", "champion"),
        ("closed", "shut"), ("free", "gratis"), ("news", "headlines"), ("subscribe", "follow"), ("live", "onair"),
        ("menu", "dishes"), ("stop", "halt"), ("hotel", "inn"), ("taxi", "cab"), ("police", "sheriff"),
        ("museum", "gallery"),
    )),
}  # fmt: skip

# Who sees what, and how clearly.
MODALITIES_OF_WORLD: dict[str, dict[str, float]] = {
    "appearance": {"object": 0.5, "action": 0.7, "place": 0.5, "person": 0.4},
    "object": {"object": 1.0},
    "scene": {"place": 1.0, "sound": 0.2},
    "face": {"person": 1.0},
    "audio": {"sound": 1.0, "action": 0.4},
    "speech": {"topic": 1.0, "object": 0.4},
    "ocr": {"sign": 1.0, "topic": 0.4},
}
_VALUES = 16
_WIDTH, _WORD_WIDTH = 48, 48
_LEVEL = 0.1  # before what is below zero is cut off, as networks do: features of unlike clips are alike too


@dataclass(frozen=True)
class WorldConfig:
    """How a world is.

    Args:
        train, validation, test: videos of each split, of each domain.
        clips: of a video, eight seconds each; what they share is the place and the person.
        captions: of a training clip; a test clip has one.
        named: how many facts a caption names, at least and at most.
        told: which facts captions may name.
        narrated: how loudly a training clip's sound also speaks the facts that are told, as where captions are what was
            recognised in that very sound; nobody narrates test clips.
        noise: of a step, against a fact of size one.
        shown: chance that a step shows what its clip is about, and not something of another clip.
        absent: chance that a video lacks a modality by nature (appearance is never lacking).
        twins: share of videos that mean the same as another one of their split, filmed anew.
        domains: collections with looks of their own, which know partly the same values.
        apart: how far the looks of domains are from each other.
        copies: share of test videos that are copies of a training video with a little noise, captioned anew.
        strong: a second appearance expert, named `appearance-strong`, with so much of the noise.
    """

    train: int = 480
    validation: int = 80
    test: int = 200
    clips: int = 1
    captions: int = 3
    named: tuple[int, int] = (2, 4)
    told: tuple[str, ...] = tuple(FACTS)
    narrated: float = 0.0
    noise: float = 1.0
    shown: float = 0.7
    absent: float = 0.0
    twins: float = 0.0
    domains: int = 1
    apart: float = 0.0
    copies: float = 0.0
    strong: float | None = None


@dataclass
class World:
    """What a world holds.

    Attributes:
        tracks: for each expert its modality and, for each video, values [step, dim] and spans [step, 2] in seconds.
        captions: video, words, start, end, split.
        splits: the videos of each split; with several domains `train-0`, `test-1`, and so on too; with copies
            `train-clean`, from which nothing was copied, `test-copied` and `test-own`.
        copied: for each test video that is a copy the training video it is a copy of.
        words: a vector for each word that captions use; words of one meaning are near each other.
        facts: the values of each clip's facts, for those who want to check.
    """

    tracks: dict[str, tuple[str, dict[str, tuple[Array, npt.NDArray[np.float64]]]]] = field(default_factory=dict)
    captions: list[tuple[str, str, float | None, float | None, str]] = field(default_factory=list)
    splits: dict[str, list[str]] = field(default_factory=dict)
    copied: dict[str, str] = field(default_factory=dict)
    words: dict[str, Array] = field(default_factory=dict)
    facts: dict[tuple[str, int], dict[str, int]] = field(default_factory=dict)

    def write_words(self, path: Path) -> None:
        """The vectors as a text file that models read (GloVe's form)."""
        lines = (f"{word} {' '.join(f'{v:.5f}' for v in vector)}" for word, vector in self.words.items())
        path.write_text("\n".join(lines) + "\n", "utf-8")


def generator_hash() -> str:
    """Twelve digits of this file, so that a verdict can say which generator it was reached with."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


def make_world(config: WorldConfig, seed: int) -> World:
    """A world; the same for the same configuration and seed."""
    rng = np.random.default_rng([seed, 20_231])
    world = World(words=_words(rng))
    looks = _Looks(config, rng)
    for domain in range(config.domains):
        known = _known(config, rng)
        first: dict[str, list[str]] = {}
        for split, count in (("train", config.train), ("val", config.validation), ("test", config.test)):
            videos = [f"{split}{domain}-{number:04}" for number in range(count)]
            first[split] = videos
            for place, video in enumerate(videos):
                _film(world, config, looks, rng, video, split, domain, known, videos[:place], first["train"])
            world.splits.setdefault(split, []).extend(videos)
            if config.domains > 1:
                world.splits[f"{split}-{domain}"] = videos
    if config.copies:
        copied = set(world.copied.values())
        world.splits["train-clean"] = [video for video in world.splits["train"] if video not in copied]
        world.splits["test-copied"] = list(world.copied)
        world.splits["test-own"] = [video for video in world.splits["test"] if video not in world.copied]
    return world


class _Looks:
    """How facts look to each expert: a prototype a value, turned a little for each domain, then bent and rectified."""

    def __init__(self, config: WorldConfig, rng: np.random.Generator) -> None:
        self.noise = dict.fromkeys(MODALITIES_OF_WORLD, config.noise)
        self.sees = dict(MODALITIES_OF_WORLD)
        if config.strong is not None:
            self.sees["appearance-strong"] = self.sees["appearance"]
            self.noise["appearance-strong"] = config.noise * config.strong
        self.prototypes = {
            (expert, fact): _unit(rng.normal(size=(_VALUES, _WIDTH)))
            for expert, facts in self.sees.items()
            for fact in (FACTS if expert == "audio" else facts)
        }
        self.narrated = dict.fromkeys(config.told, config.narrated)
        self.bend = {expert: rng.normal(size=(_WIDTH, _WIDTH)) / np.sqrt(_WIDTH) for expert in self.sees}
        self.turn = {
            (expert, domain): np.eye(_WIDTH) + config.apart * rng.normal(size=(_WIDTH, _WIDTH)) / np.sqrt(_WIDTH)
            for expert in self.sees
            for domain in range(config.domains)
        }
        self.shift = {
            (expert, domain): config.apart * rng.normal(size=_WIDTH) / np.sqrt(_WIDTH)
            for expert in self.sees
            for domain in range(config.domains)
        }

    def step(
        self, expert: str, facts: Mapping[str, int], domain: int, rng: np.random.Generator, *, narrated: bool
    ) -> Array:
        sees = dict(self.sees[expert])
        if narrated and expert == "audio":
            sees = {fact: sees.get(fact, 0.0) + self.narrated.get(fact, 0.0) for fact in FACTS}
        seen = sum(strength * self.prototypes[expert, fact][facts[fact]] for fact, strength in sees.items())
        noisy = seen + self.noise[expert] * rng.normal(size=_WIDTH) / np.sqrt(_WIDTH)
        turned = noisy @ self.turn[expert, domain] + self.shift[expert, domain]
        bent: Array = np.maximum(0, turned + np.tanh(2 * turned @ self.bend[expert]) + _LEVEL).astype(np.float32)
        return bent


def _unit(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _known(config: WorldConfig, rng: np.random.Generator) -> dict[str, Sequence[int]]:
    """The values of each fact that a domain films: all of them, or three quarters where there are several domains."""
    count = _VALUES if config.domains == 1 else 3 * _VALUES // 4
    return {fact: rng.permutation(_VALUES)[:count].tolist() for fact in FACTS}


def _film(
    world: World,
    config: WorldConfig,
    looks: _Looks,
    rng: np.random.Generator,
    video: str,
    split: str,
    domain: int,
    known: Mapping[str, Sequence[int]],
    before: Sequence[str],
    trained: Sequence[str],
) -> None:
    """Tracks and captions of one video."""
    copied = str(rng.choice(trained)) if split == "test" and rng.random() < config.copies else None
    twin = str(rng.choice(before)) if before and rng.random() < config.twins else None
    if copied is not None:
        world.copied[video] = copied
    clips = _clips(world, config, rng, known, copied or twin)
    for number, facts in enumerate(clips):
        world.facts[video, number] = facts
    there = [expert for expert in looks.sees if expert.startswith("appearance") or rng.random() >= config.absent]
    for expert in looks.sees:
        modality = expert.partition("-")[0]
        kept = world.tracks.setdefault(expert, (modality, {}))[1]
        if copied is not None:
            if copied in kept:
                values, spans = kept[copied]
                kept[video] = (values + np.float32(0.05) * rng.normal(size=values.shape).astype(np.float32), spans)
        elif expert in there:
            kept[video] = _track(config, looks, rng, expert, clips, domain, narrated=split == "train")
    times = [None] if config.clips == 1 else [(8.0 * n, 8.0 * (n + 1)) for n in range(config.clips)]
    for facts, span in zip(clips, times, strict=True):
        begin, end = span or (None, None)
        for _ in range(config.captions if split == "train" else 1):
            world.captions.append((video, _caption(config, rng, facts), begin, end, split))


def _clips(
    world: World,
    config: WorldConfig,
    rng: np.random.Generator,
    known: Mapping[str, Sequence[int]],
    like: str | None,
) -> list[dict[str, int]]:
    if like is not None:
        return [dict(world.facts[like, number]) for number in range(config.clips)]
    whole = {fact: int(rng.choice(values)) for fact, values in known.items()}
    clips = []
    for _ in range(config.clips):
        own = {fact: int(rng.choice(values)) for fact, values in known.items()}
        clips.append({**own, "place": whole["place"], "person": whole["person"]})
    return clips


def _track(
    config: WorldConfig,
    looks: _Looks,
    rng: np.random.Generator,
    expert: str,
    clips: Sequence[Mapping[str, int]],
    domain: int,
    *,
    narrated: bool,
) -> tuple[Array, npt.NDArray[np.float64]]:
    """Steps of eight seconds a clip; one that does not show its clip shows values at random."""
    values, spans = [], []
    for number, facts in enumerate(clips):
        steps = int(rng.integers(3, 9))
        edges = 8.0 * number + np.linspace(0, 8, steps + 1)
        for step in range(steps):
            seen = facts if rng.random() < config.shown else {fact: int(rng.integers(_VALUES)) for fact in FACTS}
            values.append(looks.step(expert, seen, domain, rng, narrated=narrated))
            spans.append((edges[step], edges[step + 1]))
    return np.stack(values), np.array(spans)


def _caption(config: WorldConfig, rng: np.random.Generator, facts: Mapping[str, int]) -> str:
    least, most = config.named
    named = set(rng.permutation(list(config.told))[: int(rng.integers(least, most + 1))].tolist())
    pieces = []
    for fact, (phrase, values) in FACTS.items():
        if fact in named:
            pieces.append(phrase.format(values[facts[fact]][int(rng.integers(2))]))
    return " ".join(pieces)


def _words(rng: np.random.Generator) -> dict[str, Array]:
    """Vectors of all words: two that mean the same lie at a cosine of about .8, all others at random."""
    found: dict[str, Array] = {}
    for phrase, values in FACTS.values():
        for word in phrase.replace("{}", "").split():
            found.setdefault(word, 0.2 * _unit(rng.normal(size=_WORD_WIDTH)).astype(np.float32))
        for meanings in values:
            middle = _unit(rng.normal(size=_WORD_WIDTH))
            for word in meanings:
                if word not in found:
                    found[word] = _unit(middle + 0.5 * _unit(rng.normal(size=_WORD_WIDTH))).astype(np.float32)
    return found
