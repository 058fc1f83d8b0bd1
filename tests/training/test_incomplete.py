"""Training videos that hold some modalities only, models that go on from others, and windows of narrations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from tests.training.test_training import world  # noqa: F401 - the fixture

from reelseek.errors import RecipeError, UsageError
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.library.tokens import Clip, TokenReader
from reelseek.models import load_model
from reelseek.training import Recipe, evaluate, train
from reelseek.training.data import hidden_experts, read_split
from reelseek.training.measure import clips_with
from reelseek.training.narrations import Windows
from reelseek.training.recipe import GroupRecipe
from reelseek.training.split import Split

SMALL = {"system": "mmt", "width": 32, "depth": 1, "heads": 2, "inner": 32}


def _recipe(**sections: object) -> Recipe:
    given = {"model": SMALL, "train": {"epochs": 2, "batch": 32, "rate": 3e-3}, **sections}
    return TypeAdapter(Recipe).validate_python(given)


def test_groups_share_videos_evenly_or_by_what_they_have(world: Path) -> None:  # noqa: F811
    with Library.open(world) as library:
        videos = [clip.video for clip in read_split(library, "train").clips]
        even = hidden_experts(library, videos, [GroupRecipe(("see",)), GroupRecipe(("hear",))])
        counts = [sum(hidden == {name} for hidden in even.values()) for name in ("see", "hear")]
        assert sorted(counts) == [40, 40]
        assert even == hidden_experts(library, videos[::-1], [GroupRecipe(("see",)), GroupRecipe(("hear",))])
        # every fifth video has no sound, and is in the second group whatever its id
        ruled = hidden_experts(library, videos, [GroupRecipe(("hear",), when=("hear",)), GroupRecipe(("see",))])
        for video in videos:
            assert ruled[video] == ({"hear"} if int(video[1:]) % 5 == 0 else {"see"})
        assert hidden_experts(library, videos, []) == {}
        with pytest.raises(UsageError, match="smell"):
            hidden_experts(library, videos, [GroupRecipe(("smell",))])


def test_what_is_hidden_is_read_as_absent(world: Path) -> None:  # noqa: F811
    with Library.open(world) as library:
        reader = TokenReader(library)
        reader.hidden = {"v1": frozenset({"see"})}
        tokens = reader.batch([Clip("v1"), Clip("v2")])
        assert tokens["see"].present.any(1).tolist() == [False, True]
        assert tokens["hear"].present.any(1).tolist() == [True, True]


def test_a_model_never_sees_what_its_groups_hide(world: Path, tmp_path: Path) -> None:  # noqa: F811
    """With sound hidden from every video, the sound's own statistics stay at what they began with."""
    with Library.open(world) as library:
        blind = {"groups": [{"experts": ["see"]}]}
        train(_recipe(data=blind), library, tmp_path / "blind")
        train(_recipe(), library, tmp_path / "whole")
        state, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("blind", "whole"))
        shifts = [name for name in state if "shift_" in name]
        (heard,) = [name for name in shifts if "hear" in name]
        (seen,) = [name for name in shifts if "see" in name]
        assert not state[heard].any()
        assert whole[heard].any()
        assert state[seen].any()
        shown = evaluate(load_model(tmp_path / "blind"), library).experts
        assert set(shown) == {"see", "hear"}  # a test shows everything


def test_clips_that_need_experts(world: Path) -> None:  # noqa: F811
    with Library.open(world) as library:
        split = read_split(library, "test")
        reader = TokenReader(library)
        by_expert, by_modality = (clips_with(reader, split, [need]) for need in ("hear", "audio"))
        assert by_expert == by_modality
        assert len(by_expert.clips) == 32
        with pytest.raises(UsageError, match="no expert"):
            clips_with(reader, split, ["taste"])
        recipe = _recipe(data={"validation_needs": ["taste"]})
        with pytest.raises(UsageError, match="taste"):
            train(recipe, library, Path("/nowhere"))


def test_fine_tuning_takes_over_what_fits_and_begins_the_rest(world: Path, tmp_path: Path) -> None:  # noqa: F811
    with Library.open(world) as library:
        before = _recipe(data={"experts": ["see"]})
        train(before, library, tmp_path / "before")
        how = {"epochs": 1, "batch": 32, "rate": 1e-12, "start": str(tmp_path / "before")}
        train(_recipe(train=how), library, tmp_path / "after")
        old, new = (load_file(tmp_path / name / "model.safetensors") for name in ("before", "after"))
        learnt = {name for name, _ in load_model(tmp_path / "after").named_parameters()}  # statistics go on moving
        kept = [name for name in learnt if name in old and new[name].shape == old[name].shape]
        assert len(kept) > 10
        for name in kept:
            torch.testing.assert_close(new[name], old[name], atol=1e-6, rtol=0)
        assert any("hear" in name for name in set(new) - set(old))
        other = {"system": "umi", "width": 16, "heads": 2, "inner": 16, "reorganise_depth": 1, "depth": 1, "slots": 4}
        with pytest.raises(RecipeError, match="can take nothing over"):
            train(_recipe(model=other, train=how), library, tmp_path / "umi")


