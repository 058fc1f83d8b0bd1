"""What a model's folder says of its inputs is what its expert does: held against transformers' own processors."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoModel, AutoModelForVideoClassification

from reelseek.cli.add import _named_experts
from reelseek.cli.lists import names_in
from reelseek.errors import ExpertUnavailable
from reelseek.experts import load_expert
from reelseek.experts.expert import Expert
from reelseek.experts.extract import extract
from reelseek.experts.hub import load_pretrained
from reelseek.media.container import Limits
from tests.experts.tiny import save_tiny

SQUARE = {"height": 32, "width": 32}
NORMAL = {"do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.25]}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bicubic and crop, by default": ("clip", {"size": {"shortest_edge": 40}, "crop_size": 32, **NORMAL}),
    "bilinear": ("clip", {"size": {"shortest_edge": 40}, "crop_size": SQUARE, "resample": 2, **NORMAL}),
    "nearest": ("siglip", {"size": SQUARE, "resample": 0, **NORMAL}),
    "Lanczos": ("siglip", {"size": SQUARE, "resample": 1, **NORMAL}),
    "a size in one number": ("clip", {"size": 36, "crop_size": 32, **NORMAL}),
    "no crop": ("clip", {"size": SQUARE, "do_center_crop": False, **NORMAL}),
    "a crop beyond the picture": ("clip", {"size": {"shortest_edge": 24}, "crop_size": 32, **NORMAL}),
    "no resize": ("clip", {"do_resize": False, "crop_size": 32, **NORMAL}),
    "another factor": ("siglip", {"size": SQUARE, "rescale_factor": 1 / 127.5, **NORMAL}),
    "no factor": ("siglip", {"size": SQUARE, "do_rescale": False, "do_normalize": False}),
    "as it is between 0 and 1": ("siglip", {"size": SQUARE, "do_normalize": False}),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("clip", "siglip", "videomae", "yolos", "ast", "clap"):
        save_tiny(name, folder / name)
    return folder


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of pictures of noise in patches, 90 x 60, ten a second."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 90, 60, "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(20):
            pixels = rng.integers(256, size=(20, 30, 3), dtype=np.uint8).repeat(3, 0).repeat(3, 1)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = index * 100, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _frames(film: Path) -> list[np.ndarray]:
    with av.open(str(film)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def _with(models: Path, name: str, settings: dict[str, Any], folder: Path, *, also: str = "") -> Path:
    """The model with another preprocessor_config.json."""
    folder.mkdir(parents=True)
    for file in (models / name).iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "preprocessor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(settings) + also)
    return folder


def _values(film: Path, spec: str) -> np.ndarray:
    extracted = extract(film, [spec], Limits(), pictures=False)
    assert not extracted.errors
    return extracted.tracks[spec].values.astype(np.float32)


@pytest.mark.parametrize("case", CASES)
def test_pictures_are_what_the_models_own_processor_makes(models: Path, film: Path, tmp_path: Path, case: str) -> None:
    folder = _with(models, *CASES[case], tmp_path / "model")
    frames = _frames(film)
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    pixels = processor([frames[0], frames[10]], return_tensors="pt")["pixel_values"].float()
    with torch.inference_mode():
        output = model.get_image_features(pixel_values=pixels)
        output = getattr(output, "pooler_output", output)
    expected = torch.nn.functional.normalize(output, dim=-1).numpy()
    np.testing.assert_allclose(_values(film, f"clip@{folder}"), expected, atol=1e-3)
    if case.startswith("bicubic"):  # or the comparison would see nothing
        other = _with(models, "clip", {**CASES[case][1], "resample": 2}, tmp_path / "other")
        assert np.abs(_values(film, f"clip@{other}") - expected).max() > 5e-3


def test_windows_are_what_the_processor_of_videos_makes(models: Path, film: Path, tmp_path: Path) -> None:
    settings = {"size": {"shortest_edge": 40}, "crop_size": 32, "resample": 3, "rescale_factor": 1 / 200, **NORMAL}
    folder = _with(models, "videomae", settings, tmp_path / "model")
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    model = AutoModelForVideoClassification.from_pretrained(folder, local_files_only=True).eval()
    frames = _frames(film)
    chosen = [frames[int(np.ceil(index / 8 * 10 - 1e-9))] for index in range(4)]  # the first of each cell of 1/8 s
    inputs = processor(chosen, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs, output_hidden_states=True).hidden_states[-1].mean(dim=1)[0].numpy()
    np.testing.assert_allclose(_values(film, f"video@{folder}")[0], expected, atol=2e-3)


def test_windows_of_another_length_rate_and_crop(models: Path, film: Path, tmp_path: Path) -> None:
    folder = _with(models, "videomae", {"size": {"shortest_edge": 40}, "crop_size": 32, **NORMAL}, tmp_path / "model")
    side = 64
    square = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, **square)
    model = AutoModelForVideoClassification.from_pretrained(
        folder, local_files_only=True, num_frames=2, image_size=side
    ).eval()
    frames = _frames(film)
    inputs = processor([frames[int(np.ceil(index / 4 * 10 - 1e-9))] for index in range(2)], return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs, output_hidden_states=True).hidden_states[-1].mean(dim=1)[0].numpy()
    spec = f"video@{folder}:fps=4,frames=2,crop={side}"
    np.testing.assert_allclose(_values(film, spec)[0], expected, atol=2e-3)
    plain: Any = load_expert(f"video@{folder}")
    assert load_expert(spec).fingerprint != plain.fingerprint
    assert load_expert(f"video@{folder}:fps=8").fingerprint == plain.fingerprint  # what it does anyway
    for options, match in (
        ("speed=3", "no speed"),
        ("fps=0", "above 0"),
        ("frames=2.5", "whole"),
        ("fps=x", "numbers"),
    ):
        with pytest.raises(ExpertUnavailable, match=match):
            load_expert(f"video@{folder}:{options}")
    assert _named_experts(names_in([f"clip@a, {spec},object"]), None) == ["clip@a", spec, "object"]


def test_a_detector_has_its_longest_edge_or_no_limit(models: Path, film: Path, tmp_path: Path) -> None:
    frames, edge = _frames(film)[:2], {"shortest_edge": 64}
    for number, size in enumerate(({**edge, "longest_edge": 80}, edge)):
        folder = _with(models, "yolos", {"size": size, **NORMAL}, tmp_path / str(number))
        expert: Any = load_expert(f"detection@{folder}")
        model = load_pretrained("AutoModelForObjectDetection", str(folder))
        processor = AutoImageProcessor.from_pretrained(folder, size={"longest_edge": 10_000, **size})
        expected = processor(frames, return_tensors="pt")["pixel_values"]
        assert expected.shape[3] == (80, 96)[number]
        torch.testing.assert_close(expert._preprocessing(frames, model.forward)["pixel_values"], expected)
        assert _values(film, f"detection@{folder}").shape == (2, 3)


def test_other_preprocessing_is_another_fingerprint(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reelseek.experts.clip.weights_hash", lambda folder: "the same weights")

    def expert(number: int, settings: dict[str, Any], also: str = "") -> Expert:
        return load_expert(f"clip@{_with(models, 'siglip', settings, tmp_path / str(number), also=also)}")

    base = {"size": SQUARE, **NORMAL}
    changes: list[dict[str, Any]] = [
        {"resample": 2}, {"rescale_factor": 1 / 127.5}, {"do_rescale": False}, {"do_normalize": False},
        {"do_resize": False}, {"image_std": [0.1] * 3}, {"size": {"height": 32, "width": 48}},
    ]  # fmt: skip
    prints = {expert(number, {**base, **change}).fingerprint for number, change in enumerate([{}, *changes])}
    assert len(prints) == 1 + len(changes)
    assert expert(100, base, also="\n").fingerprint in prints  # it is the meaning that counts, not the file


def test_what_does_not_say_how_pictures_are_prepared_is_refused(models: Path, tmp_path: Path) -> None:
    folder = _with(models, "clip", {}, tmp_path / "model")
    for content in ("{", "[]", '"x"', '{"image_processor_type": "NoSuchProcessor"}'):
        (folder / "preprocessor_config.json").write_text(content)
        load_expert.cache_clear()
        with pytest.raises(ExpertUnavailable):
            load_expert(f"clip@{folder}")


@pytest.mark.parametrize(("kind", "name"), [("sound", "ast"), ("clap", "clap")])
def test_no_sound_is_cut_off_where_an_extractor_takes_less_than_a_step(
    models: Path, tmp_path: Path, kind: str, name: str
) -> None:
    settings = json.loads((models / name / "preprocessor_config.json").read_text())
    settings |= {"max_length": 128} if name == "ast" else {"max_length_s": 2, "nb_max_samples": 96_000}
    folder = _with(models, name, settings, tmp_path / "model")
    expert: Any = load_expert(f"{kind}@{folder}")
    rate = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True).sampling_rate
    rng = np.random.default_rng(0)
    noise = (rng.normal(size=5 * rate) / 10).astype(np.float32)
    changed = noise.copy()
    changed[-rate:] = np.sin(np.arange(rate) / 3)
    parts = np.array_split(noise, 4 if name == "ast" else 3)
    mean = np.mean([expert.encode(part) for part in parts], axis=0)
    mean = mean / np.linalg.norm(mean) if name == "clap" else mean
    np.testing.assert_allclose(expert.encode(noise), mean, atol=1e-5)
    assert np.abs(expert.encode(changed) - expert.encode(noise)).max() > 1e-6
    np.testing.assert_array_equal(expert.encode(noise), expert.encode(noise))  # no part is taken at random
