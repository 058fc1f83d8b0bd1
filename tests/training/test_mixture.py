"""Mixtures of datasets: what is drawn, what is left out, what may not choose."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from tests.training.test_training import SMALL

from reelseek.errors import UsageError
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.library.tokens import Clip
from reelseek.models import Batch, LearnedModel, parallel
from reelseek.training import Recipe, train
from reelseek.training.captions import train_captions
from reelseek.training.data import read_split, together, training_splits
from reelseek.training.recipe import DataRecipe, TrainRecipe
from reelseek.training.sampler import BatchPlan, Sampler
from reelseek.training.saturation import Saturation, saturation, saturation_report
from reelseek.training.split import Split


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 40 videos with one caption, and one of 4 videos, of which the first has 30 clips."""
    folder = tmp_path_factory.mktemp("two")
    rows = ["video,caption,start,end,split"] + [f"big{i},words {i} of the big one,,,big" for i in range(40)]
    rows += [f"small0,clip {i} of a video,{i},{i + 1},small" for i in range(30)]
    rows += [f"small{i},other {i},,,small" for i in range(1, 4)] + [f"t{i},test {i},,,test" for i in range(4)]
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    names = [f"big{i}" for i in range(40)] + [f"small{i}" for i in range(4)] + [f"t{i}" for i in range(4)]
    np.savez(folder / "see.npz", **{name: np.random.default_rng(0).normal(size=(30, 16)) for name in names})
    with Library.open(folder / "lib", create=True) as library:
        add(library, [folder / "rows.csv"], media=False)
        import_features(library, "see", [folder / "see.npz"], modality="appearance", fps=1.0)
    return folder / "lib"


