"""Features and captions in memory: loaded by PyTorch, learnt from and measured as a library's, refused in words."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch.utils.data import DataLoader

from reelseek.errors import FeatureError, ModelError, RecipeError, UsageError
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.library.caption_features import CaptionFeatures
from reelseek.library.tokens import Clip, Steps, TokenReader
from reelseek.models import load_model
from reelseek.models.batch import Batch
from reelseek.training import Recipe, evaluate, train
from reelseek.training.dataset import FeatureDataset
from reelseek.training.reports import Row, combination_map, comparison_table, embedding_map, training_curves

WORDS = ["cat", "dog", "car", "tree", "boat", "house", "river", "guitar", "bread", "snow"]
CLIPS, DIM = 60, 8
SPLITS = ["train"] * 36 + ["val"] * 8 + ["test"] * 16
MMT = {"system": "mmt", "width": 16, "depth": 1, "heads": 2, "inner": 16}


@pytest.fixture(scope="module")
def world() -> dict[str, Any]:
    """Padded steps with lengths, pooled features with holes, two captions per clip, and both as vectors."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(len(WORDS), DIM)).astype(np.float32)
    first, second = rng.integers(len(WORDS), size=(2, CLIPS))
    see = directions[first][:, None] + 0.3 * rng.normal(size=(CLIPS, 5, DIM))
    lengths = rng.integers(1, 6, CLIPS)
    see[np.arange(5)[None] >= lengths[:, None]] = np.nan  # padding may hold anything
    hear = (directions[second] + 0.3 * rng.normal(size=(CLIPS, DIM))).astype(np.float32)
    captions = [
        [f"a {WORDS[a]} and a {WORDS[b]}", f"the {WORDS[b]} by a {WORDS[a]}"]
        for a, b in zip(first, second, strict=True)
    ]
    vectors = rng.normal(size=(len(WORDS), 6)).astype(np.float32)
    return {
        "features": {"see": see.astype(np.float32), "hear": torch.from_numpy(hear)},
        "lengths": {"see": lengths},
        "masks": {"hear": np.arange(CLIPS) % 5 > 0},
        "captions": captions,
        "pooled": vectors[first] + vectors[second],
        "words": [np.stack([vectors[a], vectors[b]]) for a, b in zip(first, second, strict=True)],
    }


def _dataset(world: dict[str, Any], captions: str = "captions", **options: Any) -> FeatureDataset:
    parts = {name: world[name] for name in ("lengths", "masks")}
    return FeatureDataset(world["features"], world[captions], **{**parts, "splits": SPLITS, **options})


def _recipe(model: dict[str, Any] = MMT, **config: object) -> Recipe:
    settings = {"epochs": 2, "batch": 16, "rate": 3e-3, **config}
    return TypeAdapter(Recipe).validate_python({"model": model, "train": settings})


