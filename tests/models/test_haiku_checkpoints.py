"""MMV's checkpoint, exported from JAX: its names, its matrices the other way round, and what of it has no place."""

import json
import pickle
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.models.published_shapes import mmv_shapes
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import ModelError
from reelseek.experts.sample import SAMPLE_CLIP
from reelseek.library import Library
from reelseek.library.tokens import Steps
from reelseek.models import load_model
from reelseek.models.checkpoints import convert, load_released, read_tensors
from reelseek.models.checkpoints.haiku import short_name
from reelseek.models.checkpoints.haiku_networks import vision_network
from reelseek.models.systems.mmv import MMV
from reelseek.search import Searcher

Arrays = dict[str, npt.NDArray[np.float32]]


def _arrays(rng: np.random.Generator) -> Arrays:
    """A tiny checkpoint under the names that Haiku would give its arrays."""
    arrays = {}
    for name, shape in mmv_shapes(6, 5, 4, 7, sound=3).items():
        if name.startswith("text_module/embed"):
            shape = (9, 300)
        values = rng.normal(size=shape).astype(np.float32)
        module, *rest = name.split("/")
        method = "~_get_pair_embedding_heads/" if module.endswith("embd") else ""
        inner = "~/" if module == "text_module" else ""
        rest = [part.replace("batch_norm_0", "__cross_replica_batch_norm") for part in rest]
        rest = [part.replace("batch_norm_1", "__cross_replica_batch_norm_1") for part in rest]
        rest = [f"~/{part}" if part.endswith("_ema") else part for part in rest]
        values = np.abs(values) + 0.5 if "var_ema" in name else values
        arrays[f"text_audio_video/{method}{module}/{inner}{'/'.join(rest)}"] = values
    return arrays


def _array(arrays: Arrays, short: str) -> npt.NDArray[np.float32]:
    (name,) = [name for name in arrays if short_name(name) == short]
    return arrays[name]


def _dense(arrays: Arrays, name: str, rows: npt.NDArray[np.float32], *, bias: bool = True) -> npt.NDArray[np.float32]:
    out = rows @ _array(arrays, f"{name}/w").reshape(rows.shape[-1], -1)
    return out + _array(arrays, f"{name}/b") if bias else out


