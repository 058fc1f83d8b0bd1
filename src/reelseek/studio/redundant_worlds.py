"""Worlds whose modalities tell much of the same, with one that tells most, and captions as contextual vectors.

The second generator of worlds. What a clip shows follows a scenario, so that its facts go together; all modalities see
facts of the same clip, appearance nearly all of them; some clips resemble everything (hubs); some differ from another
clip in the order of two actions alone, and captions name the order and the length. Captions come as one vector per
token, in the geometry of an encoder that was measured on real captions (`TEXT_GEOMETRIES`). Nothing here is drawn from
real footage: a world answers how a method behaves where the truth is known, not how well it does on films.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from reelseek.studio import worlds
from reelseek.studio.worlds import FACTS, World

__all__ = [
    "SEES",
    "TEXT_GEOMETRIES",
    "RedundantConfig",
    "RedundantWorld",
    "TextGeometry",
    "make_redundant_world",
    "redundant_generator_hash",
]

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

# How clearly each modality sees which facts; appearance is the dominant one.
SEES: dict[str, dict[str, float]] = {
    "appearance": {"person": 0.8, "action": 1.0, "object": 0.9, "place": 0.9, "sound": 0.4, "topic": 0.3},
    "object": {"object": 1.0, "person": 0.4, "place": 0.3},
    "scene": {"place": 1.0, "object": 0.4, "sound": 0.3},
    "face": {"person": 1.0, "action": 0.3},
    "audio": {"sound": 1.0, "action": 0.7, "place": 0.4, "topic": 0.3},
    "speech": {"topic": 1.0, "object": 0.6, "action": 0.4},
    "ocr": {"sign": 0.8, "topic": 0.6, "place": 0.4},
}
_VALUES, _WIDTH, _TEXT_WIDTH = 16, 48, 96
_SCENARIOS, _TYPICAL = 24, 0.75  # a fact has the scenario's value, or one at random
_CLIP_SECONDS = 8.0
_LENGTHS = (("briefly", 2, 4), ("", 5, 8), ("at length", 9, 12))  # how a caption names the number of steps


@dataclass(frozen=True)
class TextGeometry:
    """Pooled caption vectors: the mean token vector of each caption, at unit length.

    Attributes:
        common: length of the vector that all tokens share, against words of length one.
        mean, spread: mean and standard deviation of the cosine of two captions, as measured; see `source`.
        source: what was measured.
    """

    common: float
    mean: float
    spread: float
    source: str


TEXT_GEOMETRIES: dict[str, TextGeometry] = {
    "sentence": TextGeometry(
        0.07, 0.076, 0.113, "the packaged sentence encoder on 29 captions of MSR-VTT's test split"
    ),
    "between": TextGeometry(0.28, 0.5, 0.12, "nothing: it lies between the two that were measured"),
    "bert": TextGeometry(1.0, 0.92, 0.02, "a BERT-base of random weights on the same captions, mean of its tokens"),
}


@dataclass(frozen=True)
class RedundantConfig:
    """How a world is.

    Args:
        train, validation, test: videos of each split, of each domain.
        clips: of a video; what they share is the scenario, the place and the person.
        captions: of a training clip; a test clip has one.
        named: how many facts a caption names, at least and at most.
        told: which facts captions may name.
        text: the geometry of caption vectors, one of TEXT_GEOMETRIES.
        narrated: how loudly a training clip's sound also speaks the facts that are told, as where captions are what was
            recognised in that very sound; nobody narrates test clips.
        noise: of a step, against a fact of size one.
        shown: chance that a step shows what its clip is about, and not something of another clip.
        hubs: share of videos that resemble all others.
        reversed_pairs: share of videos whose clips are those of the video before them in the split, filmed anew with
            their two actions in the other order.
        absent: chance that a video lacks a modality by nature (appearance is never lacking).
        domains: collections with looks of their own, which know partly the same scenarios.
        apart: how far the looks of domains are from each other.
        copies: share of test videos that are copies of a training video with a little noise, captioned anew.
        strong: a second appearance expert, named `appearance-strong`, with so much of the noise.
    """

    train: int = 400
    validation: int = 80
    test: int = 200
    clips: int = 1
    captions: int = 3
    named: tuple[int, int] = (2, 4)
    told: tuple[str, ...] = tuple(FACTS)
    text: Literal["sentence", "between", "bert"] = "sentence"
    narrated: float = 0.0
    noise: float = 1.2
    shown: float = 0.8
    hubs: float = 0.04
    reversed_pairs: float = 0.15
    absent: float = 0.0
    domains: int = 1
    apart: float = 0.0
    copies: float = 0.0
    strong: float | None = None


@dataclass
class RedundantWorld(World):
    """A world with a vector per token of each caption.

    Attributes:
        vectors: of each of `captions` [token, dim]; dim is 96.
        hubs: the videos that resemble all others.
        second: the second action of each clip.
    """

    vectors: list[Array] = field(default_factory=list)
    hubs: set[str] = field(default_factory=set)
    second: dict[tuple[str, int], int] = field(default_factory=dict)

    def spans(self, video: str) -> list[tuple[float | None, float | None]]:
        """Start and end of each clip of a video, as its captions have them."""
        count = next(number for number in range(len(self.facts) + 1) if (video, number) not in self.facts)
        return _spans(count)


def redundant_generator_hash() -> str:
    """Return twelve digits of this file and of the one whose facts and words it takes."""
    files = (Path(__file__), Path(worlds.__file__))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def make_redundant_world(config: RedundantConfig, seed: int) -> RedundantWorld:
    """Return a world; the same for the same configuration and seed."""
    return _Studio(config, np.random.default_rng([seed, 31_277])).film_all()


def _spans(clips: int) -> list[tuple[float | None, float | None]]:
    if clips == 1:
        return [(None, None)]
    return [(_CLIP_SECONDS * number, _CLIP_SECONDS * (number + 1)) for number in range(clips)]


def _unit(rows: Floats) -> Floats:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@dataclass(frozen=True)
class _Script:
    """What a clip shows: facts, the action that follows the first, and the number of its steps."""

    facts: Mapping[str, int]
    second: int
    steps: int


class _Studio:
    """Films the videos of a world one after the other."""

    def __init__(self, config: RedundantConfig, rng: np.random.Generator) -> None:
        self.config, self.rng, self.world = config, rng, RedundantWorld()
        self.sees = dict(SEES)
        self.noise = dict.fromkeys(SEES, config.noise)
        if config.strong is not None:
            self.sees["appearance-strong"] = SEES["appearance"]
            self.noise["appearance-strong"] = config.noise * config.strong
        self.looks = {
            (expert, fact): _unit(rng.normal(size=(_VALUES, _WIDTH)))
            for expert, facts in self.sees.items()
            for fact in (FACTS if expert == "audio" else facts)
        }
        self.common = {expert: _unit(rng.normal(size=_WIDTH)) for expert in self.sees}
        self.bend = {expert: rng.normal(size=(_WIDTH, _WIDTH)) / np.sqrt(_WIDTH) for expert in self.sees}
        apart = config.apart / np.sqrt(_WIDTH)
        self.turn = {
            (expert, domain): np.eye(_WIDTH) + apart * rng.normal(size=(_WIDTH, _WIDTH))
            for expert in self.sees
            for domain in range(config.domains)
        }
        self.scenarios = {fact: rng.integers(_VALUES, size=_SCENARIOS) for fact in FACTS}
        self.text = _Text(TEXT_GEOMETRIES[config.text].common, rng)
        self.world.words = self.text.words

    def film_all(self) -> RedundantWorld:
        config, world = self.config, self.world
        for domain in range(config.domains):
            count = _SCENARIOS if config.domains == 1 else _SCENARIOS // 2
            scenarios = self.rng.permutation(_SCENARIOS)[:count].tolist()
            trained: list[str] = []
            for split, videos in (("train", config.train), ("val", config.validation), ("test", config.test)):
                names = [f"{split}{domain}-{number:04}" for number in range(videos)]
                trained = names if split == "train" else trained
                for place, video in enumerate(names):
                    self._film(video, split, domain, scenarios, names[place - 1] if place % 2 else None, trained)
                world.splits.setdefault(split, []).extend(names)
                if config.domains > 1:
                    world.splits[f"{split}-{domain}"] = names
        if config.copies:
            copied = set(world.copied.values())
            world.splits["train-clean"] = [video for video in world.splits["train"] if video not in copied]
            world.splits["test-copied"] = list(world.copied)
            world.splits["test-own"] = [video for video in world.splits["test"] if video not in world.copied]
        return world

    def _film(
        self, video: str, split: str, domain: int, scenarios: Sequence[int], before: str | None, trained: Sequence[str]
    ) -> None:
        """Film one video, and caption it.

        Args:
            before: the video that this one may be the reversed twin of.
        """
        config, world, rng = self.config, self.world, self.rng
        copied = str(rng.choice(trained)) if split == "test" and rng.random() < config.copies else None
        if copied is not None:
            world.copied[video] = copied
        twin = before if before is not None and copied is None and rng.random() < 2 * config.reversed_pairs else None
        scripts = self._scripts(int(rng.choice(scenarios)), copied or twin, swap=copied is None)
        if rng.random() < config.hubs:
            world.hubs.add(video)
        for number, script in enumerate(scripts):
            world.facts[video, number] = dict(script.facts)
            world.second[video, number] = script.second
        for expert in self.sees:
            modality = expert.partition("-")[0]
            tracks = world.tracks.setdefault(expert, (modality, {}))[1]
            if copied is not None:
                if copied in tracks:
                    values, spans = tracks[copied]
                    shape = values.shape
                    tracks[video] = (values + np.float32(0.05) * rng.normal(size=shape).astype(np.float32), spans)
            elif modality == "appearance" or rng.random() >= config.absent:
                tracks[video] = self._track(expert, video, scripts, domain, narrated=split == "train")
        self._caption(video, split, scripts)

    def _scripts(self, scenario: int, like: str | None, *, swap: bool) -> list[_Script]:
        """What the clips of a video show.

        Args:
            like: a video with the same facts and lengths.
            swap: exchange its two actions.
        """
        rng, world = self.rng, self.world
        scripts = []
        whole = self._facts(scenario)
        for number in range(self.config.clips):
            if like is not None:
                facts, second = dict(world.facts[like, number]), world.second[like, number]
                if swap:
                    facts["action"], second = second, facts["action"]
            else:
                facts = {**self._facts(scenario), "place": whole["place"], "person": whole["person"]}
                second = self._facts(scenario)["action"]
                if second == facts["action"]:
                    second = int((second + rng.integers(1, _VALUES)) % _VALUES)
            _, least, most = _LENGTHS[rng.integers(len(_LENGTHS))]
            scripts.append(_Script(facts, second, int(rng.integers(least, most + 1))))
        return scripts

    def _facts(self, scenario: int) -> dict[str, int]:
        rng = self.rng
        return {
            fact: int(values[scenario] if rng.random() < _TYPICAL else rng.integers(_VALUES))
            for fact, values in self.scenarios.items()
        }

    def _track(
        self, expert: str, video: str, scripts: Sequence[_Script], domain: int, *, narrated: bool
    ) -> tuple[Array, Floats]:
        """Steps of one expert: the first half of a clip shows its first action, the rest its second."""
        rng, config = self.rng, self.config
        rows: list[Floats] = []
        spans: list[Floats] = []
        sees = dict(self.sees[expert])
        if narrated and expert == "audio":
            sees = {fact: sees.get(fact, 0.0) + config.narrated * (fact in config.told) for fact in FACTS}
        sees = {fact: strength for fact, strength in sees.items() if strength}
        alike = 2.5 if video in self.world.hubs else rng.uniform(0.9, 1.3)
        for number, script in enumerate(scripts):
            edges = _CLIP_SECONDS * number + np.linspace(0, _CLIP_SECONDS, script.steps + 1)
            spans.append(np.stack([edges[:-1], edges[1:]], 1))
            other = rng.random(script.steps) >= config.shown
            strangers = rng.integers(_SCENARIOS, size=script.steps)
            shown = alike * np.repeat(self.common[expert][None], script.steps, 0)
            for fact, strength in sees.items():
                values = np.full(script.steps, script.facts[fact])
                if fact == "action":
                    values[(script.steps + 1) // 2 :] = script.second
                values = np.where(other, self.scenarios[fact][strangers], values)
                shown += strength * self.looks[expert, fact][values]
            rows.append(shown)
        clean = np.concatenate(rows)
        noisy = clean + self.noise[expert] * rng.normal(size=clean.shape) / np.sqrt(_WIDTH)
        turned = noisy @ self.turn[expert, domain]
        bent = turned + 0.5 * np.tanh(2 * turned @ self.bend[expert])
        return bent.astype(np.float32), np.concatenate(spans)

    def _caption(self, video: str, split: str, scripts: Sequence[_Script]) -> None:
        config, rng, world = self.config, self.rng, self.world
        for script, (begin, end) in zip(scripts, _spans(config.clips), strict=True):
            for _ in range(config.captions if split == "train" else 1):
                text = _sentence(config, rng, script)
                world.captions.append((video, text, begin, end, split))
                world.vectors.append(self.text.vectors(text))


def _sentence(config: RedundantConfig, rng: np.random.Generator, script: _Script) -> str:
    """Name some of the facts, each in one of its two words, the order of the actions, and a short or long time."""
    least, most = config.named
    named = set(rng.permutation(list(config.told))[: int(rng.integers(least, most + 1))].tolist())
    pieces = []
    for fact, (phrase, values) in FACTS.items():
        if fact in named:
            pieces.append(phrase.format(values[script.facts[fact]][int(rng.integers(2))]))
            if fact == "action":
                pieces.append(f"then {values[script.second][int(rng.integers(2))]}")
    length = next(word for word, least, most in _LENGTHS if least <= script.steps <= most)
    return " ".join([*pieces, length] if length and rng.random() < 0.5 else pieces)


class _Text:
    """Words, and the vectors of tokens in their context."""

    def __init__(self, common: float, rng: np.random.Generator) -> None:
        self.common = common * _unit(rng.normal(size=_TEXT_WIDTH))
        self.words: dict[str, Array] = {}
        extra = " ".join([*(phrase for phrase, _ in FACTS.values()), "then", *(word for word, _, _ in _LENGTHS)])
        for word in extra.replace("{}", "").split():
            self.words.setdefault(word, 0.1 * _unit(rng.normal(size=_TEXT_WIDTH)).astype(np.float32))
        for _, values in FACTS.values():
            for meanings in values:
                middle = _unit(rng.normal(size=_TEXT_WIDTH))
                for word in meanings:
                    near = _unit(middle + 0.5 * _unit(rng.normal(size=_TEXT_WIDTH)))
                    self.words.setdefault(word, near.astype(np.float32))
        named = [word for _, values in FACTS.values() for meanings in values for word in meanings]
        middle = np.mean([self.words[word] for word in named], 0)
        for word in set(named):  # what words have in common is `common`, and not an accident of this world
            self.words[word] = self.words[word] - middle
        self.turn = np.linalg.qr(rng.normal(size=(_TEXT_WIDTH, _TEXT_WIDTH)))[0]

    def vectors(self, text: str) -> Array:
        """Vectors [token, 96]: of the word, of the one before it (turned, so that order counts) and of the caption."""
        rows = np.stack([self.words[word] for word in text.split()]).astype(np.float64)
        before = np.concatenate([np.zeros((1, _TEXT_WIDTH)), rows[:-1]]) @ self.turn
        mixed = rows + 0.5 * before + 0.5 * rows.mean(0)
        return (mixed + self.common).astype(np.float32)
