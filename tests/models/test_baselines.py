"""Binding, GRAM, VAST, Perceiver IO and DRL against their papers as loops, video by video and token by token."""

import math
import re
import zlib
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from tests.models.test_oracles import (
    _agree,
    _state,
    attend,
    feed,
    layer_norm,
    linear,
    mean_cosine,
    pooled_texts,
    pre_norm,
    rows_of,
    sigmoid,
    unit,
)
from tests.models.worlds import TEXTS, batch_of, small, tokens_of

from reelseek.errors import ModelError
from reelseek.library.tokens import Steps
from reelseek.models.blocks.interact import channel_decorrelation, match_tokens, weighted_interaction
from reelseek.models.blocks.shift import TokenSelection, _PerturbedTop, shift_steps
from reelseek.models.blocks.volume import gramian_volume
from reelseek.models.losses import info_nce, max_margin
from reelseek.models.systems.drl import DRL
from reelseek.models.systems.vast import VAST


def towers(s: dict[str, np.ndarray], rows: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """The unit vector of each modality of one video."""
    units = {}
    for name, steps in rows.items():
        tokens = [linear(s, f"towers.project.{name}", row) for row in steps]
        for depth in range(2):
            tokens = pre_norm(s, f"towers.mix.{name}.layers.{depth}", tokens, 2)
        units[name] = unit(linear(s, f"towers.heads.{name}", sum(tokens) / len(tokens)))
    return units


def test_binding_is_the_mean_of_towers() -> None:
    model = small("binding")
    s, tokens, names = _state(model), tokens_of(model), list(model.experts)
    videos = [{names.index(n): row for n, row in towers(s, rows_of(tokens, v)).items()} for v in range(4)]
    texts = [[unit(linear(s, "text_head", p))] * len(names) for p in pooled_texts(model)]
    _agree(model, videos, texts, mean_cosine(videos, texts))


def test_binding_compares_with_its_anchor_alone() -> None:
    model = small("binding+expert").train()
    batch = batch_of(model)
    s = _state(model)
    vectors = [towers(s, rows_of(dict(batch.tokens), v)) for v in range(4)]
    for v, p in enumerate(pooled_texts(model)):
        vectors[v]["text"] = unit(linear(s, "text_head", p))
    losses = model.loss(batch)
    assert list(losses) == ["object|text", "object|speech", "object|ocr"]
    for name, loss in losses.items():
        both = [v for v in range(4) if {"object", name.split("|")[1]} <= set(vectors[v])]
        one, two = (torch.tensor(np.array([vectors[v][n] for v in both])) for n in name.split("|"))
        owner = batch.video[both]
        expected = info_nce(one @ two.T, temperature=0.07, negatives=owner[:, None] != owner[None, :])
        assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-4), name
    with pytest.raises(ModelError, match="anchor is 'smell'; it is text, or one of object"):
        small("binding", anchor="smell")


def _volume(anchor: torch.Tensor, vectors: torch.Tensor, modalities: int) -> torch.Tensor:
    """Of the Gram matrix itself, to the power of all modalities over those of the video."""
    rows = torch.cat([anchor[None], vectors])
    return torch.linalg.det(rows @ rows.T).sqrt() ** (modalities / len(vectors))


def test_the_volume_is_the_root_of_the_grams_determinant_in_values_and_gradients() -> None:
    torch.manual_seed(1)
    leaves = [torch.randn(4, 12, requires_grad=True), torch.randn(5, 3, 12, requires_grad=True)]
    texts, videos = (torch.nn.functional.normalize(leaf, dim=-1) for leaf in leaves)
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0]]).bool()
    volume = gramian_volume(texts, videos, present)
    assert torch.equal(volume[:, 4], torch.ones(4))
    loops = torch.stack([torch.stack([_volume(text, videos[v][present[v]], 3) for v in range(4)]) for text in texts])
    torch.testing.assert_close(volume[:, :4], loops, atol=2e-5, rtol=1e-4)
    weights = torch.randn(4, 4)
    ours = torch.autograd.grad((volume[:, :4] * weights).sum(), leaves, retain_graph=True)
    theirs = torch.autograd.grad((loops * weights).sum(), leaves)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, atol=2e-4, rtol=1e-3)


def test_a_volume_of_vectors_that_coincide_is_small_and_its_gradient_finite() -> None:
    row = torch.nn.functional.normalize(torch.randn(1, 8), dim=-1)
    texts, videos = row.clone().requires_grad_(), row[:, None].repeat(1, 3, 1).requires_grad_()
    volume = gramian_volume(texts, videos, torch.ones(1, 3, dtype=torch.bool))
    volume.sum().backward()
    assert 0 <= float(volume.detach()) < 1e-3
    assert texts.grad is not None
    assert videos.grad is not None
    assert bool(texts.grad.isfinite().all() & videos.grad.isfinite().all())