def _norm(arrays: Arrays, name: str, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    mean, var = (_array(arrays, f"{name}/{which}_ema/average") for which in ("mean", "var"))
    return (rows - mean) / np.sqrt(var + 1e-5) * _array(arrays, f"{name}/scale") + _array(arrays, f"{name}/offset")


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _one_step(rows: npt.NDArray[np.float32]) -> Steps:
    present = torch.ones(len(rows), 1, dtype=torch.bool)
    return Steps(torch.from_numpy(rows)[:, None], present, torch.zeros(len(rows), 1, 2))


def test_mmvs_heads_compute_what_the_release_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    arrays = _arrays(rng)
    np.savez(tmp_path / "mmv.npz", **arrays)
    model = load_released(tmp_path / "mmv.npz", "mmv")
    assert isinstance(model, MMV)
    sight, sound = (rng.normal(size=(2, dim)).astype(np.float32) for dim in (6, 3))
    words = rng.normal(size=(2, 4, 300)).astype(np.float32)

    hidden = np.maximum(_norm(arrays, "vid2audio_embd/batch_norm_0", _dense(
        arrays, "vid2audio_embd/final_projection_inner", sight)), 0)  # fmt: skip
    fine = {"vision": _norm(arrays, "vid2audio_embd/batch_norm_1", _dense(
        arrays, "vid2audio_embd/final_projection", hidden, bias=False)),
        "audio": _dense(arrays, "audio_embd/final_projection", sound)}  # fmt: skip
    coarse = [_norm(arrays, "vis_embd/batch_norm_0", _dense(arrays, "vis_embd/final_projection", np.maximum(v, 0)))
              for v in fine.values()]  # fmt: skip
    text = _dense(arrays, "txt_embd/final_projection", np.maximum(
        _dense(arrays, "text_module/text_conv1", words), 0).max(1))  # fmt: skip

    with torch.no_grad():
        videos = model.encode_videos({"video": _one_step(sight), "audio": _one_step(sound)}).values.numpy()
        read, _ = model.read(Steps(torch.from_numpy(words), torch.ones(2, 4, dtype=torch.bool), torch.zeros(2, 4, 2)))
    np.testing.assert_allclose(videos, np.stack([_unit(rows) for rows in coarse], 1), atol=1e-5)
    np.testing.assert_allclose(read.numpy(), text, atol=1e-4)


@pytest.mark.long
def test_what_has_no_place_is_counted_and_in_the_exit_status(tmp_path: Path) -> None:
    np.savez(tmp_path / "mmv.npz", **_arrays(np.random.default_rng(0)))
    done = CliRunner().invoke(
        app, ["models", "convert", str(tmp_path / "mmv.npz"), "--format", "mmv", "--out", str(tmp_path / "m")]
    )
    assert done.exit_code == 1, done.output
    assert f"left out: 1 tensors with {7 * 7 * 64:,} numbers, such as audio_module" in done.stderr
    assert not (tmp_path / "m" / "vision_net").exists()
    assert "left out: 1 tensors with 2,700 numbers, such as text_module/embed/embeddings" in done.stderr
    assert "not needed: 4 tensors" in done.stderr
    assert load_model(tmp_path / "m").system == "mmv"
    words = str(tmp_path / "words.txt")
    Path(words).write_text(f"cat {' '.join(['0.5'] * 300)}\n")
    command = ["models", "convert", str(tmp_path / "mmv.npz"), "--format", "mmv", "--out", str(tmp_path / "n")]
    done = CliRunner().invoke(app, [*command, "--set", f"text.encoder={words}"])
    assert "not needed: 1 tensors with 2,700 numbers" in done.stderr
    assert load_model(tmp_path / "n").encode_texts(["cat"]).values.shape == (1, 2, 4)
    assert "text_module/embed/embeddings" in (tmp_path / "m" / "README.md").read_text()


def test_arrays_of_no_place_are_refused_by_name(tmp_path: Path) -> None:
    arrays = {short_name(name): torch.from_numpy(values) for name, values in _arrays(np.random.default_rng(0)).items()}
    assert convert(arrays, "mmv").system == "mmv"
    with pytest.raises(ModelError, match="1 keys are not known there, such as 'vis_embd/extra/w'"):
        convert({**arrays, "vis_embd/extra/w": torch.ones(1)}, "mmv")
    with pytest.raises(ModelError, match="two arrays of the checkpoint are vis_embd/final_projection/b"):
        convert({**arrays, "other/~/vis_embd/final_projection/b": torch.ones(1)}, "mmv")
    lacking = {name: values for name, values in arrays.items() if name != "vis_embd/batch_norm_0/scale"}
    with pytest.raises(ModelError, match="1 keys are absent, such as 'vis_embd/batch_norm_0/scale'"):
        convert(lacking, "mmv")
    with pytest.raises(ModelError, match="graph is not fine and coarse"):
        convert({**arrays, "vis_embd/final_projection/w": torch.ones(6, 4)}, "mmv")
    with pytest.raises(ModelError, match=r"vis_embd/batch_norm_0/scale makes \(3,\), wanted \(4,\)"):
        convert({**arrays, "vis_embd/batch_norm_0/scale": torch.ones(1, 3)}, "mmv")
    np.savez(tmp_path / "objects.npz", name=np.array([{"a": 1}], object))
    with pytest.raises(ModelError, match="name holds objects"):
        read_tensors(tmp_path / "objects.npz")
    (tmp_path / "mmv_s3d.pkl").write_bytes(pickle.dumps({"params": {}, "state": {}}))
    with pytest.raises(ModelError, match=r"export its arrays as \.npz"):
        load_released(tmp_path / "mmv_s3d.pkl", "mmv")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ModelError, match="cannot be read"):
        read_tensors(tmp_path / "text.npz")


# Outputs of the released networks, described again in JAX: tiny, with weights drawn by the names of their arrays.
RECORDED = json.loads((Path(__file__).parents[1] / "data" / "mmv_networks.json").read_text("utf-8"))


