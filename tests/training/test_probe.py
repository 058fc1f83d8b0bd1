"""Probes tell what features hold, are at chance on shuffled labels, and read the layouts of datasets."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import CollectionError, ModelError, UsageError
from reelseek.library import Library, add
from reelseek.library.arrays import import_features
from reelseek.library.readers.labels import Labelled, read_image_folders, read_labels
from reelseek.models import SYSTEMS
from reelseek.models.backbones import S3DG, SpectrogramResNet50, TSMResNet50, load_network, save_network
from reelseek.training.probe import probe
from reelseek.training.probe_images import probe_images

CLASSES = ["jump", "run", "sing", "swim"]


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 videos of 20 seconds; their class is a direction that half of the seconds show."""
    folder, rng = tmp_path_factory.mktemp("probe"), np.random.default_rng(0)
    directions = rng.normal(size=(4, 16))
    (folder / "see").mkdir()
    rows, labels = ["video,caption,split"], ["video,label,split"]
    for number in range(120):
        label = number % 4
        shown = rng.random((20, 1)) < 0.5
        values = shown * directions[label] + 0.9 * rng.normal(size=(20, 16))
        np.save(folder / "see" / f"{CLASSES[label]}_{number}.npy", values.astype(np.float32))
        split = "train" if number < 80 else "test"
        rows.append(f"{CLASSES[label]}_{number},a film,{split}")
        labels.append(f"{CLASSES[label]}_{number}.avi,{CLASSES[label]},{split}")
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    (folder / "labels.csv").write_text("\n".join(labels) + "\n")
    with Library.open(folder / "lib", create=True) as library:
        add(library, [folder / "rows.csv"], media=False)
        import_features(library, "see", [folder / "see"], modality="appearance", fps=1.0)
    torch.manual_seed(0)
    SYSTEMS["mmt"].build({"experts": {"see": 16}, "width": 32, "depth": 1, "heads": 2, "inner": 32}).save(
        folder / "mmt"
    )
    return folder


@pytest.mark.parametrize("classifier", ["logistic", "svm"])
def test_classes_are_told_apart_and_shuffled_labels_are_not(lib: Path, classifier: str) -> None:
    with Library.open(lib / "lib") as library:
        real = probe(lib / "mmt", library, lib / "labels.csv", classifier=classifier)
        assert real.accuracy > 0.85
        assert real.accuracy <= real.top_5 == 1.0
        assert (real.train, real.test, real.chance) == (80, 40, 0.25)
        assert real.confusion.sum() == 40
        assert np.trace(real.confusion) == round(40 * real.accuracy)
        how = {"classifier": classifier, "windows": 1, "shuffle": True}
        shuffled = [probe(lib / "mmt", library, lib / "labels.csv", **how, seed=s).accuracy for s in range(5)]
        assert np.mean(shuffled) < 0.25 + 0.12  # 200 answers at a chance of one in four


@pytest.mark.long
def test_several_classes_at_once_and_folds(lib: Path) -> None:
    rows = read_labels(lib / "labels.csv")
    both = [Labelled(r.video, (r.labels[0], "wet" if r.labels[0] == "swim" else "dry"), r.fold) for r in rows]
    folds = [Labelled(r.video, r.labels, str(place % 3)) for place, r in enumerate(rows)]
    with Library.open(lib / "lib") as library:
        found = probe(lib / "mmt", library, both, windows=2)
        assert found.accuracy is None
        assert found.mean_average_precision > 0.85 > found.chance
        turned = probe(lib / "mmt", library, folds, windows=2)
        assert turned.test == 120  # each fold is tested in its turn
        assert turned.accuracy > 0.8
        untold = [Labelled(r.video, r.labels, "") for r in rows]
        assert probe(lib / "mmt", library, untold, windows=1).test == 40  # the library's own split
        fifth = [Labelled(r.video, r.labels, "") for r in rows[:80]]
        assert probe(lib / "mmt", library, fifth, windows=1).test == 16
        chosen = [Labelled(r.video, r.labels, "val" if place % 4 == 1 and r.fold == "train" else r.fold)
                  for place, r in enumerate(rows)]  # fmt: skip
        assert probe(lib / "mmt", library, chosen, windows=1).train == 80
        spans = [Labelled(r.video, r.labels, r.fold, at, at + 9.0) for r in rows for at in (0.0, 10.0)]
        assert probe(lib / "mmt", library, spans, windows=1).test == 80