def test_gram_scores_the_volume_of_whatever_is_present() -> None:
    model = small("gram")
    s, tokens, names = _state(model), tokens_of(model), list(model.experts)
    videos = [{names.index(n): row for n, row in towers(s, rows_of(tokens, v)).items()} for v in range(4)]
    texts = [[unit(linear(s, "text_head", p))] for p in pooled_texts(model)]
    scores = np.zeros((4, 4))
    for t, (text,) in enumerate(texts):
        for v, slots in enumerate(videos):
            if slots:
                rows = np.array([text, *slots.values()])
                scores[t, v] = 1 - np.sqrt(np.linalg.det(rows @ rows.T)) ** (len(names) / len(slots))
    _agree(model, videos, texts, scores)


def test_vast_fuses_exactly_the_streams_that_a_video_has() -> None:
    model = small("vast")
    assert isinstance(model, VAST)
    s, tokens = _state(model), tokens_of(model)
    assert model.config.streams == {"sight": ("object",), "subtitles": ("speech", "ocr")}
    videos = []
    for v in range(4):
        rows, vectors = rows_of(tokens, v), {}
        for stream, experts in model.config.streams.items():
            sequence = [linear(s, f"project.{n}", row) + s[f"kind.{n}"] for n in experts for row in rows.get(n, [])]
            for depth in range(2):
                sequence = pre_norm(s, f"mix.{stream}.layers.{depth}", sequence, 2)
            if sequence:
                vectors[stream] = sum(layer_norm(s, f"norm.{stream}", row) for row in sequence) / len(sequence)
        name = "+".join(vectors)
        videos.append({0: unit(linear(s, f"fuse.{name}", np.concatenate(list(vectors.values()))))} if vectors else {})
    texts = [[unit(linear(s, "text_head", p))] for p in pooled_texts(model)]
    _agree(model, videos, texts, mean_cosine(videos, texts))


def test_vast_learns_every_subset_and_names_of_streams_that_are_no_experts_are_refused() -> None:
    model = small("vast", experts={"object": 30, "audio": 20, "speech": 384}, sound=("audio",))
    assert isinstance(model, VAST)
    names = ["sight", "sound", "subtitles"]
    subsets = ["+".join(subset) for size in (1, 2, 3) for subset in combinations(names, size)]
    assert list(model.fuse) == subsets
    losses = model.train().loss(batch_of(model))
    assert {f"text|{name}" for name in names} < set(losses)
    with pytest.raises(ModelError, match=r"the streams name .*smell.*name each once"):
        small("vast", sound=("smell",))


def _cross(s: dict[str, np.ndarray], name: str, queries: list, tokens: list, *, residual: bool) -> list:
    keys = [layer_norm(s, f"{name}.norm_tokens", row) for row in tokens]
    mixed = []
    for query in queries:
        (read,) = attend(s, f"{name}.attention", [layer_norm(s, f"{name}.norm_queries", query)], keys, 2)
        row = query + read if residual else read
        mixed.append(row + feed(s, f"{name}.feed", layer_norm(s, f"{name}.norm_feed", row)))
    return mixed


def test_perceiver_io_reads_all_tokens_into_its_latents() -> None:
    model = small("perceiver_io")
    s, tokens = _state(model), tokens_of(model)
    videos = []
    for v in range(4):
        sequence = []
        for modality, (name, track) in enumerate(tokens.items()):
            for step in track.present[v].nonzero()[:, 0].tolist():
                middle = float(track.spans[v, step].double().mean())
                periods = [2 * 1800 ** (band / 2) for band in range(3)]
                angles = [2 * math.pi * middle / period for period in periods]
                code = [*map(math.sin, angles), *map(math.cos, angles)]
                values = np.concatenate([track.values[v, step].double().numpy(), code])
                sequence.append(linear(s, f"project.{name}", values) + s["modality"][modality])
        if not sequence:
            videos.append({})
            continue
        latents = _cross(s, "encode_cross", list(s["latents"]), sequence, residual=True)
        for depth in range(2):
            latents = pre_norm(s, f"mix.layers.{depth}", latents, 2)
        (read,) = _cross(s, "decode_cross", list(s["query"]), latents, residual=False)
        videos.append({0: unit(linear(s, "head", read))})
    texts = [[unit(linear(s, "text_head", p))] for p in pooled_texts(model)]
    _agree(model, videos, texts, mean_cosine(videos, texts))