def _network(kind: str) -> Arrays:
    """The arrays of a tiny network under the names that Haiku gives them."""
    arrays: Arrays = {}
    for name, shape in RECORDED[kind]["arrays"].items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        last = name.rpartition("/")[2]
        if last == "counter":
            values = np.zeros(shape)
        elif last == "scale" or "var_ema" in name:
            values = 0.5 + rng.random(shape)
        elif last in ("offset", "b", "average", "hidden"):
            values = 0.1 * rng.normal(size=shape)
        else:
            values = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))
        arrays[name] = values.astype(np.float32)
    return arrays


def _short(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {short_name(name): torch.from_numpy(values) for name, values in arrays.items()}


@pytest.mark.parametrize("kind", ["tsm", "s3d"])
def test_mmvs_networks_of_frames_compute_what_the_release_does(kind: str) -> None:
    released = vision_network(_short(_network(kind)))
    assert released is not None
    frames = np.random.default_rng(0).random(RECORDED[kind]["video"]).astype(np.float32)
    with torch.no_grad():
        features = released.network(torch.from_numpy(frames).permute(0, 4, 1, 2, 3)).numpy()
    wanted = np.array(RECORDED[kind]["features"], np.float32)
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(features, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.long
def test_a_converted_mmv_reads_the_features_of_its_own_network(tmp_path: Path) -> None:
    arrays = _network("s3d")
    rng = np.random.default_rng(1)
    heads = {
        name: rng.normal(size=shape).astype(np.float32) for name, shape in mmv_shapes(64, 5, 4, 7, sound=3).items()
    }
    heads |= {name: np.abs(values) for name, values in heads.items() if "var_ema" in name}
    np.savez(tmp_path / "mmv.npz", **arrays, **heads)
    (tmp_path / "words.txt").write_text(f"cat {' '.join(['0.5'] * 300)}\n")
    out = tmp_path / "m"
    command = ["models", "convert", str(tmp_path / "mmv.npz"), "--format", "mmv", "--out", str(out)]
    done = CliRunner().invoke(app, [*command, "--set", f"text.encoder={tmp_path / 'words.txt'}"])
    assert done.exit_code == 1, done.output  # for the network of sound
    assert "visual_module" not in done.stderr
    assert f"--experts vision_net@{out}/vision_net" in done.stderr
    film = tmp_path / "film.mp4"
    film.write_bytes(SAMPLE_CLIP.read_bytes())
    done = CliRunner().invoke(
        app, ["add", str(tmp_path / "l"), str(film), "--experts", f"vision_net@{out / 'vision_net'}"]
    )
    assert done.exit_code == 0, done.output
    with Library.open(tmp_path / "l") as library:
        (hit,) = Searcher(library, model=str(out)).search("cat", k=1)
    assert hit.video.endswith("film.mp4")


def test_damaged_networks_of_frames_are_refused_by_name() -> None:
    arrays = _short(_network("tsm"))
    unit = "visual_module/TSMResNetV2/tsm_resnet_unit_1/block_0"
    with pytest.raises(ModelError, match=f"1 keys are absent, such as '{unit}/conv_1/w'"):
        vision_network({name: array for name, array in arrays.items() if name != f"{unit}/conv_1/w"})
    with pytest.raises(ModelError, match=f"1 keys are not known there, such as '{unit}/conv_3/w'"):
        vision_network(arrays | {f"{unit}/conv_3/w": torch.ones(1, 1, 3, 3)})
    with pytest.raises(ModelError, match=rf"{unit}/conv_1/w makes \(4, 16, 1, 3, 3\), wanted \(16, 16, 1, 3, 3\)"):
        vision_network(arrays | {f"{unit}/conv_1/w": torch.ones(3, 3, 16, 4)})
    with pytest.raises(ModelError, match="NaN"):
        vision_network(arrays | {f"{unit}/conv_1/w": torch.full((3, 3, 16, 16), torch.nan)})
    with pytest.raises(ModelError, match="neither S3D-G nor ResNet50 with a temporal shift"):
        vision_network({"visual_module/I3D/conv/w": torch.ones(1)})
    assert vision_network({"vis_embd/final_projection/w": torch.ones(1)}) is None