@pytest.mark.long
def test_weights_are_learnt_along_and_the_model_stays_as_it_was(lib: Path) -> None:
    from reelseek.models import load_model

    model = load_model(lib / "mmt")
    before = model.fingerprint
    with Library.open(lib / "lib") as library:
        tuned = probe(model, library, lib / "labels.csv", windows=2, tune=True)
    assert tuned.tuned
    assert tuned.accuracy > 0.6
    assert model.fingerprint == before


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([Labelled("jump_0", ("a",), "train"), Labelled("run_1", ("a",), "test")], "name 1 class"),
        ([Labelled("jump_0", ("a",), "train"), Labelled("run_1", ("b",), "train")], "0 to test are at hand"),
        ([Labelled("jump_0", ("a",), "train"), Labelled("jump_0", ("b",), "test")], "such as jump_0: a leak"),
        ([Labelled("jump_0", ("a",), "training"), Labelled("run_1", ("b",), "test")], "a split is called 'training'"),
        (
            [Labelled(n, (n[:3],), "train") for n in ("jump_0", "run_1")] + [Labelled("sing_2", ("run",), "test")],
            "too few training videos",
        ),
        ([Labelled("nobody", ("a",), "train")], "none with anything that the model reads"),
        (
            [Labelled("jump_0", ("a",), "train"), Labelled("run_1", ("b",), "test")],
            "1 classes to learn from and 1 to test",
        ),
    ],
)
def test_labels_that_cannot_be_probed(lib: Path, rows: list[Labelled], said: str) -> None:
    with Library.open(lib / "lib") as library, pytest.raises(UsageError, match=said):
        probe(lib / "mmt", library, rows)


