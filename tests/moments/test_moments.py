"""Inside one video: curves, peaks, steps and parts, on tracks whose labels are known second by second."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import CollectionError, ModelError, UsageError
from reelseek.experts.expert import Text, Track
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.library.imports import fingerprint_of
from reelseek.library.readers.steps import read_crosstask, read_lines, read_segmented, read_truth
from reelseek.models import joint, load_model
from reelseek.models.embedding import Embedding
from reelseek.models.joint import ModelForLibrary, load_for
from reelseek.models.systems.concepts import Concepts, ConceptsConfig
from reelseek.moments import localize, measure_segments, measure_steps, segment, segmented_videos
from reelseek.moments.curves import curves_of, peaks
from reelseek.search import Searcher

LABELS = {"tabby": 281, "espresso": 967, "analog clock": 409, "motor scooter": 670, "lakeside": 975, "daisy": 985}
STEPS = ["a cup of coffee", "a clock", "a scooter"]
FILMS = {
    "cook": ["lakeside"] * 8 + ["espresso"] * 4 + ["daisy"] * 9 + ["analog clock"] * 5 + ["daisy"] * 6
    + ["motor scooter"] * 4 + ["lakeside"] * 7,
    "turned": ["daisy"] * 6 + ["motor scooter"] * 5 + ["lakeside"] * 7 + ["espresso"] * 5 + ["daisy"] * 6,
    "dark": [],
}  # fmt: skip


def _at(film: str, label: str) -> tuple[int, int]:
    seconds = [at for at, name in enumerate(FILMS[film]) if name == label]
    return seconds[0], seconds[-1] + 1


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("within")
    (folder / "object").mkdir()
    for film, seconds in FILMS.items():
        values = np.full((len(seconds), 1000), 1e-4, np.float32)
        for at, label in enumerate(seconds):
            values[at, LABELS[label]] = 0.9
        np.save(folder / "object" / f"{film}.npy", values)
    (folder / "rows.csv").write_text("video,caption\n" + "".join(f"{film},a film\n" for film in (*FILMS, "gap")))
    with Library.open(folder / "lib", create=True) as library:
        add(library, [folder / "rows.csv"], media=False)
        import_features(library, "object", [folder / "object"], modality="object", fps=1.0)
    return folder / "lib"


@pytest.fixture
def opened(lib: Path):
    with Library.open(lib) as library:
        yield library


def test_each_step_is_placed_where_it_happens(opened: Library) -> None:
    found = localize(opened, "cook", STEPS)
    for step, label in zip(found.steps, ("espresso", "analog clock", "motor scooter"), strict=True):
        first, end = _at("cook", label)
        assert first <= step.start < end
        assert step.end == step.start + 1
        assert step.confidence > 0.8
    assert found.seconds == len(FILMS["cook"])
    assert (found.placed.sum(0) == 1).all()
    assert localize(opened, "cook", STEPS[:1]).steps[0].start == found.steps[0].start  # one step is a task too


def test_steps_out_of_order_and_steps_that_never_happen(opened: Library) -> None:
    free = localize(opened, "turned", STEPS, ordered=False, missing=True)
    assert free.steps[1].start is None  # there is no clock
    for place, label in ((0, "espresso"), (2, "motor scooter")):
        first, end = _at("turned", label)
        assert first <= free.steps[place].start < end
    told = localize(opened, "turned", STEPS, missing=True)
    assert sum(step.start is not None for step in told.steps) <= 2  # in this order one of the two has to go


def test_a_video_is_segmented_with_and_without_its_order(opened: Library) -> None:
    parts = segment(opened, "cook", STEPS, background=True)
    assert [part.label for part in parts.parts if part.label] == STEPS
    truth = {"espresso": STEPS[0], "analog clock": STEPS[1], "motor scooter": STEPS[2]}
    right = [truth.get(label) == got for label, got in zip(FILMS["cook"], parts.labels, strict=True)]
    assert np.mean(right) > 0.85
    free = segment(opened, "turned", STEPS, ordered=False, background=True)
    assert [part.label for part in free.parts if part.label] == [STEPS[2], STEPS[0]]
    filled = segment(opened, "cook", STEPS, mean_seconds=0)
    assert [part.label for part in filled.parts] == STEPS
    assert (filled.parts[0].start, filled.parts[-1].end) == (0, len(FILMS["cook"]))
    assert len(segment(opened, "cook", STEPS, labels=["a dog", *STEPS], public_decoder=True).labels) == filled.seconds


class _Scaled(Concepts):
    """A system whose similarity is a learnt multiple of the dot product."""

    def __init__(self, config: ConceptsConfig, scale: float) -> None:
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def similarity(self, texts: Embedding, videos: Embedding) -> torch.Tensor:
        return self.scale * super().similarity(texts, videos)


def test_seconds_are_scored_by_the_models_own_similarity(opened: Library) -> None:
    config = ConceptsConfig()
    plain, negated = (curves_of(opened, _Scaled(config, scale), "cook", STEPS) for scale in (1.0, -2.0))
    np.testing.assert_allclose(negated.similarity, -2 * plain.similarity, rtol=1e-5)
    np.testing.assert_allclose(negated.unrelated, -2 * plain.unrelated, rtol=1e-5)
    nearest, farthest = (localize(opened, "cook", STEPS[:1], model=_Scaled(config, s)).steps[0] for s in (1.0, -1.0))
    first, end = _at("cook", "espresso")
    assert first <= nearest.start < end
    assert not first <= farthest.start < end
    assert farthest.similarity == pytest.approx(-plain.similarity[:, 0].min(), abs=1e-5)
    with pytest.raises(ModelError, match="is NaN or infinite"):
        segment(opened, "cook", STEPS, model=_Scaled(config, float("nan")))


def test_a_second_without_evidence_scores_as_low_as_any(opened: Library) -> None:
    values, starts = np.full((8, 1000), 1e-4, np.float32), np.array([0.0, 1, 2, 3, 9, 10, 11, 12])
    values[:4, LABELS["espresso"]] = values[4:, LABELS["daisy"]] = 0.9
    with opened.writing(), opened.saving():
        fingerprint = fingerprint_of("object", "object", 1.0, 1000)
        opened.put_track("id:gap", "object", fingerprint, "object", Track(values, np.stack([starts, starts + 1], 1)))
    curves = curves_of(opened, load_model("concepts"), "gap", STEPS[:1])
    dark = ~curves.embedding.present.any(1).numpy()
    assert dark.any()
    assert (curves.similarity[dark] == curves.similarity[~dark].min()).all()


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (lambda lib: localize(lib, "cook", []), "there are no steps"),
        (lambda lib: localize(lib, "cook", ["x", " "]), "number 2 of the steps is empty"),
        (lambda lib: localize(lib, "turned", ["a"] * 40), "40 steps of at least a second each do not fit into 29 s"),
        (lambda lib: localize(lib, "dark", ["a"]), "has no length and no features"),
        (lambda lib: localize(lib, "nobody", ["a"]), "nobody"),
        (lambda lib: segment(lib, "cook", ["a"], labels=["b"]), "names 'a', which is none of the 1 labels"),
        (lambda lib: segment(lib, "cook", ["a", "a"], ordered=False), "names one twice"),
        (lambda lib: segment(lib, "cook", ["a"], background=True, public_decoder=True), "neither background nor"),
        (lambda lib: segment(lib, "cook", []), "there are no parts of the transcript"),
    ],
)
def test_what_cannot_be_placed(opened: Library, work, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        work(opened)


def test_a_step_list_in_another_language_is_placed_and_said_to_be_weak(lib: Path, tmp_path: Path) -> None:
    (tmp_path / "steps.txt").write_text("сварить кофе\nчасы\n", "utf-8")
    done = CliRunner().invoke(app, ["localize", str(lib), "cook", "--steps", str(tmp_path / "steps.txt"), "--json"])
    told = json.loads(done.stdout)
    assert [step["step"] for step in told["steps"]] == [1, 2]
    assert np.mean([step["confidence"] for step in told["steps"]]) < 0.9


def test_peaks_have_spans_and_come_highest_first() -> None:
    curve = np.array([0.0, 0.1, 0.9, 1.0, 0.8, 0.1, 0.0, 0.5, 0.6, 0.5, 0.0])
    assert peaks(curve, 5) == [(3, 2, 5), (8, 7, 10)]
    assert peaks(np.array([1.0, 0.4, 0.0]), 2) == [(0, 0, 1)]
    assert len(peaks(np.ones(4), 3)) == 1


def test_a_query_inside_a_video_gives_its_peaks_and_its_curve(opened: Library) -> None:
    with opened.writing(), opened.saving():
        opened.put_texts("id:cook", "captions", [Text("the zebracorn sings", 30.0, 32.0, "told")])
    inside = Searcher(opened).within("a cup of coffee", "cook")
    first, end = _at("cook", "espresso")
    assert len(inside.curve) == len(inside.spans) == len(FILMS["cook"])
    assert first <= inside.hits[0].start < inside.hits[0].end <= end + 1
    assert [hit.rank for hit in inside.hits] == list(range(1, len(inside.hits) + 1))
    found = Searcher(opened).within('"zebracorn sings"', "cook").hits
    assert [(hit.start, hit.end) for hit in found] == [(30.0, 32.0)]
    assert found[0].why[0].modality == "machine-written"
    assert Searcher(opened).search("zebracorn")[0].video == "cook"
    with pytest.raises(UsageError):
        Searcher(opened).within("a", "cook", k=0)


def _crosstask(folder: Path) -> Path:
    """CrossTask's folder with one task, `cook` annotated, `turned` too but for a step, and a video nobody has."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "tasks_primary.txt").write_text(f"77\nMake a Latte\nhttp://x\n3\n{','.join(STEPS)}\n\n")
    (folder / "videos_val.csv").write_text("77,cook,u\n77,turned,u\n77,nobody,u\n77,dark,u\n")
    for film in ("cook", "turned"):
        rows = [f"{step},{a},{b}" for step, label in enumerate(("espresso", "analog clock", "motor scooter"), 1)
                if label in FILMS[film] for a, b in [_at(film, label)]]  # fmt: skip
        (folder / "annotations" / f"77_{film}.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_crosstasks_files_and_table(opened: Library, lib: Path, tmp_path: Path) -> None:
    data = read_crosstask(_crosstask(tmp_path / "crosstask"))
    assert data.tasks["77"].steps == tuple(STEPS)
    measured = measure_steps(opened, data)
    assert measured.videos == {"77": 2}
    assert measured.recall.of_videos["77"]["cook"] == 1.0
    assert {video for video, _ in measured.skipped} == {"nobody", "dark"}
    done = CliRunner().invoke(app, ["localize", str(lib), "--crosstask", str(tmp_path / "crosstask")])
    assert done.exit_code == 1
    assert "2 of the 4 videos of the list were not measured" in done.stderr
    assert "left out: nobody: the library has no such video" in done.stderr
    assert "Make a Latte" in done.stdout
    assert "33.8" in done.stdout  # beside it what MCN published
    mcn = tmp_path / "mcn"
    mcn.mkdir()
    (mcn / "steps.json").write_text(json.dumps({"77": STEPS}))
    (mcn / "videos.csv").write_text("video_id,task\ncook,77\n")
    np.save(mcn / "77_cook.npy", data.truth("77", "cook", len(FILMS["cook"])).astype(np.int64))
    assert measure_steps(opened, read_crosstask(mcn)).recall.pooled["77"] == 1.0


def test_a_data_set_is_segmented_and_scored(
    opened: Library, lib: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = tmp_path / "myt" / "groundTruth"
    truth.mkdir(parents=True)
    for film in ("cook", "nobody"):  # two frames a second
        lines = [line for label in FILMS["cook"] for line in [label.replace(" ", "_")] * 2]
        (truth / f"{film}.txt").write_text("\n".join(lines) + "\n")
    videos = read_segmented(tmp_path / "myt")
    assert [video.name for video in videos] == ["cook", "nobody"]
    assert videos[0].at_seconds(len(FILMS["cook"])) == list(FILMS["cook"])
    measured = measure_segments(opened, videos, radius=0.0)
    assert list(measured.videos) == ["cook"]
    assert [name for name, _ in measured.skipped] == ["nobody"]
    assert measured.mean("mean_iou") > 0.9
    assert measured.pooled.mean_iou == pytest.approx(measured.mean("mean_iou"))
    wrong = tuple(replace(v, truth=tuple(reversed(v.truth)), transcript=v.transcript) for v in videos)
    assert measure_segments(opened, wrong, radius=0.0).mean("mean_iou") < measured.mean("mean_iou")
    mining = ["segment", str(lib), "--mining-youtube", str(tmp_path / "myt")]
    done = CliRunner().invoke(app, mining)
    assert done.exit_code == 1, done.output
    assert "32.7" in done.stdout
    assert "1 of the 2 videos of the list were not measured" in done.stderr
    assert "left out: nobody" in done.stderr
    (truth / "nobody.txt").unlink()
    done = CliRunner().invoke(app, mining)
    assert done.exit_code == 0, done.output
    assert "not measured" not in done.stderr
    loaded: list[object] = []

    def spy(library: Library, model: object, device: object = None) -> ModelForLibrary:
        if isinstance(model, str):
            loaded.append((model, device))
        return load_for(library, model, device)  # type: ignore[arg-type]

    for module in (joint, segmented_videos):
        monkeypatch.setattr(module, "load_for", spy)
    crosstask = ["segment", str(lib), "--crosstask", str(_crosstask(tmp_path / "ct")), "--background", "--json"]
    done = CliRunner().invoke(app, [*crosstask, "--device", "cpu"])
    assert loaded == [("concepts", torch.device("cpu"))]
    assert done.exit_code == 1
    assert "2 of the 4 videos of the list were not measured" in done.stderr
    assert "left out: nobody: the library has no such video" in done.stderr
    report = json.loads(done.stdout)
    assert report["videos"] == 2
    assert report["without_annotation"] == 2
    assert 0.4 < report["mean_of_videos"]["mean_iod"] < 1  # one of the two shows its steps in another order


@pytest.mark.parametrize(
    ("truth", "order"), [("groundTruth/v.txt", "transcript/v.txt"), ("gt/v.gt", "grammar/v.grammar")]
)
def test_mining_youtubes_own_files_are_read(truth: str, order: str, tmp_path: Path) -> None:
    for name, content in {truth: "add_oil\nbackground\nfry\nfry\n", order: "fry add_oil background\n"}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(content)
    (video,) = read_segmented(tmp_path)
    assert video.truth == ("add oil", None, "fry", "fry")
    assert video.transcript == ("fry", "add oil")
    (tmp_path / order).write_text("add_oil\nfry\n")
    assert read_segmented(tmp_path)[0].transcript == ("add oil", "fry")
    (tmp_path / order).write_text("add oil\n")  # words that are no labels of its frames
    assert read_segmented(tmp_path)[0].transcript == (("add", "oil") if order.endswith("grammar") else ("add oil",))
    (tmp_path / order).write_text("add_oil fry\nfry add_oil\n")
    with pytest.raises(CollectionError, match="2 transcripts, one a line"):
        read_segmented(tmp_path)
    (tmp_path / order).unlink()
    assert read_segmented(tmp_path)[0].transcript == ("add oil", "fry")


def test_a_name_that_two_videos_share_is_measured_on_neither(tmp_path: Path) -> None:
    folder = tmp_path / "object"
    folder.mkdir()
    names = ("one.mp4", "one.mkv", "two.mp4", "two")
    for name in names:
        np.save(folder / f"{name}.npy", np.full((9, 1000), 1e-3, np.float32))
    (tmp_path / "rows.csv").write_text("video,caption\n" + "".join(f"{name},a film\n" for name in names))
    crosstask = _crosstask(tmp_path / "crosstask")
    (crosstask / "videos_val.csv").write_text("77,one,u\n77,two,u\n")
    for name in ("one", "two"):
        (crosstask / "annotations" / f"77_{name}.csv").write_text("1,0,9\n2,0,9\n3,0,9\n")
    with Library.open(tmp_path / "lib", create=True) as library:
        add(library, [tmp_path / "rows.csv"], media=False)
        import_features(library, "object", [folder], modality="object", fps=1.0)
        measured = measure_steps(library, read_crosstask(crosstask))
    assert measured.recall.of_videos == {"77": {"two": 1.0}}  # an id comes before names without their ending
    reason = "several videos of the library have this name: one.mkv, one.mp4; name one by its id"
    assert measured.skipped == (("one", reason),)


def test_files_of_steps_that_are_of_another_form(tmp_path: Path) -> None:
    (tmp_path / "steps.txt").write_text("\ufeffpour  milk\n\n stir \n", "utf-8")
    assert read_lines(tmp_path / "steps.txt") == ["pour milk", "stir"]
    (tmp_path / "truth.csv").write_text("step,start,end\n1,0.5,1.2\n2,3,9\n")
    truth = read_truth(tmp_path / "truth.csv", 5, 2)
    assert truth[:, 0].tolist() == [True, True, False, False, False]
    assert truth[:, 1].tolist() == [False, False, False, True, True]
    (tmp_path / "wrong.csv").write_text("1,0,1\n3,1,2\n")
    with pytest.raises(CollectionError, match=r"line 2: step 3 of 2"):
        read_truth(tmp_path / "wrong.csv", 5, 2)
    np.save(tmp_path / "wrong.npy", np.zeros((5, 3)))
    with pytest.raises(CollectionError, match=r"wanted \[second, 2\]"):
        read_truth(tmp_path / "wrong.npy", 5, 2)
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    with pytest.raises(CollectionError, match="no array of numbers"):
        read_truth(tmp_path / "words.npy", 5, 2)
    with pytest.raises(CollectionError, match="what are the steps"):
        read_crosstask(tmp_path)


def test_from_the_command_line_with_pictures(lib: Path, tmp_path: Path) -> None:
    (tmp_path / "steps.txt").write_text("\n".join(STEPS))
    rows = [f"{n},{a},{b}" for n, label in enumerate(("espresso", "analog clock", "motor scooter"), 1)
            for a, b in [_at("cook", label)]]  # fmt: skip
    (tmp_path / "truth.csv").write_text("\n".join(rows))
    how = ["localize", str(lib), "cook", "--steps", str(tmp_path / "steps.txt"), "--truth", str(tmp_path / "truth.csv")]
    done = CliRunner().invoke(app, [*how, "--json", "--figure", str(tmp_path / "line.png")], catch_exceptions=False)
    assert json.loads(done.stdout)["recall"] == 1.0
    assert (tmp_path / "line.png").stat().st_size > 5000
    assert "<svg" in (tmp_path / "line.svg").read_text()
    CliRunner().invoke(app, [*how, "--figure", str(tmp_path / "line.html")], catch_exceptions=False)
    page = (tmp_path / "line.html").read_text()
    assert '"a cup of coffee"' in page
    assert "<video" not in page  # there is no file to play
    (tmp_path / "labels.txt").write_text("".join(
        {"espresso": STEPS[0], "analog clock": STEPS[1], "motor scooter": STEPS[2]}.get(label, "") + "\n"
        for label in FILMS["cook"]
    ))  # fmt: skip
    parts = ["segment", str(lib), "cook", "--transcript", str(tmp_path / "steps.txt"), "--background", "--json"]
    done = CliRunner().invoke(app, [*parts, "--truth", str(tmp_path / "labels.txt")], catch_exceptions=False)
    assert json.loads(done.stdout)["scores"]["frame_accuracy"] > 0.85
    done = CliRunner().invoke(
        app,
        ["search", str(lib), "coffee", "--video", "cook", "--curve", str(tmp_path / "c.svg")],
        catch_exceptions=False,
    )
    assert (tmp_path / "c.svg").is_file()
    assert "cook" in done.stdout
    (tmp_path / "ct" / "annotations").mkdir(parents=True)
    (tmp_path / "ct" / "tasks_primary.txt").write_text(f"77\nMake a Latte\nhttp://x\n3\n{','.join(STEPS)}\n\n")
    (tmp_path / "ct" / "videos_val.csv").write_text("77,nobody,u\n77,cook,u\n")
    with pytest.raises(
        UsageError, match=r"not one of the 2 videos .*: nobody: the library has no such video; cook: no"
    ):
        CliRunner().invoke(app, ["segment", str(lib), "--crosstask", str(tmp_path / "ct")], catch_exceptions=False)
    with pytest.raises(UsageError, match="wanted LIBRARY VIDEO --steps FILE"):
        CliRunner().invoke(app, ["localize", str(lib)], catch_exceptions=False)
