"""JSFusion against loops over texts, videos, frames, words and windows, and what search and training rely on."""

import pytest
import torch
from tests.models.worlds import TEXTS, batch_of, small, tokens_of
from torch import Tensor, nn

from reelseek.models import SYSTEMS
from reelseek.models.embed import similarity_matrix
from reelseek.models.embedding import Embedding
from reelseek.models.systems.jsfusion import JSFusion


def _model(**settings: object) -> JSFusion:
    """A small one whose weights and batch statistics are such that scores differ by more than rounding."""
    model = small("jsfusion", **settings)
    assert isinstance(model, JSFusion)
    torch.manual_seed(4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=2 / module.weight[0].numel() ** 0.5)
    return model


def _dense(layer: nn.Sequential, row: Tensor) -> Tensor:
    linear, norm, active = layer
    row = linear.weight @ row
    return active((row - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias)  # type: ignore[no-any-return]


def _leaky(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 0.2 * values)


def _score_by_loops(model: JSFusion, frames: list[Tensor], words: list[Tensor]) -> Tensor:
    """The score of one pair: meeting by meeting, then window by window; what is beyond an end is zero."""
    grid: dict[tuple[int, int], Tensor] = {}
    for x, frame in enumerate(frames):
        for y, word in enumerate(words):
            value = gate = frame * word
            for layer in model.joint.value:
                value = _dense(layer, value)  # type: ignore[arg-type]
            for layer in model.joint.gate:
                gate = _dense(layer, gate)  # type: ignore[arg-type]
            grid[x, y] = value * gate
    size = (len(frames), len(words))
    for conv, stride in zip(model.decoder.convs, (1, 1, 2), strict=True):
        size = (max(1, (size[0] - 3) // stride + 1), max(1, (size[1] - 3) // stride + 1))
        after = {}
        for x in range(size[0]):
            for y in range(size[1]):
                out = conv.bias
                for dx in range(3):
                    for dy in range(3):
                        cell = grid.get((x * stride + dx, y * stride + dy))
                        if cell is not None:
                            out = out + conv.weight[:, :, dx, dy] @ cell  # type: ignore[index, operator]
                after[x, y] = _leaky(out[:-1]) * out[-1].sigmoid()  # type: ignore[index]
        grid = after
    row = torch.stack(list(grid.values())).mean(0)
    for layer in model.decoder.dense:
        row = _dense(layer, row)  # type: ignore[arg-type]
    return (model.decoder.score.weight @ row + model.decoder.score.bias)[0]


def _side(lengths: list[int], places: int, dim: int) -> Embedding:
    present = torch.arange(places) < torch.tensor(lengths)[:, None]
    values = torch.randn(len(lengths), places, dim) * present[..., None]
    return Embedding.even(values.requires_grad_(), present)


def _rows(side: Embedding) -> list[list[Tensor]]:
    """The vectors that are present of each item."""
    return [list(values[real]) for values, real in zip(side.values, side.present, strict=True)]


def test_scores_are_those_of_the_paper_in_values_and_gradients() -> None:
    model = _model()
    texts, videos = _side([1, 9, 12, 4], 14, 16), _side([9, 2, 7], 9, 16)
    scores = model.similarity(texts, videos)
    loops = torch.stack(
        [torch.stack([_score_by_loops(model, frames, words) for frames in _rows(videos)]) for words in _rows(texts)]
    )
    torch.testing.assert_close(scores, loops, atol=1e-5, rtol=1e-4)
    assert float(scores.detach().std()) > 0.01
    weights = torch.randn_like(scores)
    leaves = [texts.values, videos.values, *model.joint.parameters(), *model.decoder.parameters()]
    gradients = torch.autograd.grad((scores * weights).sum(), leaves)
    for one, two in zip(gradients, torch.autograd.grad((loops * weights).sum(), leaves), strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_what_is_absent_changes_no_score_and_no_batch_statistic(training: bool) -> None:
    texts, videos = _side([1, 9, 5], 12, 16), _side([6, 0, 3], 6, 16)
    found = []
    for places in (0, 5):
        model = _model().train(training)
        longer = [
            Embedding.even(
                nn.functional.pad(side.values, (0, 0, 0, places)), nn.functional.pad(side.present, (0, places))
            )
            for side in (texts, videos)
        ]
        scores = model.similarity(*longer)
        found.append((scores, model.state_dict()))
        assert not scores[:, 1].any()
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=1e-5)
    without_the_absent = _model().train(training).similarity(texts, videos[torch.tensor([0, 2])])
    torch.testing.assert_close(found[0][0][:, [0, 2]], without_the_absent, atol=1e-5, rtol=1e-5)
    for name, value in found[0][1].items():
        torch.testing.assert_close(value, found[1][1][name], atol=1e-6, rtol=1e-5)


def test_the_coarse_heads_learn_beside_the_network_and_change_none_of_its_gradients() -> None:
    gradients = []
    for with_coarse in (True, False):
        model = small("jsfusion").train()
        torch.manual_seed(0)
        terms = model.loss(batch_of(model))
        assert list(terms) == ["video_max_margin", "coarse"]
        total = terms["video_max_margin"] + (terms["coarse"] if with_coarse else 0)
        total.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        if name.startswith("coarse"):
            assert gradient is not None
            assert gradient.abs().sum() > 0
            assert gradients[1][name] is None
        else:
            assert torch.equal(gradient, gradients[1][name]), name  # type: ignore[arg-type]


@torch.inference_mode()
def test_slots_are_as_many_for_every_batch_and_coarse_embeddings_are_unit_vectors() -> None:
    model = small("jsfusion")
    for steps, texts in ((2, ["a cat"]), (20, ["word " * 40, "a dog"])):
        videos, captions = model.encode_videos(tokens_of(model, steps=steps)), model.encode_texts(texts)
        assert videos.values.shape[1:] == (9, 16)
        assert captions.values.shape[1:] == (14, 16)
        for coarse in (model.coarse_videos(videos), model.coarse_texts(captions)):
            assert coarse.values.shape[1:] == (len(model.slots), 32)
            torch.testing.assert_close(coarse.values.norm(dim=-1), torch.ones(len(coarse), 1))


@torch.inference_mode()
def test_the_order_of_words_and_of_frames_counts() -> None:
    model = _model()
    one, two = model.encode_texts(["a dog chases a cat"]), model.encode_texts(["a cat chases a dog"])
    tokens = tokens_of(model)
    videos = model.encode_videos(tokens)
    assert (model.similarity(one, videos) - model.similarity(two, videos)).abs().max() > 1e-4
    full = Embedding.even(videos.values, torch.ones_like(videos.present))
    turned = Embedding.even(videos.values.flip(1), torch.ones_like(videos.present))
    assert (model.similarity(one, full) - model.similarity(one, turned)).abs().max() > 1e-4


def test_it_learns_in_half_precision() -> None:
    model, batch = small("jsfusion").train(), batch_of(small("jsfusion"))
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss(batch)
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert model.decoder.convs[0].weight.grad.any()  # type: ignore[union-attr]


def test_published_sizes() -> None:
    model = SYSTEMS["jsfusion"].build(
        {"experts": {"appearance": 2048, "audio": 128}, "text": {"encoder": "x.txt", "dim": 300}}
    )
    assert isinstance(model, JSFusion)
    conv = 3 * 2048 * (2176 + 2 * 2048) + 3 * 2048
    frames = conv + (1024 + 2176) * 512 + 2 * 512
    words = 2 * 4 * 512 * (300 + 512 + 2) + 1024 * 512 + 2 * 512
    joint = 3 * (512 * 512 + 2 * 512) + 512 + 2
    decoder = 257 * (9 * (512 + 2 * 256) + 3) + 2 * 256 * 256 + 256 * 128 + 2 * (256 + 256 + 128) + 128 + 1
    coarse = 2 * (512 * 256 + 256)
    assert sum(p.numel() for p in model.parameters()) == frames + words + joint + decoder + coarse
    assert model.config.most_steps == 40


@pytest.mark.parametrize("name", ["xpool", "jsfusion"])
def test_a_matrix_in_blocks_is_the_whole_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(name)
    with torch.inference_mode():
        texts = model.encode_texts([*TEXTS, "one more", "a much longer caption with many words in it"])
        videos = model.encode_videos(tokens_of(model, videos=7, steps=9))
        whole = model.similarity(texts, videos)
    blocks: list[tuple[int, int]] = []
    scored = type(model).similarity

    def counted(self: JSFusion, some: Embedding, others: Embedding) -> Tensor:
        blocks.append((len(some), len(others)))
        return scored(self, some, others)

    monkeypatch.setattr(type(model), "similarity", counted)
    for pairs in (1, 5, 1000):
        monkeypatch.setattr(
            "reelseek.models.embed._BLOCK_FLOATS",
            pairs * texts.values.shape[1] * videos.values.shape[1] * videos.values.shape[2],
        )
        blocks.clear()
        torch.testing.assert_close(similarity_matrix(model, texts, videos), whole, atol=1e-5, rtol=1e-5)
        assert all(rows * columns <= pairs for rows, columns in blocks)
        assert sum(rows * columns for rows, columns in blocks) == 6 * 7
