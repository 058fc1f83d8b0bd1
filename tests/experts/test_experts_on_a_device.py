"""Experts with a PyTorch model compute where they are moved, and what cannot be moved says so."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reelseek.errors import UsageError
from reelseek.experts import extract as extraction
from reelseek.experts import load_expert
from reelseek.experts.extract import extract, prepare_worker
from reelseek.experts.hub import load_pretrained
from reelseek.library import Library, add
from reelseek.library.tokens import Clip, TokenReader
from reelseek.media.container import Limits
from reelseek.testing.films import write_film
from tests.experts.tiny import TINY, save_tiny
from tests.models.pretended_device import DEVICE, OnDevice, pretended_device


@pytest.fixture(autouse=True)
def _fresh() -> Any:
    """Models that other tests loaded stay where they are, and none stays on the device."""
    load_pretrained.cache_clear()
    load_expert.cache_clear()
    threads = torch.get_num_threads()
    yield
    load_pretrained.cache_clear()
    load_expert.cache_clear()
    extraction._UNMOVED.clear()
    torch.set_num_threads(threads)


# Recognisers have a test of their own; in transformers SigLIP 2 reads the shapes of its pictures off the device,
# which real devices allow; complex numbers, of which a network of sound makes its spectrogram, the pretended one lacks.
_ELSEWHERE = ("whisper", "whisper_words", "siglip2", "spectrogram")


@pytest.mark.parametrize("model", [name for name in TINY if name not in _ELSEWHERE])
def test_a_moved_model_gives_the_hosts_values(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)  # which the pretended device's tensors lack
    save_tiny(model, tmp_path / model)
    film, spec = write_film(tmp_path / "film.mp4"), f"{TINY[model]}@{tmp_path / model}"
    expected = extract(film, [spec], Limits())
    assert not expected.errors
    with pretended_device():
        load_expert(spec).to(DEVICE)  # type: ignore[attr-defined]
        weights = next(load_expert(spec)._model().parameters())  # type: ignore[attr-defined]
        assert isinstance(weights.data, OnDevice), "the model was not moved"
        moved = extract(film, [spec], Limits())
    assert not moved.errors
    np.testing.assert_allclose(moved.tracks[spec].values, expected.tracks[spec].values, atol=1e-3)
    assert len(moved.tracks[spec].values) > 0


def test_a_recogniser_moves_and_speech_without_one_has_nothing_to_move(tmp_path: Path) -> None:
    save_tiny("whisper", tmp_path / "whisper")
    with pretended_device():
        expert: Any = load_expert(f"speech@{tmp_path / 'whisper'}")
        expert.to(DEVICE)
    assert not hasattr(load_expert("speech"), "to")


def test_a_model_that_cannot_be_moved_fails_with_every_video_and_alone(tmp_path: Path) -> None:
    save_tiny("clip", tmp_path / "clip")
    spec = f"clip@{tmp_path / 'clip'}"
    prepare_worker([spec, "appearance"], "cuda:77")
    done = extract(write_film(tmp_path / "film.mp4"), [spec, "appearance"], Limits())
    assert set(done.tracks) == {"appearance"}
    assert "could not be moved to cuda:77" in done.errors[spec]
    assert "use fewer --workers, or --device cpu" in done.errors[spec]


@pytest.mark.long
def test_a_library_is_extracted_on_the_device_that_is_named(tmp_path: Path) -> None:
    """The worker processes get the name; one that a worker cannot use fails there, and is not extracted elsewhere."""
    save_tiny("clip", tmp_path / "clip")
    film, spec = write_film(tmp_path / "film.mp4"), f"clip@{tmp_path / 'clip'}"
    with Library.open(tmp_path / "lib", create=True) as library:
        with pytest.raises(UsageError, match="cuda:77"):
            add(library, [film], experts=[spec], device="cuda:77", workers=1)
        assert not library.track_rows("clip")
        gpu = torch.device("cuda", 77)  # as a script may name it, unchecked
        report = add(library, [film], experts=["plain"], device=gpu, workers=1)
        assert not report.failed
        assert "none of plain computes on a device" in str(report.notices[-1][1])
        report = add(library, [film], experts=[spec, "plain"], device=gpu, workers=1)
        assert [(video, expert) for video, expert, _ in report.failed] == [("film.mp4", "clip")]
        assert "could not be moved to cuda:77" in report.failed[0][2]
        report = add(library, [film], experts=[spec], device="cpu", workers=1, retry_failed=True)
        assert not report.failed
        assert len(library.track_rows("clip")) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
def test_worker_processes_compute_on_a_gpu_within_their_memory_limit(tmp_path: Path) -> None:
    save_tiny("clip", tmp_path / "clip")
    film, spec = write_film(tmp_path / "film.mp4"), f"clip@{tmp_path / 'clip'}"
    values = []
    for device in ("cpu", "cuda"):
        with Library.open(tmp_path / device, create=True) as library:
            report = add(library, [film], experts=[spec], device=device, workers=2)
            assert not report.failed
            values.append(TokenReader(library, ["clip"]).steps(Clip("film.mp4"), "clip")[0])
    np.testing.assert_allclose(values[0], values[1], atol=1e-3)