def test_layouts_of_datasets(tmp_path: Path) -> None:
    ucf, hmdb, audioset = (tmp_path / name for name in ("ucf", "hmdb", "audioset"))
    for folder in (ucf, hmdb, audioset):
        folder.mkdir()
    (ucf / "classInd.txt").write_text("1 ApplyEyeMakeup\n")
    (ucf / "trainlist01.txt").write_text("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n")
    (ucf / "testlist01.txt").write_text("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\n")
    assert [(row.labels, row.fold) for row in read_labels(ucf)] == [
        (("ApplyEyeMakeup",), "train"), (("ApplyEyeMakeup",), "test"),
    ]  # fmt: skip
    (hmdb / "brush_hair_test_split2.txt").write_text("a.avi 1 \nb.avi 2 \nc.avi 0 \n")
    assert [(row.video, row.labels, row.fold) for row in read_labels(hmdb, split=2)] == [
        ("a.avi", ("brush_hair",), "train"), ("b.avi", ("brush_hair",), "test"),
    ]  # fmt: skip
    with (tmp_path / "esc50.csv").open("w") as file:
        columns = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
        csv.writer(file).writerows([columns, ["1-100032-A-0.wav", "1", "0", "dog", "True", "100032", "A"]])
    assert read_labels(tmp_path / "esc50.csv") == [Labelled("1-100032-A-0.wav", ("dog",), "1")]
    for name in ("balanced_train", "eval"):
        (audioset / f"{name}_segments.csv").write_text(
            '# Segments\n--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/07q6cd_"\n'
        )
    assert read_labels(audioset)[0] == Labelled("--4gqARaEJE", ("/m/068hy", "/m/07q6cd_"), "train", 0.0, 10.0)
    (tmp_path / "odd.csv").write_text("name,kind\nx,y\n")
    with pytest.raises(CollectionError, match="wanted video and label"):
        read_labels(tmp_path / "odd.csv")
    with pytest.raises(CollectionError, match="holds no labels of UCF101"):
        read_labels(tmp_path / "hmdb")  # its first split is not there


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes of two directions and their colours, sixty of each class."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for label, across in (("lying", False), ("standing", True)):
        (folder / label).mkdir()
        for number in range(60):
            wave = np.sin(np.arange(32) / rng.uniform(1, 2) + rng.uniform(0, 6))
            field = np.broadcast_to(wave[None] if across else wave[:, None], (32, 32))
            pixels = 128 + 90 * field[..., None] * rng.uniform(0.5, 1, 3) + rng.normal(0, 8, (32, 32, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / label / f"{number}.png")
    return folder


@pytest.mark.long
def test_pictures_through_a_video_network_in_both_ways(pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    sizes = {"scale": 1 / 8, "blocks": [1, 1, 1, 1]}
    save_network(TSMResNet50(**sizes), tmp_path / "tsm", **sizes)
    found = probe_images(load_network(tmp_path / "tsm"), pictures, frames=16, relearn=40)
    assert (found.train, found.test, found.chance) == (96, 24, 0.5)
    assert found.accuracy_repeated >= 0.75
    assert found.accuracy_deflated >= 0.75
    assert found.agreement > 0.9
    assert found.seconds_deflated < found.seconds_repeated
    done = CliRunner().invoke(app, ["probe", str(tmp_path / "tsm"), "--images", str(pictures), "--json"])
    assert json.loads(done.stdout)["classes"] == ["lying", "standing"]
    with pytest.raises(ModelError, match="holds no video network"):
        load_network(pictures)
    network = S3DG(1 / 16)
    save_network(network, tmp_path / "s3dg", scale=1 / 16)
    again = load_network(tmp_path / "s3dg").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())


def test_a_network_for_sound_is_no_video_network(tmp_path: Path) -> None:
    sizes = {"scale": 1 / 16, "blocks": [1, 1, 1, 1]}
    save_network(SpectrogramResNet50(**sizes), tmp_path / "audio_net", **sizes)
    with pytest.raises(ModelError, match="audio_net holds a network for sound; name one for video"):
        load_network(tmp_path / "audio_net")


def test_folders_of_pictures(pictures: Path, tmp_path: Path) -> None:
    assert sum(split == "test" for *_, split in read_image_folders(pictures)) == 24
    for part, label in (("train", "a"), ("test", "b")):
        (tmp_path / part / label).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / part / label / "x.jpg")
    assert [(label, split) for _, label, split in read_image_folders(tmp_path)] == [("b", "test"), ("a", "train")]
    with pytest.raises(CollectionError, match="no pictures"):
        read_image_folders(tmp_path / "train" / "none")


def test_from_the_command_line(lib: Path, tmp_path: Path) -> None:
    how = [
        "probe",
        str(lib / "mmt"),
        "--library",
        str(lib / "lib"),
        "--labels",
        str(lib / "labels.csv"),
        "--windows",
        "2",
    ]
    done = CliRunner().invoke(app, [*how, "--json", "--figure", str(tmp_path / "c.png")], catch_exceptions=False)
    told = json.loads(done.stdout)
    assert told["classes"] == CLASSES
    assert 0.8 < told["accuracy"] <= 1
    assert (tmp_path / "c.png").is_file()
    assert "accuracy" in CliRunner().invoke(app, how, catch_exceptions=False).stdout
    with pytest.raises(UsageError, match="wanted MODEL --library"):
        CliRunner().invoke(app, ["probe", "concepts"], catch_exceptions=False)
    with pytest.raises(UsageError, match="none of the experts"):
        CliRunner().invoke(app, [*how[:1], "concepts", *how[2:], "--tune"], catch_exceptions=False)
