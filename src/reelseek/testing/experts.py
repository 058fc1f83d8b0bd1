"""The contract of an expert: what its tracks have to be, whatever it sees or hears."""

from pathlib import Path

import numpy as np
import pytest

from reelseek.experts import load_expert
from reelseek.experts.expert import MODALITIES, check_expert, check_track
from reelseek.experts.extract import extract
from reelseek.media.container import Limits
from reelseek.testing.films import write_film

__all__ = ["ExpertContract"]


class ExpertContract:
    """Tests of one expert; a subclass names it, or overrides `spec` with a fixture of several.

    Attributes:
        expert: its name, or `name@folder` with a model.
    """

    expert: str = ""

    @pytest.fixture
    def spec(self) -> str:
        assert self.expert, 'name the expert: `expert = "my_expert"`, or override the fixture `spec`'
        return self.expert

    @pytest.fixture
    def films(self, tmp_path: Path) -> list[Path]:
        """Films that experts meet: with sound, silent, of one frame, and sound alone."""
        return [
            write_film(tmp_path / "film.mp4"),
            write_film(tmp_path / "silent.mp4", sound=False),
            write_film(tmp_path / "frame.mp4", 0.1, sound=False, size=(16, 16)),
            write_film(tmp_path / "sound.m4a", pictures=False),
        ]

    def test_its_description_is_whole_and_stays(self, spec: str) -> None:
        expert = load_expert(spec)
        check_expert(expert, spec.partition("@")[0])
        assert expert.modality in MODALITIES
        load_expert.cache_clear()
        assert load_expert(spec).fingerprint == expert.fingerprint, "its fingerprint differs each time it is loaded"

    def test_its_tracks_are_what_it_says_and_the_same_each_time(self, spec: str, films: list[Path]) -> None:
        expert = load_expert(spec)
        for film in films:
            first, second = (extract(film, [spec], Limits()) for _ in range(2))
            assert not first.errors, (film.name, first.errors)
            track = first.tracks[spec]
            check_track(track, expert)
            assert track.values.shape == (len(track.spans), expert.dim)
            assert np.isfinite(track.values).all()
            assert (track.spans[:, 1] >= track.spans[:, 0]).all()
            assert (np.diff(track.spans[:, 0]) >= 0).all()
            assert track.spans[:, 0].max(initial=0) <= first.end_seconds + 0.1, f"{film.name}: a step after the end"
            assert track.values.tobytes() == second.tracks[spec].values.tobytes(), f"{film.name}: it differs each time"
            assert len(track.values) or track.note, f"{film.name}: no steps, and no note why"