@torch.inference_mode()
def test_drl_matches_every_word_with_a_step_and_every_step_with_a_word() -> None:
    model = small("drl")
    assert isinstance(model, DRL)
    texts, videos = model.encode_texts(TEXTS), model.encode_videos(tokens_of(model))
    scores = model.similarity(texts, videos)
    s = _state(model)

    def tokens_and_weights(values: torch.Tensor, present: torch.Tensor, name: str) -> tuple[list, np.ndarray]:
        rows = [row.double().numpy() for row in values[present]]
        logits = [float(linear(s, f"{name}.2", np.maximum(linear(s, f"{name}.0", row), 0))[0]) for row in rows]
        exponentials = np.exp(np.array(logits) - max(logits, default=0))
        return [unit(row) for row in rows], exponentials / max(exponentials.sum(), 1e-12)

    for t in range(len(TEXTS)):
        words, word_weights = tokens_and_weights(texts.values[t], texts.present[t], "word_weight")
        for v in range(4):
            steps, step_weights = tokens_and_weights(videos.values[v], videos.present[v], "step_weight")
            expected = 0.0
            if steps:
                of_words = sum(
                    w * max(word @ step for step in steps) for w, word in zip(word_weights, words, strict=True)
                )
                of_steps = sum(
                    w * max(word @ step for word in words) for w, step in zip(step_weights, steps, strict=True)
                )
                expected = (of_words + of_steps) / 2
            assert float(scores[t, v]) == pytest.approx(expected, abs=2e-5)


def test_channels_are_decorrelated_over_matched_tokens() -> None:
    torch.manual_seed(0)
    words, steps = torch.randn(3, 4, 5, dtype=torch.float64), torch.randn(3, 6, 5, dtype=torch.float64)
    words_present, steps_present = torch.rand(3, 4) > 0.3, torch.rand(3, 6) > 0.3
    steps_present[2] = False  # nothing to match: its words count for nothing
    text, video = (words, words_present), (steps, steps_present)
    sides = (match_tokens(*text, *video), match_tokens(*video, *text))
    correlation = np.zeros((5, 5))
    for (one, one_present), (two, two_present) in ((text, video), (video, text)):
        pairs = []
        for item in range(3):
            others = [unit(row.numpy()) for row in two[item][two_present[item]]]
            for row in one[item][one_present[item]] if others else ():
                token = unit(row.numpy())
                pairs.append((token, max(others, key=lambda other, token=token: float(other @ token))))
        one_side, other_side = (np.array(column) for column in zip(*pairs, strict=True))
        one_side, other_side = ((rows - rows.mean(0)) / rows.std(0, ddof=1) for rows in (one_side, other_side))
        correlation += one_side.T @ other_side / len(pairs) / 2
    on = np.diagonal(correlation)
    expected = 0.5 * ((1 - on) ** 2).sum() + 0.1 * ((correlation**2).sum() - (on**2).sum())
    assert float(channel_decorrelation(sides, diagonal=0.5, off_diagonal=0.1)) == pytest.approx(expected, rel=1e-4)
    first = torch.arange(12).view(3, 4) == words_present.flatten().int().argmax()
    single = match_tokens(words, words_present & first, *video)
    assert int(single.used.sum()) == 1
    assert float(channel_decorrelation((single, sides[1]))) == 0


def test_an_interaction_with_nothing_is_zero_and_moves_nothing() -> None:
    words, steps = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 5, 4, requires_grad=True)
    present = torch.tensor([[True] * 5, [False] * 5])
    scores = weighted_interaction(words, torch.ones(2, 3).bool(), words.sum(2), steps, present, steps.sum(2))
    scores[:, 1].sum().backward()
    assert torch.equal(scores[:, 1].detach(), torch.zeros(2))
    assert words.grad is not None
    assert not words.grad.any()
    assert steps.grad is not None
    assert not steps.grad.any()


def _steps(values: torch.Tensor, counts: list[int]) -> Steps:
    present = torch.arange(values.shape[1]) < torch.tensor(counts)[:, None]
    return Steps(values, present, torch.zeros(*values.shape[:2], 2))


def test_a_shift_takes_the_first_features_of_the_next_step_and_the_second_ones_of_the_last() -> None:
    values = torch.randn(2, 4, 8)
    steps = _steps(values, [4, 2])
    shifted = shift_steps(steps, 0.5).values
    for v, count in enumerate([4, 2]):
        for step in range(4):
            expected = torch.zeros(8)
            if step < count:
                expected[4:] = values[v, step, 4:]
                expected[:2] = values[v, step + 1, :2] if step + 1 < count else 0
                expected[2:4] = values[v, step - 1, 2:4] if step else 0
            assert torch.equal(shifted[v, step], expected)
    assert shift_steps(steps, 0.0) is steps


