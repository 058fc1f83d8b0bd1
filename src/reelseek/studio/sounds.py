"""What is heard in the studio's films: synthesised sounds, and spoken lines where a synthesiser is installed."""

import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["RATE", "SOUNDS", "can_speak", "make_sound", "speak"]

RATE = 48_000
Samples = npt.NDArray[np.float32]


def _time(seconds: float) -> npt.NDArray[np.float64]:
    return np.arange(int(seconds * RATE)) / RATE


def _bell(time: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    tone = sum(np.sin(2 * np.pi * f * time) / (i + 1) for i, f in enumerate((880, 1320, 2217)))
    return np.asarray(tone * np.exp(-3 * (time % 1.2)))


def _rain(time: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return rng.normal(size=len(time)) * 0.3 + (rng.random(len(time)) > 0.999) * rng.normal(size=len(time))


def _engine(time: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return np.sign(np.sin(2 * np.pi * 55 * time)) * (0.7 + 0.3 * np.sin(2 * np.pi * 9 * time))


def _birds(time: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return np.sin(2 * np.pi * (3000 * time + 60 * np.sin(2 * np.pi * 11 * time))) * ((time % 0.8) < 0.35)


def _drums(time: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    beat = time % 0.5
    hat = rng.normal(size=len(time)) * np.exp(-60 * (time % 0.25)) * 0.4
    return np.sin(2 * np.pi * 70 * beat) * np.exp(-12 * beat) + hat


def _melody(time: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    notes = np.array([262, 330, 392, 523, 392, 330])[(time / 0.3).astype(int) % 6]
    return np.sin(2 * np.pi * notes * time) * np.exp(-4 * (time % 0.3))


def _siren(time: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return np.sin(2 * np.pi * (900 * time - 80 * np.cos(2 * np.pi * 0.7 * time)))


SOUNDS: dict[str, tuple[Callable[..., npt.NDArray[np.float64]], tuple[str, ...]]] = {
    "bell": (_bell, ("a bell is ringing", "you can hear a bell")),
    "rain": (_rain, ("rain can be heard", "with the sound of rain")),
    "engine": (_engine, ("an engine is running", "a motor is humming")),
    "birds": (_birds, ("birds are chirping", "with birdsong")),
    "drums": (_drums, ("drums are playing", "to a drum beat")),
    "melody": (_melody, ("a tune is playing", "with quiet music")),
    "siren": (_siren, ("a siren is wailing", "with an alarm in the background")),
}


def make_sound(name: str, seconds: float, seed: int) -> Samples:
    """Mono float32 samples at RATE."""
    rng = np.random.default_rng(seed)
    samples = SOUNDS[name][0](_time(seconds), rng)
    return (0.25 * samples / max(1e-6, float(np.abs(samples).max()))).astype(np.float32)


def can_speak() -> bool:
    """Whether the speech synthesiser espeak-ng is installed."""
    return shutil.which("espeak-ng") is not None


@cache
def speak(text: str, voice: str) -> Samples:
    """Mono float32 samples at RATE of a spoken line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "line.wav"
        subprocess.run(["espeak-ng", "-v", voice, "-s", "140", "-w", str(path), "--", text], check=True, timeout=30)
        with wave.open(str(path)) as file:
            raw = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
            rate = file.getframerate()
    places = np.arange(int(len(raw) * RATE / rate)) * rate / RATE
    return np.interp(places, np.arange(len(raw)), raw).astype(np.float32)
