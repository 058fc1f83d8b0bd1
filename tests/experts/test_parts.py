"""A pass over a long video that ends early is taken up where it was, to the same bytes."""

import hashlib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from reelseek.experts import extract as extract_module
from reelseek.experts import guarded
from reelseek.experts.expert import Text, Track
from reelseek.experts.extract import Extracted, close_stretches, extract
from reelseek.experts.parts import Parts, Stretch, clear_progress, pack_texts, read_progress, unpack_texts
from reelseek.media.container import Limits
from reelseek.media.streams import FrameBatch, FrameStream, SoundBatch, SoundStream
from reelseek.studio import plan_films, shoot
from tests.experts.tiny import save_tiny

SPECS = ("appearance", "object", "motion", "audio", "speech", "ocr", "plain")


@pytest.fixture
def film(make_video, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(guarded, "PART_SECONDS", 8.0)
    return make_video("film.mp4", times=[i / 4 for i in range(160)], size=(160, 120), sound_seconds=40.0)


def _same(one: Extracted, two: Extracted) -> None:
    assert one.errors == two.errors == {}
    assert set(one.tracks) == set(two.tracks)
    for spec, track in one.tracks.items():
        other = two.tracks[spec]
        assert (track.values.dtype, track.values.tobytes()) == (other.values.dtype, other.values.tobytes()), spec
        assert np.array_equal(track.spans, other.spans), spec
        assert (track.texts, track.note) == (other.texts, other.note), spec
    assert one.cuts == two.cuts
    assert one.thumbnails == two.thumbnails
    assert one.end_seconds == two.end_seconds
    assert one.notices == two.notices


def _fed(monkeypatch: pytest.MonkeyPatch, path: Path, specs: tuple[str, ...], parts: Parts) -> tuple[Extracted, int]:
    """What a pass gives, and how many batches of frames the appearance expert was shown in it."""
    shown: list[int] = []
    encode = extract_module.load_expert("appearance").encoder.submit_once

    def counting(batch: object) -> object:
        shown.append(1)
        return encode(batch)

    with monkeypatch.context() as patch:
        patch.setattr(extract_module.load_expert("appearance").encoder, "submit_once", counting)
        return extract(path, specs, Limits(), parts=parts), len(shown)


@pytest.mark.long
def test_every_state_in_which_a_pass_can_end_leads_to_the_same_tracks(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = extract(film, SPECS, Limits())
    folder = tmp_path / "parts"
    first, fed = _fed(monkeypatch, film, SPECS, Parts(folder))
    _same(whole, first)
    again, fed_again = _fed(monkeypatch, film, SPECS, Parts(folder))
    _same(whole, again)
    assert fed_again < fed, "nothing was taken up"
    files = sorted(folder.glob("*.npz"))
    numbers = {int(file.stem.rpartition("-")[2]) for file in files}
    assert len(numbers) >= 3
    rng = np.random.default_rng(0)
    for file in files:  # each expert at another place, the last part of some torn
        if int(file.stem.rpartition("-")[2]) >= rng.integers(1, max(numbers) + 1):
            file.unlink()
    torn = sorted(folder.glob("*.npz"))[-1]
    torn.write_bytes(torn.read_bytes()[:-100])
    _same(whole, extract(film, SPECS, Limits(), parts=Parts(folder)))


def test_windows_of_learned_models_are_taken_up(film: Path, tmp_path: Path) -> None:
    for name in ("xclip", "ast"):
        save_tiny(name, tmp_path / name)
    specs = (f"video@{tmp_path / 'xclip'}", f"sound@{tmp_path / 'ast'}")
    whole = extract(film, specs, Limits())
    _same(whole, extract(film, specs, Limits(), parts=Parts(tmp_path / "parts")))
    assert len(list((tmp_path / "parts").glob("*.npz"))) >= 4
    _same(whole, extract(film, specs, Limits(), parts=Parts(tmp_path / "parts")))


def test_what_is_said_is_taken_up_while_it_is_recognised(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded, "_SAVED_EVERY", 0.0)
    spans = [(float(second), second + 0.5) for second in range(0, 30, 3)]
    monkeypatch.setattr("reelseek.experts.speech._detect", lambda samples, begin: spans)
    recognised: list[float] = []

    def lines(self: object, samples: object, start: float, end: float) -> list[Text]:
        if len(recognised) == 6:
            raise KeyboardInterrupt
        recognised.append(start)
        return [Text(f"line {start:.0f}", start, end, "said")]

    monkeypatch.setattr("reelseek.experts.speech._SpeechSession._lines_of", lines)
    parts = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        extract(film, ["speech"], Limits(), parts=Parts(parts))
    recognised.append(0.0)  # from here on all of it
    resumed = extract(film, ["speech"], Limits(), parts=Parts(parts))
    assert [text.start_seconds for text in resumed.tracks["speech"].texts] == [start for start, _ in spans]
    assert recognised == [*range(0, 18, 3), 0.0, *range(18, 30, 3)]


def test_a_full_disk_costs_the_parts_and_nothing_else(film: Path, tmp_path: Path) -> None:
    (tmp_path / "parts").write_text("a file where the folder would be")
    extracted = extract(film, ["audio"], Limits(), parts=Parts(tmp_path / "parts"))
    assert len(extracted.tracks["audio"].values)
    assert any("could not be kept" in notice.message for notice in extracted.notices)


def test_parts_of_other_weights_are_not_taken_up(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.save("audio:one", [3], {"rows": np.zeros(2)})
    parts.save("audio:one", [5], {"rows": np.ones(2)})
    batches, states = Parts(tmp_path).load("audio:one")
    assert (batches, [state["rows"].tolist() for state in states]) == ((5,), [[0.0, 0.0], [1.0, 1.0]])
    assert Parts(tmp_path).load("audio:two") == ((), [])
    for file in tmp_path.glob("*-00000.npz"):
        with pytest.raises(zipfile.BadZipFile):
            zipfile.ZipFile(_cut(file))
    assert Parts(tmp_path).load("audio:one") == ((), []), "a part counts without the one before it"


def _cut(file: Path) -> Path:
    file.write_bytes(file.read_bytes()[:40])
    return file


def test_texts_survive() -> None:
    texts = [Text("naïve « 狗 »", 0.1, 1 / 3, "written", 0.9), Text("x", 2.0, 2.5, "said")]
    assert unpack_texts(pack_texts(texts)) == texts


def test_progress_is_what_was_worked_on_and_kept_inside_a_stretch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reelseek.experts.parts._PROGRESS_EVERY", -1.0)
    assert read_progress(tmp_path) == {}
    parts = Parts(tmp_path, Stretch(100, 200, passing=0.25), piece=3)
    for seconds, work in ((40.0, 10.0), (150.0, 75.0), (999.0, 125.0)):
        parts.report(seconds, ["an expert"])
        assert read_progress(tmp_path) == {3: (work, 0.0)}
    parts.save("an expert", [1], {}, until=160.0)
    parts.report(170.0, ["an expert"])
    assert read_progress(tmp_path) == {3: (95.0, 60.0)}
    (tmp_path / "progress-4").write_text("half a nu")
    assert read_progress(tmp_path) == {3: (95.0, 60.0)}
    clear_progress(tmp_path)
    assert read_progress(tmp_path) == {}


def test_parts_that_cannot_be_taken_up_are_forgotten(film: Path, tmp_path: Path) -> None:
    whole = extract(film, ["motion"], Limits())
    parts = Parts(tmp_path)
    fingerprint = extract_module.load_expert("motion").fingerprint
    for number in (1, 2):
        parts.save(fingerprint, [number], {"of another version": np.zeros(3)})
    _same(whole, extract(film, ["motion"], Limits(), parts=Parts(tmp_path)))
    _same(whole, extract(film, ["motion"], Limits(), parts=Parts(tmp_path)))
    assert Parts(tmp_path).load(fingerprint)[0] > (2,)


def test_parts_behind_a_damaged_one_are_forgotten(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    for number in range(4):
        parts.save("an expert", [number + 1], {"rows": np.arange(number, number + 2)})
    files = sorted(tmp_path.glob("*.npz"))
    files[1].write_bytes(b"")
    again = Parts(tmp_path)
    batches, states = again.load("an expert")
    assert (batches, len(states)) == ((1,), 1)
    assert sorted(tmp_path.glob("*.npz")) == files[:1]
    again.save("an expert", [2], {"rows": np.arange(5)})
    assert Parts(tmp_path).load("an expert")[0] == (2,)


def _divided(film: Path, specs: tuple[str, ...], folder: Path, starts: tuple[int, ...]) -> Extracted:
    """What passes over stretches give together."""
    ends = [*starts[1:], float("inf")]
    passes = [
        extract(film, specs, Limits(), pictures=start == starts[-1], parts=Parts(folder, Stretch(start, end)))
        for start, end in zip(starts, ends, strict=True)
    ]
    assert all(not one.tracks and not one.errors for one in passes)
    last = passes[-1]
    closed = close_stretches(folder, specs, starts, picture_end=last.picture_end, sound_end=last.sound_end)
    closed.cuts, closed.thumbnails, closed.notices = last.cuts, last.thumbnails, last.notices
    return closed


@pytest.mark.long
def test_stretches_give_the_tracks_of_one_pass(make_video, tmp_path: Path) -> None:
    for name in ("xclip", "ast"):
        save_tiny(name, tmp_path / name)
    written = shoot(plan_films(1)[0], tmp_path)
    plain = make_video("plain.mp4", times=[i / 2 for i in range(80)], sound_seconds=40.0)
    pictures = ("appearance", "object", "motion", "ocr", "plain", "copy", f"video@{tmp_path / 'xclip'}")
    for film, specs in ((written, pictures), (plain, ("motion", f"sound@{tmp_path / 'ast'}"))):
        whole = extract(film, specs, Limits())
        for starts in ((0, 3), (0, 9, 11, 32)):
            folder = tmp_path / f"{film.stem} {len(starts)}"
            _same(whole, _divided(film, specs, folder, starts))
            if len(starts) == 4:  # once more, from what was kept, of which some is torn
                torn = sorted(folder.glob("*-00000.npz"))[::3]
                for file in torn:
                    file.write_bytes(file.read_bytes()[:-100])
                _same(whole, _divided(film, specs, folder, starts))
                torn[0].unlink()
                lost = close_stretches(folder, specs, starts, picture_end=1.0, sound_end=1.0)
                assert [message for message in lost.errors.values() if "is lost" in message]


class _Ears:
    """A session that reads pictures and sound, and remembers what it was shown."""

    def __init__(self) -> None:
        self.brightness: list[float] = []
        self.samples = 0
        self._saved = 0

    def save_part(self) -> dict[str, np.ndarray]:
        new, self._saved = self.brightness[self._saved :], len(self.brightness)
        return {"brightness": np.array(new), "samples": np.array(self.samples)}

    def restore_parts(self, states: list[dict[str, np.ndarray]]) -> None:
        self.brightness = [value for state in states for value in state["brightness"].tolist()]
        self._saved, self.samples = len(self.brightness), int(states[-1]["samples"])

    def feed(self, batch: FrameBatch | SoundBatch) -> None:
        if isinstance(batch, SoundBatch):
            self.samples += len(batch)
        else:
            self.brightness += [float(picture.mean()) for picture in batch.pixels]

    def close(self, end_seconds: float) -> Track:
        values = np.array([[value, self.samples] for value in self.brightness], np.float32)
        return Track(values, np.array([[i, i + 1.0] for i in range(len(values))]))


def test_an_expert_of_pictures_and_sound_is_taken_up_with_its_pictures(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = SimpleNamespace(
        name="ears", modality="audio", dim=2, fingerprint="ears:1", open=_Ears,
        streams=(FrameStream(fps=2, short_side=32), SoundStream(8000)),
    )  # fmt: skip
    for module in (extract_module, guarded):
        monkeypatch.setattr(module, "load_expert", lambda spec: expert)
    whole = extract(film, ["ears"], Limits(), pictures=False)
    assert whole.tracks["ears"].values.min() > 0
    _same(whole, extract(film, ["ears"], Limits(), pictures=False, parts=Parts(tmp_path / "parts")))
    files = sorted((tmp_path / "parts").glob("*.npz"))
    assert len(files) >= 3
    for file in reversed(files):  # every state in which it can be taken up
        _same(whole, extract(film, ["ears"], Limits(), pictures=False, parts=Parts(tmp_path / "parts")))
        for later in files[files.index(file) :]:
            later.unlink(missing_ok=True)


@pytest.mark.long
def test_a_pass_loses_at_most_a_minute_of_video(make_video, tmp_path: Path) -> None:
    film = make_video("film.mp4", times=[float(i) for i in range(200)], sound_seconds=200.0)
    extract(film, ["plain", "audio"], Limits(), pictures=False, parts=Parts(tmp_path / "parts"))
    for spec in ("plain", "audio"):
        stem = f"{hashlib.sha256(guarded.load_expert(spec).fingerprint.encode()).hexdigest()[:24]}-*.npz"
        kept = [float(np.load(file)["_until"]) for file in sorted((tmp_path / "parts").glob(stem))]
        assert max(np.diff([0.0, *kept, 200.0])) <= 60.0, (spec, kept)
        assert len(kept) <= 5
