"""One contract for every expert, packaged or from a folder: tiny random models stand for the hub's."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from reelseek.errors import ExpertUnavailable, FeatureError, UsageError
from reelseek.experts import DEFAULT_EXPERTS, EXPERTS, available, load_expert
from reelseek.experts.clip import clip_reads, clip_text
from reelseek.experts.expert import Track, check_track
from reelseek.experts.extract import extract
from reelseek.experts.logmel import log_mel
from reelseek.media.container import Limits
from reelseek.testing import ExpertContract
from tests.experts.tiny import TINY, save_tiny

# What is packaged but asked for by name; `face` has no model of its own and has a test of its own below.
OPT_IN = ("copy", "plain")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in TINY:
        save_tiny(name, folder / name)
    return folder


class TestEveryExpert(ExpertContract):
    @pytest.fixture(params=[*DEFAULT_EXPERTS, *OPT_IN, *(f"{TINY[name]}@{name}" for name in TINY if name != "whisper")])
    def spec(self, request: pytest.FixtureRequest, models: Path) -> str:
        kind, at, name = request.param.partition("@")
        return f"{kind}@{models / name}" if at else kind


def test_every_expert_is_held_to_the_contract() -> None:
    assert {*TINY.values(), *DEFAULT_EXPERTS, *OPT_IN, "face"} == set(EXPERTS)


def test_experts_read_real_films_together(models: Path, archive: Path) -> None:
    specs = [*DEFAULT_EXPERTS, *OPT_IN, *(f"{kind}@{models / name}" for name, kind in TINY.items() if kind != "speech")]
    films = sorted(path for path in archive.iterdir() if path.suffix in (".mp4", ".mkv", ".webm"))[:2]
    for film in films:
        extracted = extract(film, specs, Limits())
        assert not extracted.errors
        for spec in specs:
            check_track(extracted.tracks[spec], load_expert(spec))


def test_a_file_without_sound_or_pictures_has_no_steps(make_video) -> None:
    experts = [spec for spec in DEFAULT_EXPERTS if spec in ("appearance", "motion", "audio", "speech")]
    silent = extract(make_video("silent.mp4"), experts, Limits()).tracks
    assert len(silent["appearance"].values) == 2
    assert len(silent["audio"].values) == 0
    assert silent["audio"].note
    dark = extract(make_video("dark.m4a", video=False, sound_seconds=2), experts, Limits()).tracks
    assert len(dark["appearance"].values) == len(dark["motion"].values) == 0
    assert len(dark["audio"].values) > 150


def test_recognised_words_come_from_a_folder(models: Path, archive: Path) -> None:
    spec = f"speech@{models / 'whisper'}"
    film = next(
        p for p in sorted(archive.iterdir()) if p.suffix in (".mp4", ".mkv") and not p.with_suffix(".srt").exists()
    )
    extracted = extract(film, [spec], Limits())
    assert not extracted.errors
    assert load_expert(spec).fingerprint != load_expert("speech").fingerprint


def test_text_and_pictures_of_clip_share_a_space(models: Path) -> None:
    for name in ("clip", "siglip", "siglip2"):
        rows = clip_text(models / name, ["a cat", "a dog"])
        assert rows.shape == (2, load_expert(f"clip@{models / name}").dim)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_a_sigmoid_model_embeds_lower_case_padded_texts_without_a_mask(models: Path) -> None:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(models / "siglip").eval()
    places = model.config.text_config.max_position_embeddings
    with torch.inference_mode():  # "a cat" between its marks, then padding to the end
        expected = model.get_text_features(input_ids=torch.tensor([[1, 4, 5, 2, *[0] * (places - 4)]]))
        expected = torch.nn.functional.normalize(getattr(expected, "pooler_output", expected), dim=-1)
    for texts in (["A Cat"], ["a cat", "a dog a dog"]):
        np.testing.assert_allclose(clip_text(models / "siglip", texts)[:1], expected.numpy(), atol=1e-5)


def test_a_text_tower_reads_the_letters_that_its_vocabulary_has(models: Path) -> None:
    texts = ["a cat", "ЗЕБРА спит", "狗", "жираф", "a жираф cat", "..."]
    assert clip_reads(models / "siglip", texts).tolist() == [True, True, True, False, False, False]


def test_an_alphabet_written_in_single_bytes_is_not_read(tmp_path: Path) -> None:
    from tests.experts.tiny import save_byte_tokenizer

    save_byte_tokenizer(tmp_path)
    assert clip_reads(tmp_path, ["a cat", "зебра", "狗"]).tolist() == [True, False, False]


def test_scenes_by_a_joint_model_are_the_nearest_of_its_own_texts(models: Path, make_video) -> None:
    from transformers import AutoModel

    spec = f"scene@{models / 'siglip'}"
    expert = load_expert(spec)
    extracted = extract(make_video(), [spec, f"clip@{models / 'siglip'}"], Limits())
    assert not extracted.errors
    values = extracted.tracks[spec].values.astype(np.float32)
    assert values.shape[1] == expert.dim > 100
    np.testing.assert_allclose(values.sum(1), 1, atol=1e-2)
    (best, chance), *_ = expert.labels(values)
    places = files("reelseek.experts").joinpath("scenes.txt").read_text("utf-8").splitlines()
    pictures = extracted.tracks[f"clip@{models / 'siglip'}"].values.astype(np.float32)
    texts = clip_text(models / "siglip", [f"a photo of {place}" for place in places])
    scale = AutoModel.from_pretrained(models / "siglip").logit_scale.exp().item()
    likely = np.exp(scale * pictures @ texts.T)
    expected = (likely / likely.sum(1, keepdims=True)).mean(0)
    np.testing.assert_allclose(values.mean(0), expected, rtol=0.1)  # vectors of clip are stored in half precision
    assert chance == pytest.approx(expected.max(), rel=0.1)
    assert expected[[place.partition(" ")[2] for place in places].index(best)] == pytest.approx(chance, rel=0.1)
    classifier = load_expert(f"scene@{models / 'vit'}")
    assert classifier.dim == 3


def test_a_classifier_made_from_a_joint_model_keeps_its_own_classes(models: Path, tmp_path: Path) -> None:
    from transformers import SiglipForImageClassification

    save_tiny("siglip", tmp_path / "classifier")
    config = SiglipForImageClassification.from_pretrained(tmp_path / "classifier", num_labels=4)
    config.save_pretrained(tmp_path / "classifier")
    assert load_expert(f"scene@{tmp_path / 'classifier'}").dim == 4


def test_preprocessing_is_never_guessed(models: Path, tmp_path: Path) -> None:
    save_tiny("vit", tmp_path / "bare")
    (tmp_path / "bare" / "preprocessor_config.json").unlink()
    with pytest.raises(ExpertUnavailable, match="never guessed"):
        load_expert(f"scene@{tmp_path / 'bare'}")


def test_what_cannot_run_says_why() -> None:
    experts, missing = available(["appearance", "clip", "scene@/nowhere"])
    assert [expert.name for expert in experts] == ["appearance"]
    assert "needs a model" in missing["clip"]
    assert missing["scene@/nowhere"].endswith("fetch one by its name on the hub: reelseek models pull NAME")
    with pytest.raises(UsageError, match="no expert named"):
        load_expert("smell")


def test_a_failing_expert_fails_alone(make_video, monkeypatch: pytest.MonkeyPatch) -> None:
    from reelseek.experts import flow

    def broken(*_: object) -> None:
        raise RuntimeError("no flow today")

    monkeypatch.setattr(flow, "_statistics", broken)
    extracted = extract(make_video(), ["motion", "appearance"], Limits())
    assert "no flow today" in extracted.errors["motion"]
    assert len(extracted.tracks["appearance"].values) == 2


def test_log_mel_equals_a_plain_loop() -> None:
    from reelseek.experts.logmel import mel_bands

    samples = np.random.default_rng(0).normal(size=2000).astype(np.float32) / 10
    emphasised = np.append(samples[0], samples[1:] - 0.97 * samples[:-1])
    rows = []
    for start in range(0, len(samples) - 400 + 1, 160):
        windowed = emphasised[start : start + 400] * np.hamming(400)
        power = [abs(np.sum(windowed * np.exp(-2j * np.pi * k * np.arange(400) / 400))) ** 2 for k in range(201)]
        rows.append(10 * np.log10(np.maximum(np.array(power) @ mel_bands(), 1e-10)))
    np.testing.assert_allclose(log_mel(samples), np.array(rows), atol=1e-3)


def test_a_track_refuses_nan_and_spans_that_do_not_fit() -> None:
    with pytest.raises(FeatureError, match="NaN"):
        Track(np.full((1, 2), np.nan, np.float32), np.zeros((1, 2)))
    with pytest.raises(FeatureError, match="spans"):
        Track(np.zeros((2, 2), np.float32), np.zeros((1, 2)))
    with pytest.raises(FeatureError, match="before it starts"):
        Track(np.zeros((1, 2), np.float32), np.array([[2.0, 1.0]]))


def test_a_picture_too_small_for_flow_has_no_motion(make_video) -> None:
    tracks = extract(make_video("dot.mp4", size=(2, 2)), ["motion", "appearance"], Limits())
    assert not tracks.errors
    assert "16 pixels" in tracks.tracks["motion"].note
