"""Models of gigabytes beside each other: as many processes as memory holds, weights before the limit, time for each."""

import json
from pathlib import Path

import pytest
import torch

from reelseek.experts import extract as extract_module
from reelseek.experts import hub
from reelseek.experts.extract import extract, plan_workers, prepare_worker
from reelseek.experts.hub import load_pretrained, model_bytes
from reelseek.library import Library, add
from reelseek.media.container import Limits
from tests.experts.tiny import save_tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny("clip", tmp_path / "clip")
    return tmp_path / "clip"


def test_as_many_processes_as_memory_holds_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (folder / "model.safetensors").stat().st_size
    assert model_bytes(str(folder)) == size
    monkeypatch.setattr(extract_module.os, "cpu_count", lambda: 8)
    assert plan_workers(["object", "ocr"]).workers == 8
    for free, workers, threads in ((100 * size, 8, 1), (5 * size, 4, 2), (2.6 * size, 2, 4), (0, 1, 8)):
        monkeypatch.setattr(extract_module, "available_memory", lambda free=free: int(free))
        plan = plan_workers([f"clip@{folder}", f"scene@{folder}", "ocr"])  # one model, though two experts name it
        assert (plan.workers, plan.threads) == (workers, threads)
        assert bool(plan.reason) == (workers < 8)


def test_on_an_accelerator_only_models_that_a_server_cannot_have_are_copied(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny("whisper", tmp_path / "whisper")
    monkeypatch.setattr(extract_module.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(extract_module, "available_memory", lambda: 0)  # of the host, which models do not need
    size = model_bytes(str(tmp_path / "whisper"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(4 * size), 80 * size))
    clip, speech = f"clip@{folder}", f"speech@{tmp_path / 'whisper'}"
    assert plan_workers([clip, "ocr"], "cuda") == extract_module.WorkerPlan(8, serves=True)
    assert plan_workers([clip, "ocr"], "cuda", 3) == extract_module.WorkerPlan(3, serves=True)
    plan = plan_workers([clip, speech], "cuda")
    assert (plan.workers, plan.threads, plan.serves) == (3, 2, True)
    assert "3 at a time on 8 cores" in plan.reason
    assert not plan_workers(["ocr", speech], "cuda").serves
    assert not plan_workers([clip], "cpu", 2).serves


def test_half_precision_takes_twice_its_size(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    assert model_bytes(str(folder)) == 2 * (folder / "model.safetensors").stat().st_size
    assert model_bytes("no/model") == 0


def test_weights_are_loaded_before_the_memory_is_limited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_pretrained.cache_clear()
    prepare_worker([f"clip@{folder}"])
    assert load_pretrained.cache_info().currsize == 1


def test_weights_that_cannot_be_loaded_fail_for_each_file_and_alone(folder: Path, make_video) -> None:
    (folder / "model.safetensors").write_bytes(b"damaged")
    load_pretrained.cache_clear()
    film = make_video()
    spec = f"clip@{folder}"
    prepare_worker([spec, "object"])
    extracted = extract(film, [spec, "object"], Limits())
    assert set(extracted.tracks) == {"object"}
    assert set(extracted.errors) == {spec}


def test_a_model_adds_to_the_time_that_a_file_may_take() -> None:
    limits = Limits()
    assert limits.with_models(0) == limits
    assert limits.with_models(2).wall_seconds(10.0) == limits.wall_seconds(10.0) + 2 * limits.seconds_per_model * 10.0


@pytest.mark.long
def test_fewer_processes_than_cores_are_said(
    folder: Path, make_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reelseek.library import ingest

    films = [make_video("a.mp4"), make_video("b.mp4", size=(48, 32))]
    plan = extract_module.WorkerPlan(1, 1, "1 at a time on 2 cores: each holds 9.0 GB of models")
    monkeypatch.setattr(ingest, "plan_workers", lambda *_: plan)
    with Library.open(tmp_path / "library", create=True) as library:
        report = add(library, films, experts=[f"clip@{folder}"])
    assert [str(notice) for _, notice in report.notices if notice.place == "workers"] == [f"workers: {plan.reason}"]
    assert not report.failed


def test_a_hash_of_weights_is_kept_until_a_file_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
    hashed: list[int] = []
    hash_files = hub.hash_files
    monkeypatch.setattr(hub, "hash_files", lambda files: hashed.append(len(files)) or hash_files(files))
    first = hub.weights_hash(folder)
    assert hub.weights_hash(folder) == first
    assert len(hashed) == 1
    for kept in (folder.parent / "cache").rglob("*"):
        if kept.is_file():
            kept.write_text("damaged")
    assert hub.weights_hash(folder) == first
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert hub.weights_hash(folder) != first
    assert len(hashed) == 3