def test_a_loader_takes_it_and_a_loop_of_ones_own_learns_from_it(world: dict[str, Any], tmp_path: Path) -> None:
    dataset = _dataset(world)
    assert len(dataset) == 2 * CLIPS  # an item per caption
    loader = DataLoader(dataset, batch_size=8, collate_fn=dataset.collate)
    batches: list[Batch] = list(loader)
    assert sum(map(len, batches)) == len(dataset)
    batch = batches[0]
    assert batch.texts[:2] == world["captions"][0]
    assert batch.video.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert batch.tokens["see"].present.sum(1).tolist() == np.repeat(world["lengths"]["see"][:4], 2).tolist()
    assert batch.tokens["hear"].present[:, 0].tolist() == [False, False, *[True] * 6]
    longest = int(world["lengths"]["see"][:4].max())
    assert batch.tokens["see"].values.shape == (8, longest, DIM)
    assert batch.tokens["see"].spans[0, 0].tolist() == [0, 1]
    for row in range(8):
        steps = int(world["lengths"]["see"][row // 2])
        expected = world["features"]["see"][row // 2, :steps]
        assert np.array_equal(batch.tokens["see"].values[row, :steps].numpy(), expected)
    model = train(_recipe(), dataset, tmp_path / "m")
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(6):
        loss = torch.stack(list(model.loss(batch.to("cpu")).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_batches_are_indexed_and_collated_again(world: dict[str, Any]) -> None:
    dataset = _dataset(world)
    batch = dataset.collate([dataset[index] for index in (0, 3, 9, 4)])
    for rows in (slice(1, 3), [1, 2], torch.tensor([1, 2]), torch.tensor([False, True, True, False])):
        part = batch[rows]
        assert part.texts == list(batch.texts[1:3])
        assert part.video.tolist() == [1, 4]
        assert torch.equal(part.tokens["see"].values, batch.tokens["see"].values[1:3])
    again = Batch.concat([batch[:1], batch[1:]])
    assert torch.equal(again.tokens["see"].present, batch.tokens["see"].present)
    assert again.texts == batch.texts
    assert again.clip is not None
    assert torch.equal(again.clip, batch.video)
    one, two = batch.tokens["see"][:1], Steps(torch.ones(2, 9, DIM), torch.ones(2, 9) > 0, torch.zeros(2, 9, 2))
    both = Steps.concat([one, two])
    assert both.values.shape == (3, 9, DIM)
    assert both.present.sum(1).tolist() == [int(one.present.sum()), 9, 9]
    shipped = copy.deepcopy(
        CaptionFeatures("caption 1", np.ones((2, 3), np.float32))
    )  # as a loader's processes ship it
    assert shipped == "caption 1"
    assert shipped.vectors.shape == (2, 3)


def test_memory_and_a_library_of_the_same_give_the_same_model(world: dict[str, Any], tmp_path: Path) -> None:
    """One road: the same features and captions by files and by arrays end in the same numbers."""
    names = [f"v{clip:02}" for clip in range(CLIPS)]
    rows = ["video,caption,split"]
    for name, texts, split in zip(names, world["captions"], SPLITS, strict=True):
        rows += [f"{name},{text},{split}" for text in texts]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    see = {n: world["features"]["see"][clip, : world["lengths"]["see"][clip]] for clip, n in enumerate(names)}
    hear = {n: world["features"]["hear"][clip : clip + 1].numpy() for clip, n in enumerate(names) if clip % 5}
    for name, tracks in (("see", see), ("hear", hear)):
        np.savez(tmp_path / f"{name}.npz", **tracks)
    with Library.open(tmp_path / "lib", create=True) as library:
        add(library, [tmp_path / "rows.csv"], media=False)
        for name, modality in (("see", "appearance"), ("hear", "audio")):
            import_features(library, name, [tmp_path / f"{name}.npz"], modality=modality, fps=1.0)
        first = train(_recipe({**MMT, "experts": {"see": DIM, "hear": DIM}}), library, tmp_path / "a")
        scores = evaluate(first, library, combinations="all")
    dataset = _dataset(world, names=names)
    second = train(_recipe({**MMT, "experts": {"see": DIM, "hear": DIM}}), dataset, tmp_path / "b")
    measured = evaluate(second, dataset, combinations="all")
    assert measured.split == "test"
    assert (measured.gallery, measured.queries) == (16, 32)
    np.testing.assert_allclose(measured.scores, scores.scores, atol=1e-5)
    assert set(measured.combinations) == set(scores.combinations) == {"see", "hear", "see+hear"}
    for name, part in measured.combinations.items():
        assert part.text_to_video == scores.combinations[name].text_to_video
    assert measured.combinations["see"].text_to_video != measured.text_to_video
    plain = json.loads(json.dumps(measured.as_json()))
    assert plain["combinations"]["see"]["queries"] == 32
    assert {path.name for path in (tmp_path / "b").iterdir()} == {path.name for path in (tmp_path / "a").iterdir()}


def test_a_run_on_a_data_set_resumes_and_another_data_set_is_refused(world: dict[str, Any], tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(line: object, *_: object) -> None:
        if getattr(line, "epoch", 0) == 1:
            raise Stop

    whole = train(_recipe(), _dataset(world), tmp_path / "whole")
    with pytest.raises(Stop):
        train(_recipe(), _dataset(world), tmp_path / "m", report=stop)
    assert train(_recipe(), _dataset(world), tmp_path / "m").fingerprint == whole.fingerprint
    other = {**world, "features": {**world["features"], "hear": world["features"]["hear"] + 1e-3}}
    with pytest.raises(RecipeError, match="another recipe, split or features"):
        train(_recipe(), _dataset(other), tmp_path / "m")


def test_plots_take_it(world: dict[str, Any], tmp_path: Path) -> None:
    dataset = _dataset(world)
    model = train(_recipe(epochs=1), dataset, tmp_path / "m")
    row = Row("m", (model,), 1, 1)
    table, figure = combination_map(
        [row], dataset, [["see"], ["see", "hear"]], tmp_path / "map", split=None, metric="recall_at_5"
    )
    assert [cells[0] for cells in table.rows] == ["see", "see+hear"]
    assert figure.png.is_file()
    assert comparison_table([row], dataset, tmp_path / "runs", split=None, protocol="strict").rows[0][0] == "m"
    assert embedding_map(model, dataset, tmp_path / "tsne", split=None).png.is_file()
    assert training_curves([tmp_path / "m"], tmp_path / "curves").png.is_file()


@pytest.mark.parametrize("captions", ["pooled", "words"])
@pytest.mark.parametrize("system", [MMT, {"system": "avlnet", "width": 16}])  # reads pooled captions; reads words
def test_caption_features_are_learnt_from(
    world: dict[str, Any], tmp_path: Path, captions: str, system: dict[str, Any]
) -> None:
    dataset = _dataset(world, captions)
    lines = []
    train(_recipe(system, epochs=4), dataset, tmp_path / "m", report=lambda line, *_: lines.append(line))
    assert lines[-1].loss < lines[1].loss
    model = load_model(tmp_path / "m")
    measured = evaluate(model, dataset)
    assert measured.queries == 16
    with pytest.raises(ModelError, match=r"reads caption features, and was given the text 'a \w+ and a \w+'"):
        evaluate(model, _dataset(world))
    wider = {**world, "pooled": np.pad(world["pooled"], [(0, 0), (0, 1)])}
    with pytest.raises(
        ModelError, match="built for caption features of width 6, and 'caption 1 of clip 44' has width 7"
    ):
        evaluate(model, _dataset(wider, "pooled"))


def test_words_and_features_are_never_mixed_up(world: dict[str, Any], tmp_path: Path) -> None:
    dataset = _dataset(world, "pooled")
    with pytest.raises(RecipeError, match=r"come as features, which model\.text\.encoder = 'sentence' cannot read"):
        train(_recipe({**MMT, "text": {"encoder": "sentence"}}), dataset, tmp_path / "m")
    with pytest.raises(ModelError, match=r"width 5, and 'caption 1 of clip \d+' has width 6"):
        train(_recipe({**MMT, "text": {"encoder": "features", "dim": 5}}), dataset, tmp_path / "m")
    with pytest.raises(ModelError, match=r"wants model\.text\.dim"):
        train(_recipe({**MMT, "text": {"encoder": "features"}}), _dataset(world), tmp_path / "m")
    model = train(_recipe(epochs=1), _dataset(world), tmp_path / "n")
    with pytest.raises(ModelError, match="reads captions as text, and 'caption 1 of clip 44' comes as features"):
        evaluate(model, dataset)


def test_spans_are_read_and_a_masked_step_keeps_its_second() -> None:
    values = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    mask = np.array([[True, False, True], [False, False, False]])
    dataset = FeatureDataset({"a": values}, ["x", "y"], masks={"a": mask})
    reader = TokenReader(dataset)
    steps, spans = reader.steps(Clip("clip 0"), "a")
    assert steps.tolist() == [[0, 1], [4, 5]]
    assert spans.tolist() == [[0, 1], [2, 3]]
    assert len(reader.steps(Clip("clip 1"), "a")[0]) == 0
    times = np.array([[[0, 2], [2, 4], [4, 6]]] * 2, np.float64)
    dataset = FeatureDataset({"a": values}, ["x", "y"], masks={"a": mask}, spans={"a": times})
    assert TokenReader(dataset).steps(Clip("clip 0"), "a")[1].tolist() == [[0, 2], [4, 6]]
    assert TokenReader(dataset).steps(Clip("clip 0", 0.0, 3.0), "a")[0].tolist() == [[0, 1]]


STEPS = np.ones((3, 4, 2), np.float32)
TEXTS = ["one", "two", "three"]
NAN = np.where(np.arange(24).reshape(3, 4, 2) == 9, np.nan, 1.0)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({"features": {}}, "at least one modality"),
    "no names": ({"features": STEPS}, "at least one modality, by its name"),
    "lengths of no modality": ({"lengths": [4, 4, 4]}, r"lengths are list; wanted a dict by modality, such as \{'a': "),
    "ragged lists": ({"features": {"a": [[[1.0, 2.0], [3.0]], [[1.0, 2.0]], None]}}, "a of clip 0 is ragged"),
    "ragged arrays": (
        {"features": {"a": [np.ones((2, 2)), np.ones((1, 3)), None]}},
        "a is ragged: clip 0 has width 2, and clip 1 has width 3",
    ),
    "objects": ({"features": {"a": np.array([np.ones(2), np.ones(3), None], object)}}, "a is ragged"),
    "words": ({"features": {"a": np.array([["x", "y"]] * 3)}}, "a holds <U1; wanted real numbers"),
    "one dimension": ({"features": {"a": np.ones(3)}}, r"a has the shape \(3,\); wanted \[clip, step, dim\]"),
    "NaN": ({"features": {"a": NAN}}, "a of clip 1 holds NaN or infinity"),
    "too large": ({"features": {"a": np.full((3, 2), 1e300)}}, "a of clip 0 holds NaN or infinity"),
    "mask": ({"masks": {"a": np.ones((3, 5), bool)}}, r"mask of a has the shape \(3, 5\); wanted \(3, 4\)"),
    "mask of numbers": ({"masks": {"a": np.full((3, 4), 2)}}, "other numbers than 0 and 1"),
    "mask of nothing": ({"masks": {"b": np.ones((3, 4), bool)}}, "masks name 'b'; the modalities are a"),
    "lengths beyond": ({"lengths": {"a": [4, 5, 4]}}, "clip 1 of a has the length 5; wanted 0 to 4"),
    "lengths below": ({"lengths": {"a": [4, -1, 4]}}, "clip 1 of a has the length -1"),
    "lengths of others": ({"lengths": {"a": [4, 4]}}, r"lengths of a are int64 of shape \(2,\); wanted 3 integers"),
    "both": ({"lengths": {"a": [4, 4, 4]}, "masks": {"a": np.ones((3, 4))}}, "a has lengths and a mask"),
    "lengths of a list": ({"features": {"a": list(STEPS)}, "lengths": {"a": [1, 1, 1]}}, "a is a list of arrays"),
    "clips": ({"features": {"a": STEPS, "b": STEPS[:2]}}, "a is of 3 clips, and b of 2"),
    "spans": ({"spans": {"a": np.zeros((3, 4))}}, r"the spans of a of clip 0 have the shape \(4,\); wanted \(4, 2\)"),
    "spans of others": ({"spans": {"a": np.zeros((2, 4, 2))}}, "spans of a are of 2 clips, and its features of 3"),
    "falling spans": ({"spans": {"a": [[[1, 0]] * 4] * 3}}, "not finite seconds that rise"),
    "absent": ({"features": {"a": [None, None, None]}}, "a has no features of any clip"),
    "captions": ({"captions": ["one", "two"]}, "there are 2 captions for 3 clips"),
    "one text": ({"captions": "one"}, "captions are one text"),
    "empty caption": ({"captions": ["one", " ", "three"]}, "caption 1 of clip 1 is empty"),
    "caption widths": ({"captions": [np.ones(3), np.ones(3), np.ones(4)]}, "has width 3, and caption 1 of clip 2 has"),
    "caption NaN": ({"captions": np.full((3, 2), np.nan)}, "caption 1 of clip 0 holds NaN"),
    "ragged captions": (
        {"captions": np.array([np.ones(2), np.ones(3), np.ones(2)], object)},
        "caption 1 of clip 0 has width 2, and caption 1 of clip 1 has width 3",
    ),
    "mixed captions": ({"captions": ["one", "two", np.ones(3)]}, "1 captions are features and 2 are texts"),
    "owners": ({"clip_of_caption": [0, 1, 3]}, "wanted one for each, from 0 to 2"),
    "names": ({"names": ["a", "b", "a"]}, "two clips have the name 'a'"),
    "splits": ({"splits": ["a", "b"]}, "splits want one text for each of the 3 clips"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_one_clear_sentence(case: str) -> None:
    options, message = WRONG[case]
    with pytest.raises(FeatureError, match=message) as caught:
        FeatureDataset(**{"features": {"a": STEPS}, "captions": TEXTS, **options})
    assert "\n" not in str(caught.value)


def test_without_captions_there_is_nothing_to_learn_or_ask(tmp_path: Path) -> None:
    dataset = FeatureDataset({"a": STEPS})
    for act in (lambda: dataset[0], lambda: train(_recipe(), dataset, tmp_path / "m")):
        with pytest.raises(UsageError, match="the data set has no captions; make it with"):
            act()
    few = FeatureDataset({"a": STEPS}, [["one", "another"], None, []])
    assert few.clip_of_text == [0, 0]
    flat = FeatureDataset({"a": STEPS}, np.eye(4), clip_of_caption=[2, 2, 0, 1])
    assert [str(text) for text in flat.texts][:2] == ["caption 1 of clip 2", "caption 2 of clip 2"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=6), st.booleans(), st.sampled_from(["list", "lengths", "mask"]))
def test_every_form_holds_the_same_steps(lengths: list[int], as_tensor: bool, form: str) -> None:
    rng = np.random.default_rng(sum(lengths))
    padded = rng.normal(size=(len(lengths), 4, 3)).astype(np.float32)
    if not any(lengths):
        lengths[0] = 1
    texts = [f"text {number}" for number in range(len(lengths))]
    rows: Any = [row[:length] for row, length in zip(padded, lengths, strict=True)]
    features: Any = rows if form == "list" else torch.from_numpy(padded) if as_tensor else padded
    options: dict[str, Any] = {}
    if form == "lengths":
        options["lengths"] = {"a": torch.tensor(lengths) if as_tensor else lengths}
    elif form == "mask":
        options["masks"] = {"a": np.arange(4)[None] < np.array(lengths)[:, None]}
    reader = TokenReader(FeatureDataset({"a": features}, texts, **options))
    for number, row in enumerate(rows):
        steps, spans = reader.steps(Clip(f"clip {number}"), "a")
        assert np.array_equal(steps, row)
        assert spans[:, 0].tolist() == list(range(len(row)))