def _narrated() -> Split:
    clips = tuple(Clip("a", *span) for span in [(0.0, 3.0), (3.0, 4.0), (10.0, 16.0), (17.0, 30.0)])
    return Split("train", (*clips, Clip("b")), ("zero", "one", "two", "three", "whole"), (0, 1, 2, 3, 4))


@pytest.mark.parametrize(
    ("clip", "words", "span"),
    [(0, "zero one two", (0, 16)), (1, "zero one two", (0, 16)), (2, "two three", (10, 30)), (3, "three", (17, 30))],
)
def test_a_window_takes_in_its_nearest_captions_until_it_is_long_enough(clip: int, words: str, span: tuple) -> None:
    windows, starts = Windows(_narrated(), 8.0), set()
    for seed in range(40):
        found, said = windows.draw(clip, np.random.default_rng(seed))
        assert said == words
        assert found.end_seconds - found.start_seconds == pytest.approx(8.0)
        assert span[0] <= found.start_seconds
        assert found.end_seconds <= span[1] + 1e-9
        starts.add(round(found.start_seconds, 3))
    assert len(starts) > 20


def test_windows_of_what_has_no_times() -> None:
    assert Windows(_narrated(), 8.0).draw(4, np.random.default_rng(0)) == (Clip("b"), "whole")
    with pytest.raises(UsageError, match="captions with times"):
        Windows(Split("train", (Clip("b"),), ("x",), (0,)), 8.0)
    with pytest.raises(UsageError, match="captions with times"):
        Windows(_narrated().subset([4], "train"), 8.0)


def test_training_on_windows(tmp_path: Path) -> None:
    """Sound tells the first half of a video from the second, and a window's words have to match what it covers."""
    rng = np.random.default_rng(0)
    (tmp_path / "see").mkdir()
    rows = ["video,caption,start,end,split"]
    for index in range(24):
        for step, word in enumerate(rng.choice(["cat", "dog", "boat", "tree"], 5)):
            rows.append(f"v{index},a {word},{4 * step},{4 * step + 4},{'train' if index < 18 else 'test'}")
        np.save(tmp_path / "see" / f"v{index}.npy", rng.normal(size=(20, 8)).astype(np.float32))
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    with Library.open(tmp_path / "lib", create=True) as library:
        add(library, [tmp_path / "rows.csv"], media=False)
        import_features(library, "see", [tmp_path / "see"], modality="appearance", fps=1.0)
        recipe = _recipe(data={"window_seconds": 8.0})
        train(recipe, library, tmp_path / "m")
        train(recipe, library, tmp_path / "again")
        plain = _recipe()
        train(plain, library, tmp_path / "plain")
    one, two, other = (load_file(tmp_path / name / "state.safetensors") for name in ("m", "again", "plain"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_reproductions_recipe_trains_on_videos_of_its_kind(tmp_path: Path) -> None:
    """Its groups, its demand on validation clips and its first stage, in a small world: group one hides from its videos
    what validation clips must have, which must not empty the validation split."""
    from reelseek.experiments.worlds import world_library
    from reelseek.studio.worlds import WorldConfig
    from reelseek.training import read_recipe

    path = world_library(WorldConfig(train=40, validation=16, test=12, absent=0.3), 1, tmp_path / "w")
    sizes = ["model.width=16", "model.heads=2", "model.inner=16", "model.depth=1", "model.reorganise_depth=1"]
    sizes += ["model.slots=4", "train.epochs=1", "train.batch=16", "pseudo.epochs=2", "pseudo.last=1"]
    recipe = read_recipe(Path(__file__).parents[2] / "recipes" / "umi-msrvtt.toml", sizes)
    named = {"rgb": "appearance"}  # the release's name of it
    plain = {**recipe.data.__dict__, "experts": tuple(named.get(e, e) for e in recipe.data.experts)}
    plain["groups"] = [
        {"experts": [named.get(e, e) for e in group.experts], "when": list(group.when)} for group in recipe.data.groups
    ]
    recipe = _recipe(model=recipe.model, data=plain, train=recipe.train.__dict__, pseudo=recipe.pseudo.__dict__)
    with Library.open(path) as library:
        train(recipe, library, tmp_path / "m")
        needs = clips_with(TokenReader(library), read_split(library, "val"), recipe.data.validation_needs)
        assert 0 < len(needs.clips) < 16
        assert evaluate(load_model(tmp_path / "m"), library, protocol="msrvtt-umi").gallery < 12


def test_runs_of_both_directions_score_as_they_were_measured(world: Path, tmp_path: Path) -> None:  # noqa: F811
    """Also where the right clip has no evidence: with sound alone a fifth of the clips has none."""
    from reelseek.evaluation import metrics
    from reelseek.evaluation.compare import read_run_ranks
    from reelseek.training.measure import write_measured

    with Library.open(world) as library:
        train(_recipe(), library, tmp_path / "m")
        measured = evaluate(load_model(tmp_path / "m"), library, experts=["hear"])
    assert measured.without_evidence
    write_measured(tmp_path / "x.run", measured, "me")
    for name, found in (("x.run", measured.text_to_video), ("x.v2t.run", measured.video_to_text)):
        ranks = np.array(list(read_run_ranks(tmp_path / name).values()))
        again = metrics(ranks)
        assert (again.mean_rank, again.recall_at_5, again.queries) == (
            found.mean_rank,
            found.recall_at_5,
            found.queries,
        )