def _drawn(library: Library, tmp_path: Path, **data: object) -> list[str]:
    """The videos that one epoch draws."""
    seen: list[str] = []
    original = Sampler.plan

    def spy(self: Sampler, clips: np.ndarray, rng: np.random.Generator) -> BatchPlan:
        seen.extend(self.split.clips[clip].video for clip in clips)
        return original(self, clips, rng)

    recipe = TypeAdapter(Recipe).validate_python({"model": SMALL, "data": data, "train": {"epochs": 1, "batch": 50}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sampler, "plan", spy)
        train(recipe, library, tmp_path)
    return seen


def test_a_dataset_counts_for_its_weight_and_each_of_its_clips_alike(two: Path, tmp_path: Path) -> None:
    with Library.open(two) as library:
        seen = _drawn(library, tmp_path / "a", mixture={"big": 1.0, "small": 3.0}, examples=2000)
        assert len(seen) == 2000
        small = [video for video in seen if video.startswith("small")]
        assert abs(len(small) / 2000 - 0.75) < 0.04
        train_part, _ = training_splits(library, ["big", "small"], None, 0.1)
        clips = [clip.video for clip in train_part.clips if clip.video.startswith("small")]
        share = small.count("small0") / len(small)  # most clips of that dataset, if it is learnt from at all
        assert abs(share - clips.count("small0") / len(clips)) < 0.05
        seen = _drawn(library, tmp_path / "b", mixture={"big": 1.0, "small": 3.0}, without=["small"], examples=2000)
        assert len(seen) == 500  # a quarter of the weight is left
        assert all(video.startswith("big") for video in seen)


def test_a_mixture_is_told_from_its_parts_and_checked(two: Path) -> None:
    with Library.open(two) as library:
        both = together(library, ["big", "small"])
        assert len(both.clips) == 40 + 33
        assert len(together(library, ["big", "big"]).texts) == 40
        train_part, chosen = training_splits(library, ["big", "small"], None, 0.2)
        assert not {clip.video for clip in train_part.clips} & {clip.video for clip in chosen.clips}
    with pytest.raises(ValidationError, match="not in the mixture"):
        TypeAdapter(DataRecipe).validate_python({"mixture": {"a": 1.0}, "without": ["b"]})
    with pytest.raises(ValidationError, match="weight above zero"):
        TypeAdapter(DataRecipe).validate_python({"mixture": {"a": 0.0}})


def test_a_test_split_under_another_name_may_not_choose(two: Path, tmp_path: Path) -> None:
    with Library.open(two) as library:
        with pytest.raises(UsageError, match="'test' is the test split 'test'"):
            training_splits(library, "big", "test", 0.1)
        with library.writing(), library.db:
            library.put_split("chosen", [f"t{i}" for i in range(4)])
        with pytest.raises(UsageError, match="'chosen' is the test split 'test'"):
            training_splits(library, "big", "chosen", 0.1)


def test_no_way_of_joining_or_writing_names_lets_a_test_split_choose(
    two: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "lib"
    shutil.copytree(two, copy)
    tests = [f"t{i}" for i in range(4)]
    with Library.open(copy) as library:
        with library.writing(), library.db:
            library.put_split("other/TEST", ["big0", "big1"])
            library.put_split("more", [*tests, "small1"])
            library.put_split("half", tests[:2])
            library.put_split("mixed", [*tests[:2], "small1", "small2"])
            library.put_split("small+test", ["small1"])  # its own name, and not two that are joined
        for name, message in (
            ("half+test", "'half\\+test' is the test split 'test'"),  # the same videos
            ("small+test", "holds the test split 'test'"),
            ("other/TEST+half", "holds the test split 'other/TEST'"),
            ("other/TEST", "'other/TEST' is the test split 'other/TEST'"),
            ("more", "'more' holds the test split 'test'"),
            ("more+mixed", "holds the test split 'test'"),
            ("half", "'half' lies within the test split 'test'"),
        ):
            with pytest.raises(UsageError, match=f"{message}; choosing on it .* worthless"):
                training_splits(library, "small" if "other" in name else "big", name, 0.1)
        assert not caplog.messages
        assert len(training_splits(library, "big", "mixed", 0.1)[1].clips) == 4
        assert caplog.messages == [
            "2 of the 4 videos of the validation split 'mixed' are in the test split 'test', whose score they flatter"
        ]
        with pytest.raises(UsageError, match="worthless"):
            train_captions(library, experts=["see"], train="big", validation="half+test")
        with pytest.raises(UsageError, match="2 videos are in both 'big' and 'other/TEST'"):
            train_captions(library, experts=["see"], train="big", validation="other/TEST")


def test_batches_of_several_clips_of_each_video(two: Path, tmp_path: Path) -> None:
    batches: list[tuple[list[str], int]] = []
    held: list[list[int]] = []
    original = LearnedModel.terms

    def spy(self: LearnedModel, batch: Batch) -> dict[str, torch.Tensor]:
        held.append(batch.video.tolist())
        batches.append(([f"{number}" for number in batch.clip.tolist()], int((~batch.negatives).sum())))  # type: ignore[union-attr]
        return original(self, batch)

    how = {"epochs": 2, "batch": 12, "clips_per_video": 3}
    data = {"train": "small", "validation": "big"}
    with Library.open(two) as library, pytest.MonkeyPatch.context() as patch:
        patch.setattr(LearnedModel, "terms", spy)
        for negatives in ("videos", "clips"):
            recipe = TypeAdapter(Recipe).validate_python(
                {"model": SMALL, "data": data, "train": {**how, "negatives": negatives}}
            )
            train(recipe, library, tmp_path / negatives)
    assert [len(set(videos)) for videos in held] == [4] * 4  # what belongs together is known either way
    # Each epoch is one batch: three clips of the long video, one of each of the others; four videos fit.
    assert [len(clips) for clips, _ in batches] == [6] * 4
    assert all(len(set(clips)) == 6 for clips, _ in batches)
    assert set(batches[0][0]) != set(batches[1][0])  # other clips in the next epoch
    assert [same for _, same in batches] == [9 + 3, 9 + 3, 6, 6]


@pytest.mark.parametrize("setting", [{"clips_per_video": 2}, {"batch_of": "videos"}])
def test_a_mixture_or_a_count_of_examples_takes_no_several_clips_of_a_video(setting: dict[str, object]) -> None:
    for data in ({"mixture": {"a": 1.0, "b": 1.0}}, {"examples": 10}):
        given = {"model": SMALL, "data": data, "train": setting}
        with pytest.raises(ValidationError, match=next(iter(setting))):
            TypeAdapter(Recipe).validate_python(given)


def _sampler(data: DataRecipe, **settings: object) -> Sampler:
    """A sampler over forty videos, of which every fourth has twelve clips and the others one."""
    clips = [
        Clip(f"v{video}", float(part), part + 1.0) for video in range(40) for part in range(12 if video % 4 == 0 else 1)
    ]
    split = Split("train", tuple(clips), tuple(f"words {n}" for n in range(len(clips))), tuple(range(len(clips))))
    return Sampler(split, TrainRecipe(**settings), data, shifts={}, experts=1)


def test_a_batch_of_videos_has_all_of_their_clips() -> None:
    """CrossCLR's batches: of 64 clips at random nearly each is of another video, whose level then sees single clips."""
    sampler = _sampler(DataRecipe(), batch=8, batch_of="videos")
    batches = sampler.batches(np.random.default_rng(0))
    every = list(range(len(sampler.split.clips)))
    assert sorted(clip for batch in batches for clip in batch) == every
    for batch in batches:
        videos = {sampler.split.clips[clip].video for clip in batch}
        assert len(videos) == 8
        assert sorted(batch) == [clip for clip in every if sampler.split.clips[clip].video in videos]
    some = _sampler(DataRecipe(), batch=8, batch_of="videos", clips_per_video=3).batches(np.random.default_rng(0))
    assert [len({sampler.split.clips[clip].video for clip in batch}) for batch in some] == [8] * 5
    assert sum(map(len, some)) == 10 * 3 + 30


def test_processes_share_a_batch_without_dividing_a_video(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = _sampler(DataRecipe(), batch=24)
    sampler.whole_videos = True
    monkeypatch.setattr(parallel, "world_size", lambda: 3)
    for batch in sampler.batches(np.random.default_rng(0)):
        shares = sampler._shares(batch)
        assert sorted(row for share in shares for row in share) == list(range(len(batch)))
        videos = [{sampler.split.clips[clip].video for clip in batch[share]} for share in shares]
        assert all(videos)
        assert sum(map(len, videos)) == len(set.union(*videos))
    one_video = np.arange(12)  # all of v0
    monkeypatch.setattr(sampler, "_by_clip", lambda _: [one_video])
    assert sampler.batches(np.random.default_rng(0)) == []


def test_clips_that_no_batch_takes_are_counted_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sampler = _sampler(DataRecipe(examples=25), batch=8)
    for epoch in range(2):
        assert sum(map(len, sampler.batches(np.random.default_rng(epoch)))) == 24
    (message,) = caplog.messages
    assert message.startswith("1 of the 25 clips of an epoch are left out: a batch of one clip has no negatives;")
    monkeypatch.setattr(parallel, "world_size", lambda: 3)
    monkeypatch.setattr(parallel, "is_main_process", lambda: True)
    sampler = _sampler(DataRecipe(examples=26), batch=8)
    assert sum(map(len, sampler.batches(np.random.default_rng(0)))) == 24
    assert caplog.messages[1].startswith("2 of the 26 clips of an epoch are left out: 3 processes cannot share them;")


@pytest.mark.parametrize("examples", [10, 150, 400])
def test_an_epoch_has_as_many_examples_as_the_recipe_says_without_a_mixture(examples: int) -> None:
    sampler = _sampler(DataRecipe(examples=examples), batch=10)
    clips = np.concatenate(sampler.batches(np.random.default_rng(0)))
    assert len(clips) == examples
    counts = np.bincount(clips, minlength=150)
    assert counts.max() - counts.min() <= 1


def test_a_dataset_is_saturated_where_more_examples_give_no_better_model(two: Path, tmp_path: Path) -> None:
    assert Saturation("a", (10, 20, 40), (0.2, 0.5, 0.5), 0.98).size == 20
    assert Saturation("a", (10, 20, 40), (0.2, 0.5, 0.5), 0.98).saturated
    assert not Saturation("a", (10, 20, 40), (0.2, 0.4, 0.5), 0.98).saturated
    stages: list[str] = []
    with Library.open(two) as library:
        names = ["big", "small"]
        recipe = TypeAdapter(Recipe).validate_python({"model": SMALL, "train": {"epochs": 2, "batch": 8}})
        found = [
            saturation(recipe, library, name, [4, 8], tmp_path / "s", progress=lambda *said: stages.append(said[3]))
            for name in names
        ]
        with pytest.raises(UsageError, match="rising"):
            saturation(recipe, library, names[0], [8, 4], tmp_path / "s")
    assert stages == ["4 examples an epoch", "8 examples an epoch"] * len(names)
    assert all(set(each.shown) <= {0, 4, 8, 16} and sorted(each.shown) == list(each.shown) for each in found)
    table, figure = saturation_report(found, tmp_path / "sizes")
    assert [row[0] for row in table.rows] == names
    assert figure.png.is_file()


def test_several_splits_are_asked_as_one(two: Path) -> None:
    with Library.open(two) as library:
        whole = read_split(library, "small+test")
        parts = [read_split(library, name) for name in ("small", "test")]
        assert whole.clips == parts[0].clips + parts[1].clips
        assert whole.texts == parts[0].texts + parts[1].texts
        with pytest.raises(UsageError, match=r"no caption in the split 'small\+nothing'"):
            read_split(library, "small+nothing")
