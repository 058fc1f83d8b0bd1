"""The claims of every system, over the registry; and MMT against recorded numbers of the released code."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reelseek.errors import ModelError
from reelseek.library.tokens import Steps
from reelseek.models import SYSTEMS, Embedding, RetrievalModel, load_model
from reelseek.models.checkpoints.mmt import from_released
from reelseek.models.losses import max_margin
from reelseek.models.model import similarity

DATA = Path(__file__).parents[1] / "data"
DIMS = {"object": 1000, "speech": 384, "ocr": 384}


def _build(name: str) -> RetrievalModel:
    torch.manual_seed(0)
    system, _, linear = name.partition("+")
    small = {"experts": DIMS, "width": 32, "depth": 2, "heads": 2, "inner": 64, "linear": bool(linear)}
    model = SYSTEMS[system].build(small if system == "mmt" else {}).eval()
    if linear:
        model.fit_inputs(_tokens(), [["a cat", "a tabby"], ["a dog"], ["a car"], ["two trees"]])
        model.state_dict()["linear.share"].fill_(0.5)
    return model


def _tokens(videos: int = 4, steps: int = 5) -> dict[str, Steps]:
    generator = torch.Generator().manual_seed(1)
    tokens = {}
    for index, (name, dim) in enumerate(DIMS.items()):
        values = torch.rand(videos, steps, dim, generator=generator)
        present = torch.rand(videos, steps, generator=generator) > 0.3
        present[index % videos] = False
        spans = torch.arange(steps).float()[None, :, None].expand(videos, steps, 2).clone()
        tokens[name] = Steps(values, present, spans + torch.tensor([0.0, 1.0]))
    return tokens


@pytest.fixture(params=[*sorted(SYSTEMS), "mmt+linear"])
def model(request: pytest.FixtureRequest) -> RetrievalModel:
    return _build(request.param)


@torch.inference_mode()
def test_absent_values_change_nothing_bitwise(model: RetrievalModel) -> None:
    tokens = _tokens()
    spoiled = {
        name: Steps(torch.where(s.present[..., None], s.values, torch.nan), s.present, s.spans)
        for name, s in tokens.items()
    }
    one, two = model.encode_videos(tokens), model.encode_videos(spoiled)
    assert torch.equal(one.present, two.present)
    assert torch.equal(one.values[one.present], two.values[two.present])
    assert torch.isfinite(two.values).all()


@torch.inference_mode()
def test_padding_and_company_change_nothing(model: RetrievalModel) -> None:
    tokens = _tokens()
    whole = model.encode_videos(tokens)
    padded = {
        name: Steps(
            torch.cat([s.values, torch.full_like(s.values, 7)], 1),
            torch.cat([s.present, torch.zeros_like(s.present)], 1),
            torch.cat([s.spans, s.spans], 1),
        )
        for name, s in tokens.items()
    }
    longer = model.encode_videos(padded)
    torch.testing.assert_close(longer.values[whole.present], whole.values[whole.present], atol=1e-5, rtol=0)
    for row in range(4):
        alone = {
            n: Steps(s.values[row : row + 1], s.present[row : row + 1], s.spans[row : row + 1])
            for n, s in tokens.items()
        }
        single = model.encode_videos(alone)
        there = whole.present[row : row + 1]
        torch.testing.assert_close(single.values[there], whole.values[row : row + 1][there], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_permuting_videos_permutes_outputs(model: RetrievalModel) -> None:
    tokens, order = _tokens(), torch.tensor([2, 0, 3, 1])
    mixed = {n: Steps(s.values[order], s.present[order], s.spans[order]) for n, s in tokens.items()}
    one, two = model.encode_videos(tokens), model.encode_videos(mixed)
    torch.testing.assert_close(one.values[order][two.present], two.values[two.present], atol=1e-6, rtol=0)


@torch.inference_mode()
def test_one_modality_alone_and_none_at_all(model: RetrievalModel) -> None:
    tokens = _tokens()
    for name in DIMS:
        found = model.encode_videos({name: tokens[name]})
        assert torch.equal(found.present[:, model.slots.index(name)], tokens[name].present.any(1))
        slots = 1 + ("linear" in model.slots)
        assert found.present.sum() == slots * tokens[name].present.any(1).sum()
    nothing = {n: Steps(s.values, torch.zeros_like(s.present), s.spans) for n, s in tokens.items()}
    texts = model.encode_texts(["a cat", "a dog"])
    scores = model.similarity(texts, model.encode_videos(nothing))
    assert torch.equal(scores, torch.zeros(2, 4))


@torch.inference_mode()
def test_saved_and_loaded_it_is_the_same_to_the_bit(model: RetrievalModel, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert again.fingerprint == model.fingerprint
    assert torch.equal(again.encode_videos(_tokens()).values, model.encode_videos(_tokens()).values)
    assert torch.equal(again.encode_texts(["a cat"]).values, model.encode_texts(["a cat"]).values)


def test_gradients_reach_every_parameter() -> None:
    model = _build("mmt").train()
    scores = model.similarity(model.encode_texts(["a", "b", "c", "d"]), model.encode_videos(_tokens()))
    max_margin(scores, margin=5.0).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_bad_input_is_refused_in_words(model: RetrievalModel, tmp_path: Path) -> None:
    tokens = _tokens()
    with pytest.raises(ModelError, match="not built for 'smell'"):
        model.encode_videos({"smell": tokens["ocr"]})
    with pytest.raises(ModelError, match="width 384"):
        model.encode_videos({"object": tokens["ocr"]})
    with pytest.raises(ModelError, match="no features"):
        model.encode_videos({})
    with pytest.raises(ModelError, match="empty text"):
        model.encode_texts(["fine", " "])
    with pytest.raises(ModelError, match="not a model"):
        load_model(tmp_path)
    model.save(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(tmp_path / "m")
    with pytest.raises(ModelError, match="wrong: depht"):
        SYSTEMS["mmt"].build({"experts": {"a": 2}, "depht": 3})


def test_similarity_equals_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    texts = Embedding(torch.randn(3, 2, 4, generator=generator), torch.ones(3, 2, dtype=torch.bool), torch.rand(3, 2))
    present = torch.tensor([[True, False], [True, True], [False, False]])
    videos = Embedding(torch.randn(3, 2, 4, generator=generator), present, torch.ones(3, 2))
    for renormalise in (True, False):
        scores = similarity(texts, videos, renormalise=renormalise)
        for t in range(3):
            for v in range(3):
                weights = [float(texts.weights[t, s]) * bool(present[v, s]) for s in range(2)]
                total = sum(w * float(texts.values[t, s] @ videos.values[v, s]) for s, w in enumerate(weights))
                if renormalise:
                    total = total / sum(weights) if sum(weights) else 0.0
                assert float(scores[t, v]) == pytest.approx(total, abs=1e-5)


def test_max_margin_equals_a_plain_loop() -> None:
    scores = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    valid = torch.ones(4, 4, dtype=torch.bool)
    valid[0, 1] = valid[1, 0] = False
    total, count = torch.zeros((), dtype=torch.float64), 0
    for i in range(4):
        for j in range(4):
            if i != j and valid[i, j]:
                total = total + (0.3 - scores[i, i] + scores[i, j]).clamp(min=0)
                total = total + (0.3 - scores[j, j] + scores[i, j]).clamp(min=0)
                count += 2
    (expected,) = torch.autograd.grad(total / count, scores)
    loss = max_margin(scores, margin=0.3, valid=valid)
    (found,) = torch.autograd.grad(loss, scores)
    torch.testing.assert_close(loss, total / count)
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="square"):
        max_margin(torch.zeros(2, 3), margin=0.1)


@pytest.mark.parametrize("fixture", ["mmt_keep_missing", "mmt_mask_missing"])
@torch.inference_mode()
def test_mmt_agrees_with_the_released_code(fixture: str) -> None:
    """Recorded from the released MMT (commit 8f53717) on CPU in float32 with random weights; tolerance 1e-5."""
    folder = DATA / fixture
    config = json.loads((folder / "config.json").read_text())
    given, wanted = load_file(folder / "inputs.safetensors"), load_file(folder / "outputs.safetensors")
    experts = {expert["name"]: expert for expert in config["experts"]}
    model = SYSTEMS["mmt"].build(
        {
            "experts": {name: expert["dim"] for name, expert in experts.items()},
            "width": config["hidden_size"],
            "depth": config["num_layers"],
            "heads": config["num_heads"],
            "inner": config["intermediate_size"],
            "positions": config["max_position_embeddings"],
            "most_steps": config["max_expert_tokens"],
            "text_dim": config["text_dim"],
            "missing": "keep" if config["keep_missing_modalities"] else "mask",
            "longer": "published",
        }
    )
    released = load_file(folder / "weights.safetensors")
    model.load_state_dict(from_released(released, {name: expert["idx"] for name, expert in experts.items()}))
    model.eval()
    videos = model.encode_videos({name: _raw(given, name, config) for name in experts})
    texts = model.encode_text_features(given["text_cls"].flatten(0, 1))  # type: ignore[operator]
    scores = model.similarity(texts, videos)
    captions, close = config["captions_per_video"], {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(videos.values, wanted["vid_embds"], **close)
    torch.testing.assert_close(texts.values.unflatten(0, (-1, captions)).transpose(1, 2), wanted["text_embds"], **close)
    torch.testing.assert_close(texts.weights.unflatten(0, (-1, captions)), wanted["text_weights"], **close)
    torch.testing.assert_close(scores, wanted["sims_indep"], **close)
    mean = scores.unflatten(0, (-1, captions)).mean(1)
    torch.testing.assert_close(max_margin(mean, margin=config["margin"])[None], wanted["loss_max_margin"], **close)


def _raw(given: dict[str, torch.Tensor], name: str, config: dict) -> Steps:
    """The recorded features of one expert, NaN where there are none."""
    dim = next(expert["dim"] for expert in config["experts"] if expert["name"] == name)
    longest = max(1, *config["raw_lengths"][name])
    values = torch.full((config["batch"], longest, dim), torch.nan)
    present, spans = torch.zeros(config["batch"], longest, dtype=torch.bool), torch.zeros(config["batch"], longest, 2)
    for video in range(config["batch"]):
        rows = given.get(f"raw.{name}.{video}.features")
        if rows is not None:
            values[video, : len(rows)], present[video, : len(rows)] = rows, True
            spans[video, : len(rows)] = given[f"raw.{name}.{video}.mid_seconds"][:, None]
    return Steps(values, present, spans)


@torch.inference_mode()
def test_concepts_put_labels_near_the_words_for_them() -> None:
    model = _build("concepts")
    values = torch.zeros(2, 1, 1000)
    values[0, 0, 281] = values[1, 0, 504] = 1.0  # tabby, coffee mug
    steps = Steps(values, torch.ones(2, 1, dtype=torch.bool), torch.zeros(2, 1, 2))
    scores = model.similarity(
        model.encode_texts(["a cat on a chair", "a cup of coffee"]), model.encode_videos({"object": steps})
    )
    assert scores.argmax(1).tolist() == [0, 1]


def test_ridge_equals_its_normal_equations_and_ignores_what_is_absent() -> None:
    from reelseek.models.blocks.linear import PENALTIES, ridge

    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 7, generator=generator)
    targets = inputs @ torch.randn(7, 3, generator=generator) + torch.randn(60, 3, generator=generator)
    found = ridge(inputs, targets)
    scale = torch.linalg.svdvals(inputs).square().mean()
    ways = [torch.linalg.solve(inputs.T @ inputs + p * scale * torch.eye(7), inputs.T @ targets) for p in PENALTIES]
    assert min(float((found - way).abs().max()) for way in ways) < 1e-4
    ranks = []
    for penalty in PENALTIES:  # leave one out by hand: fit without each row, rank its own target by its prediction
        alone = []
        for row in range(60):
            keep = [i for i in range(60) if i != row]
            x, y = inputs[keep].double(), targets[keep].double()
            matrix = torch.linalg.solve(x.T @ x + penalty * scale * torch.eye(7).double(), x.T @ y)
            alone.append(inputs[row].double() @ matrix)
        unit = torch.nn.functional.normalize
        scores = unit(targets.double(), dim=-1) @ unit(torch.stack(alone), dim=-1).T
        ranks.append(float((scores > scores.diagonal()[:, None]).sum(1).double().mean()))
    best = min(range(len(PENALTIES)), key=ranks.__getitem__)
    torch.testing.assert_close(found, ways[best], atol=1e-4, rtol=1e-3)
