"""Presets: every model of them runs as a tiny one of its architecture, from the command line to a ranked answer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reelseek.errors import ExpertUnavailable, UsageError
from reelseek.experts import DEFAULT_EXPERTS, known_experts, load_expert
from reelseek.experts.extract import extract
from reelseek.experts.presets import PRESETS, expand_presets, find_preset, missing_models
from reelseek.library import Library, add, ingest
from reelseek.media.container import Limits
from tests.experts.tiny import STAND_INS, save_pulled, save_tiny


def _run(models: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "300", "REELSEEK_MODELS": str(models), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "reelseek.cli.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pulled")
    save_pulled(PRESETS["standard"], folder)
    return folder


def test_the_table_is_plain_and_whole() -> None:
    assert PRESETS["offline"].experts == DEFAULT_EXPERTS
    for preset in PRESETS.values():
        names = [member.name for member in preset.members]
        assert len(set(names)) == len(names)
        assert {*names} <= {*known_experts(), "text"}
        for member in preset.members:
            assert member.licence
            assert member.adds
            assert (member.megabytes > 0) == bool(member.model)
            assert not member.model or member.model in STAND_INS, "a model without a test of its architecture"


def test_the_guide_has_every_row_of_the_table() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "experts.md").read_text("utf-8")
    for preset in (PRESETS["standard"], PRESETS["best"]):
        assert f"`{preset.name}`, {sum(member.megabytes for member in preset.models):,} MB to fetch" in guide
        for member in preset.members:
            model, size = (f"`{member.model}`", f"{member.megabytes:,}") if member.model else ("packaged", "")
            assert f"| `{member.name}` | {model} | {member.licence} | {size} | {member.adds} |" in guide


def test_a_preset_that_is_not_pulled_is_one_error_that_names_the_command(tmp_path: Path) -> None:
    for words in (("--preset", "standard"), ("--experts", "preset:standard")):
        done = _run(tmp_path / "none", "add", tmp_path / "library", tmp_path, *words)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert "preset standard needs 7 models" in done.stderr
        assert "fetch them with: reelseek models pull --preset standard" in done.stderr
        assert not (tmp_path / "library").exists()
    assert _run(tmp_path, "add", tmp_path / "library", tmp_path, "--preset", "best of all").returncode == 2


def test_an_expert_that_is_named_takes_the_place_of_the_presets(
    pulled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELSEEK_MODELS", str(pulled))
    expansion = expand_presets(["preset:standard", "clip@mine", "face"])
    assert expansion.experts[-2:] == ("clip@mine", "face")
    assert [spec for spec in expansion.experts if spec.startswith("clip")] == ["clip@mine"]
    assert expansion.text_encoder == find_preset("standard").text_encoder
    assert expand_presets(["speech", "ocr"]).experts == ("speech", "ocr")
    monkeypatch.setenv("REELSEEK_MODELS", str(tmp_path))
    with pytest.raises(ExpertUnavailable, match="needs 7 models"):  # scene takes the model that clip would
        expand_presets(["preset:standard", "clip@mine"])
    with pytest.raises(ExpertUnavailable, match="needs 6 models"):
        expand_presets(["preset:standard", "clip@mine", "scene@mine"])
    with pytest.raises(UsageError, match="2 presets"):
        expand_presets(["preset:standard", "preset:offline"])
    with pytest.raises(UsageError, match="no preset named 'fast'; there are offline, standard, best"):
        expand_presets(["preset:fast"])


def test_two_models_of_one_expert_are_refused(tmp_path: Path, make_video) -> None:
    for name in ("a", "b"):
        save_tiny("clip", tmp_path / name)
    with (
        Library.open(tmp_path / "library", create=True) as library,
        pytest.raises(UsageError, match="would write the same track"),
    ):
        add(library, [make_video()], experts=[f"clip@{tmp_path / 'a'}", f"clip@{tmp_path / 'b'}"], workers=1)


def test_experts_that_are_refused_are_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(library: Library) -> None:
        raise UsageError("lines of another encoder")

    save_tiny("clip", tmp_path / "clip")
    with Library.open(tmp_path / "library", create=True) as library:
        add(library, [tmp_path], experts=["object"], workers=1)
        monkeypatch.setattr(ingest, "check_text_space", refuse)
        with pytest.raises(UsageError, match="lines of another encoder"):
            add(library, [tmp_path], experts=["speech", f"clip@{tmp_path / 'clip'}"], workers=1)
        assert json.loads(library.meta("experts") or "") == ["object"]


@pytest.mark.parametrize("model", sorted(set(STAND_INS.values()) - {"sentence"}))
def test_every_architecture_runs_on_an_encoded_video(model: str, archive: Path, tmp_path: Path) -> None:
    from tests.experts.tiny import TINY

    save_tiny(model, tmp_path / model)
    film = next(p for p in sorted(archive.iterdir()) if p.suffix == ".mp4" and not p.with_suffix(".srt").exists())
    spec = f"{TINY[model]}@{tmp_path / model}"
    extracted = extract(film, [spec], Limits())
    assert not extracted.errors
    track, expert = extracted.tracks[spec], load_expert(spec)
    assert track.values.shape == (len(track.spans), expert.dim)
    assert np.isfinite(track.values).all()
    assert expert.fingerprint.startswith(f"{TINY[model]}:")
    assert len(track.values) or track.note
    for text in track.texts:
        assert 0 <= text.start_seconds <= text.end_seconds <= extracted.end_seconds + 0.1
    if hasattr(expert, "labels") and model != "clap":
        assert {name for name, _ in expert.labels(np.eye(3, dtype=np.float32))} == {"LABEL_0", "LABEL_1", "LABEL_2"}


@pytest.mark.long
def test_a_preset_from_the_command_to_a_ranked_answer(pulled: Path, make_video, tmp_path: Path) -> None:
    film = make_video("film.mp4", sound_seconds=2.0)
    film.with_suffix(".srt").write_text("1\n00:00:00,200 --> 00:00:01,000\nзебра спит\n", "utf-8")
    library = tmp_path / "library"
    added = _run(pulled, "add", library, film, "--preset", "standard", "--workers", "1")
    assert added.returncode == 0, added.stderr
    with Library.open(library) as opened:
        assert set(opened.experts()) == {spec.partition("@")[0] for spec in PRESETS["standard"].experts}
        recorded = json.loads(opened.meta("text_space") or "")
    assert recorded["name"] == PRESETS["standard"].text_encoder
    done = _run(pulled, "search", library, "зебра спит", "--json")
    assert done.returncode == 0, done.stderr
    assert "text is embedded by sentence-transformers/" in done.stderr
    assert "compared with the query by google/siglip2-base-patch16-224" in done.stderr
    hit = json.loads(done.stdout.splitlines()[0])
    assert {why["modality"] for why in hit["why"]} >= {"clip", "speech"}, hit["why"]
    away = _run(tmp_path / "none", "search", library, "зебра спит")
    assert away.returncode == 1
    assert "models pull" in away.stderr


@pytest.mark.long
def test_doctor_says_what_is_missing_and_measures_what_is_here(tmp_path: Path, make_video) -> None:
    for name, model in (("siglip", "google/siglip2-base-patch16-224"), ("xclip", "microsoft/xclip-base-patch32")):
        save_tiny(name, tmp_path / "models" / model.replace("/", "__"))
    film = make_video("film.mp4", sound_seconds=2.0)
    done = _run(tmp_path / "models", "doctor", film, "--preset", "standard")
    assert done.returncode == 1
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert "runs" in rows["clip"]
    assert "missing: openai/whisper-large-v3-turbo" in rows["speech"]
    assert "MIT" in rows["speech"]
    assert "5 models are missing" in done.stderr
    assert "reelseek models pull --preset standard" in done.stderr
    assert "an hour of video takes about" in done.stdout
    assert "without the 4 experts that do not run here; 2 s of video measured" in done.stdout


def test_what_is_missing_is_listed_by_model(pulled: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REELSEEK_MODELS", str(pulled))
    assert not missing_models(PRESETS["standard"])
    missing = {member.name for member in missing_models(PRESETS["best"])}
    assert missing == {"clip", "video", "detection", "speech"}
