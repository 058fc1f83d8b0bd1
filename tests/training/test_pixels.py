"""Networks that learn from files with the system above them: runs, what they read, and what is left of them."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import RecipeError, UsageError
from reelseek.experts import load_expert
from reelseek.library import Library, add
from reelseek.library.records import Video
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models import load_model
from reelseek.models.pixels import FromPixels
from reelseek.training import read_recipe, train
from reelseek.training.pixels.reader import PixelReader
from reelseek.training.pixels.recipe import PixelRecipe
from reelseek.training.recipe import Recipe
from reelseek.training.split import Split
from reelseek.training.start import build_model

TINY: dict[str, Any] = {
    "model": {"system": "mmv", "fine": 16, "coarse": 16, "words": 16},
    "pixels": {
        "network": "tsm", "scale": 1 / 16, "blocks": [1, 1, 1, 1], "frames": 4, "fps": 2, "resize": 40, "crop": 32,
        "audio_scale": 1 / 16, "audio_blocks": [1, 1, 1, 1],
    },
    "data": {"uncaptioned": True},
    "train": {"optimizer": "adam", "rate": 1e-3, "epochs": 2, "batch": 6, "metric": "mean_rank"},
}  # fmt: skip


def _tiny(*changes: str) -> Recipe:
    return read_recipe(TINY, changes)


@pytest.fixture(scope="module")
def trained(library_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FromPixels]:
    out = tmp_path_factory.mktemp("pixels") / "tiny.model"
    with Library.open(library_path) as opened:
        model = train(_tiny(), opened, out)
    assert isinstance(model, FromPixels)
    return out, model


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "state.safetensors")


def _same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.long
def test_workers_change_no_number(library: Library, trained: tuple[Path, FromPixels], tmp_path: Path) -> None:
    train(_tiny("train.workers=2"), library, tmp_path / "two")
    assert _same(_weights(trained[0]), _weights(tmp_path / "two"))
    train(_tiny("train.seed=1"), library, tmp_path / "other")
    assert not _same(_weights(trained[0]), _weights(tmp_path / "other"))


@pytest.mark.long
def test_a_stopped_run_ends_as_one_that_was_not(
    library: Library, trained: tuple[Path, FromPixels], tmp_path: Path
) -> None:
    def stop(_: object, __: object, epoch: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(_tiny(), library, tmp_path / "stopped", after=stop)
    train(_tiny(), library, tmp_path / "stopped")
    assert _same(_weights(trained[0]), _weights(tmp_path / "stopped"))


def test_both_networks_learn_with_the_system(library: Library) -> None:
    from reelseek.training.loop import _begin

    trainer = _begin(_tiny(), library, Path("unused"), torch.device("cpu"))
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.state.epoch = 1
    trainer.train_epoch()
    trainer.reader.close()
    changed = {name for name, value in trainer.model.named_parameters() if not torch.equal(before[name], value)}
    for part in ("networks.vision_net.stem", "networks.audio_net.resnet.stem", "inner.coarsen", "inner.hear"):
        assert any(name.startswith(part) for name in changed), part


def test_a_large_batch_is_taken_in_chunks(library: Library, tmp_path: Path) -> None:
    model = train(_tiny("train.chunk=3", "train.epochs=1"), library, tmp_path / "chunks")
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())


@pytest.mark.long
def test_what_is_saved_is_a_system_over_the_features_of_its_networks(
    library_path: Path, archive: Path, trained: tuple[Path, FromPixels], tmp_path: Path
) -> None:
    folder, model = trained
    saved = load_model(folder)
    assert saved.system == "mmv"
    assert saved.slots == ("vision", "audio")
    assert list(saved.experts) == ["vision_net", "audio_net"]
    assert not isinstance(saved, FromPixels)
    for name, value in saved.state_dict().items():
        assert torch.equal(value, model.inner.state_dict()[name])
    copy = shutil.copytree(library_path, tmp_path / "library")
    experts = [f"{name}@{folder / name}" for name in ("vision_net", "audio_net")]
    with Library.open(copy) as library:
        assert not add(library, [archive], experts=experts).failed
        reader, pixels = TokenReader(library, list(saved.experts)), PixelReader(library, _pixels(), processes=1)
        heard = {video.id: reader.steps(Clip(video.id), "audio_net")[0] for video in library.videos()}
        video = next(v.id for v in library.videos() if (v.duration or 0) > 2 and len(heard[v.id]))
        steps, spans = reader.steps(Clip(video), "vision_net")
        assert (spans[0, 0], spans[0, 1]) == (0.0, pytest.approx(2.0))
        windows = pixels.batch([Clip(video, 0.0, 2.0)])
        pixels.close()
        with torch.inference_mode():
            features = {name: track.values[0, 0].numpy() for name, track in model.features(windows).items()}
        assert np.allclose(steps[0], features["vision_net"], atol=2e-3 * np.abs(steps).max())
        sound = heard[video]
        assert np.allclose(sound[0], features["audio_net"], atol=2e-3 * np.abs(sound).max())
        measured = CliRunner().invoke(app, ["evaluate", str(folder), "--library", str(copy)])
        assert measured.exit_code == 0, measured.output


def test_a_later_run_goes_on_from_the_networks_and_the_system(
    library: Library, trained: tuple[Path, FromPixels]
) -> None:
    from reelseek.training.loop import _begin

    trainer = _begin(_tiny(f"train.start={trained[0]}", "train.seed=7"), library, Path("unused"), torch.device("cpu"))
    state = trained[1].state_dict()
    assert state.keys() == trainer.model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in trainer.model.state_dict().items())


def test_windows_move_from_epoch_to_epoch_and_validation_takes_the_middle(library: Library) -> None:
    reader = PixelReader(library, replace(_pixels(), frames=2, fps=2.0), processes=1)
    video = max(library.videos(), key=lambda video: video.duration or 0)
    starts = {reader._window(Clip(video.id), seed).start_seconds for seed in range(20)}
    assert len(starts) > 5
    assert 0 <= min(starts) < max(starts) <= video.duration - 1 + 0.25
    middle = reader._window(Clip(video.id), None)
    assert middle.augmentation is None
    assert middle.start_seconds == pytest.approx((video.duration - 1) / 2, abs=0.25)
    inside = {reader._window(Clip(video.id, 1.0, 3.0), seed).start_seconds for seed in range(20)}
    assert inside <= {1.0, 1.5, 2.0}
    assert len(inside) == 3
    short = reader._window(Clip(video.id, 1.0, 1.2), 5)  # about the middle of a clip that is shorter
    assert short.start_seconds == pytest.approx(0.6, abs=0.25)


def test_films_without_sound_are_learnt_from_by_sight(
    library: Library, make_video: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = next(video for video in library.videos() if video.split == "train")
    _move(monkeypatch, {silent.id: make_video()})
    reader = PixelReader(library, _pixels(), processes=1)
    clips = [Clip(video.id) for video in library.videos()]
    tokens, present = reader.batch(clips), reader.present(clips)
    reader.close()
    assert tokens["frames"].present.all()
    assert present["frames"].all()
    assert tokens["samples"].present.any(1).tolist() == present["samples"].tolist()
    heard = dict(zip([clip.video for clip in clips], present["samples"].tolist(), strict=True))
    assert not heard[silent.id]
    assert sum(heard.values()) >= 5  # of eight, one of which is silent by itself
    model = build_model(_tiny(), reader, Split("all", tuple(clips), (), ()))
    assert isinstance(model, FromPixels)
    features = model.features(tokens)
    assert features["audio_net"].present[:, 0].tolist() == present["samples"].tolist()
    assert not features["audio_net"].clean[~features["audio_net"].present].any()
    model.eval()
    with torch.inference_mode():
        alone = model.encode_videos({name: steps[[0]] for name, steps in tokens.items()})
        together = model.encode_videos(tokens)[:1]
    assert torch.allclose(alone.values, together.values, atol=1e-5)


def _pixels() -> PixelRecipe:
    config = _tiny().pixels
    assert config is not None
    return config


def _move(monkeypatch: pytest.MonkeyPatch, files: Mapping[str, Path]) -> None:
    """Let some videos of every library lie elsewhere."""
    video = Library.video

    def moved(library: Library, name: str) -> Video:
        row = video(library, name)
        return replace(row, path=files[row.id]) if row.id in files else row

    monkeypatch.setattr(Library, "video", moved)


def test_missing_files_are_counted_and_named(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = [video.id for video in library.videos() if video.split == "train"][:2]
    _move(monkeypatch, {name: tmp_path / name for name in gone})
    message = rf"2 of \d+ videos have no file at hand \('{gone[0]}', '{gone[1]}'\)"
    with pytest.raises(UsageError, match=message):
        train(_tiny(), library, tmp_path / "out")


def test_a_film_that_cannot_be_decoded_is_said_and_counted(
    library: Library, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next(video.id for video in library.videos() if video.split == "train")
    (tmp_path / "broken.mp4").write_bytes(b"no film" * 1000)
    _move(monkeypatch, {name: tmp_path / "broken.mp4"})
    (tmp_path / "tiny.toml").write_text(toml(TINY))
    arguments = ["train", str(tmp_path / "tiny.toml"), "--library", str(library.path), "--out", str(tmp_path / "out")]
    with caplog.at_level(logging.WARNING, "reelseek"):
        result = CliRunner().invoke(app, [*arguments, "--set", "train.epochs=1"])
    assert result.exit_code == 1, (result.output, result.exception)
    assert sum(message.startswith(f"{name} cannot be decoded") for message in caplog.messages) == 1
    record = load_model(tmp_path / "out").record
    assert list(record["unreadable_videos"]) == [name]
    assert "1 videos could not be decoded" in " ".join(record["warnings"])


def toml(table: dict[str, Any]) -> str:
    lines = []
    for section, settings in table.items():
        lines.append(f"[{section}]")
        for name, value in settings.items():
            lines.append(f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}")
    return "\n".join(lines).replace("'", '"') + "\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["pixels.resize=30"], "resize"),
        (["pixels.network='s3dg'"], "blocks are of the network tsm"),
        (["pixels.rate=44100"], "rate 44100 has no whole number of samples"),
        (["data.experts=['audio']"], "pixels: data.experts is about features"),
        (["anchor.bank=5"], "pixels: anchor is about features"),
        (["model.missing='refuse'"], "pixels: model.missing is about features"),
        (["pixels.frames=2", "pixels.fps=120"], "too short for sound"),
    ],
)
def test_settings_that_do_not_go_together(changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        _tiny(*changes)


def test_other_systems_learn_from_pixels_too(library: Library, tmp_path: Path) -> None:
    changes = ["data.uncaptioned=false", "train.epochs=1", "pixels.sound=false"]
    model = train(read_recipe({**TINY, "model": {"system": "mee"}}, changes), library, tmp_path / "mee")
    assert list(load_model(tmp_path / "mee").experts) == ["vision_net"]
    assert model.system == "mee"


@pytest.mark.parametrize("name", ["vision_net", "audio_net"])
def test_an_expert_wants_the_folder_of_its_own_network(name: str, trained: tuple[Path, FromPixels]) -> None:
    from reelseek.errors import ExpertUnavailable

    other = {"vision_net": "audio_net", "audio_net": "vision_net"}[name]
    with pytest.raises(ExpertUnavailable, match=f"holds no network that {name} can run"):
        load_expert(f"{name}@{trained[0] / other}")
    with pytest.raises(ExpertUnavailable, match="needs a network"):
        load_expert(name)
    assert load_expert(f"{name}@{trained[0] / name}").dim > 0