def test_the_selected_steps_are_the_highest_in_order_of_time() -> None:
    torch.manual_seed(0)
    selection = TokenSelection(6, 3).eval()
    steps = _steps(torch.randn(3, 7, 6), [7, 2, 0])
    selected = selection(steps)
    assert selected.present.tolist() == [[True] * 3, [True, True, False], [False] * 3]
    scores = selection.scores(steps)
    best = sorted(sorted(range(7), key=lambda step: -float(scores[0, step].detach()))[:3])
    torch.testing.assert_close(selected.values[0], steps.values[0, best])
    torch.testing.assert_close(selected.values[1, :2], steps.values[1, :2])


def test_the_gradient_of_a_selection_is_that_of_its_expectation() -> None:
    """Of two steps the first is selected with probability Phi((a - b) / (sqrt(2) deviation)), whose slope is known."""
    torch.manual_seed(0)
    scores = torch.tensor([[0.03, 0.0]], requires_grad=True)
    shares = _PerturbedTop.apply(scores, torch.randn(1, 200_000, 2), 1, 0.05)
    shares[0, 0, 0].backward()
    reach = 0.05 * math.sqrt(2)
    assert float(shares[0, 0, 0].detach()) == pytest.approx(0.5 * (1 + math.erf(0.03 / reach / math.sqrt(2))), abs=0.01)
    slope = math.exp(-0.5 * (0.03 / reach) ** 2) / (reach * math.sqrt(2 * math.pi))
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, torch.tensor([[slope, -slope]]), rtol=0.03, atol=0)


def _gru(s: dict[str, np.ndarray], inputs: list[np.ndarray], state: np.ndarray) -> list[np.ndarray]:
    """States of a GRU, one input after the other."""
    states, hidden = [], len(state)
    for row in inputs:
        gates = s["decoder.gru.weight_ih_l0"] @ row + s["decoder.gru.bias_ih_l0"]
        memory = s["decoder.gru.weight_hh_l0"] @ state + s["decoder.gru.bias_hh_l0"]
        reset, update = (sigmoid(gates[part] + memory[part]) for part in (slice(hidden), slice(hidden, 2 * hidden)))
        new = np.tanh(gates[2 * hidden :] + reset * memory[2 * hidden :])
        state = (1 - update) * new + update * state
        states.append(state)
    return states


def test_ssb_tells_each_caption_from_other_clips() -> None:
    model = small("ssb").train()
    batch = batch_of(model)  # the first two clips are of one video
    s = _state(model)
    with torch.no_grad():
        losses = model.loss(batch)
        videos = model.encode_videos(batch.tokens).values[:, 0].double().numpy()
    texts = [unit(linear(s, "text_head", p)) for p in pooled_texts(model)]
    owner, expected = batch.video.tolist(), []
    for t, text in enumerate(texts):
        others = [v for v in range(4) if owner[v] != owner[t]]
        shares = np.exp(np.array([text @ videos[v] for v in others]) / 0.1)
        support = sum(share / shares.sum() * videos[v] for share, v in zip(shares, others, strict=True))
        words = [3 + zlib.crc32(word.encode()) % 40 for word in re.findall(r"\w+", TEXTS[t].lower())[:6]]
        inputs = [np.concatenate([s["decoder.words.weight"][word], support]) for word in [1, *words]]
        losses_of_words = []
        states = _gru(s, inputs, np.tanh(linear(s, "decoder.begin", support)))
        for state, word in zip(states, [*words, 2], strict=True):
            logits = s["decoder.words.weight"] @ state + s["decoder.bias"]
            losses_of_words.append(np.log(np.exp(logits).sum()) - logits[word])
        expected.append(np.mean(losses_of_words))
    assert list(losses) == ["max_margin", "caption"]
    assert float(losses["caption"]) == pytest.approx(np.mean(expected), rel=1e-4)
    scores = torch.tensor(np.array(texts) @ videos.T)
    margin = max_margin(scores, margin=0.2, hardest=True, negatives=batch.negatives)
    assert float(losses["max_margin"]) == pytest.approx(float(margin), rel=1e-3)


def test_ssb_fuses_the_steps_of_all_modalities() -> None:
    model = small("ssb")
    s, tokens = _state(model), tokens_of(model)
    videos = []
    for v in range(4):
        sequence = [
            linear(s, f"project.{name}", row) + s["kind"][list(model.experts).index(name)]
            for name, rows in rows_of(tokens, v).items()
            for row in rows
        ]
        for depth in range(2):
            sequence = pre_norm(s, f"mix.layers.{depth}", sequence, 2)
        videos.append({0: unit(linear(s, "head", sum(sequence) / len(sequence)))} if sequence else {})
    texts = [[unit(linear(s, "text_head", p))] for p in pooled_texts(model)]
    _agree(model, videos, texts, mean_cosine(videos, texts))


def test_ssb_without_other_clips_has_nothing_to_caption_from() -> None:
    model = small("ssb").train()
    batch = replace(batch_of(model), video=torch.zeros(4, dtype=torch.long))
    assert float(model.loss(batch)["caption"].detach()) == 0
