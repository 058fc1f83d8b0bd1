"""The public names: what a notebook or another package may rely on."""

import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

import reelseek
from reelseek import losses as reelseek_losses
from reelseek import metrics as reelseek_metrics
from reelseek.metrics import metrics, recall_at_k, retrieval_metrics
from reelseek.models.losses import info_nce, max_margin, mil_nce, mms, nce

# Every public name, and the module that holds it: what a release may not take away.
PUBLIC = {
    "reelseek": (
        "Clip Direction Embedding FeatureDataset Hit Library Measured RetrievalModel SYSTEMS Searcher add caption "
        "evaluate load_model localize probe read_recipe segment train"
    ),
    "reelseek.losses": "CombinatorialLoss CrossCLR CrossCLRConfig InfoNCE MILNCE MMS MaxMargin NCE",
    "reelseek.metrics": (
        "Direction RetrievalMetrics dual_softmax metrics recall_at_k retrieval_metrics text_to_video_ranks "
        "video_to_text_ranks"
    ),
    "reelseek.blocks": "FusionTransformer GatedUnit NetVLAD QueryPool masked_max masked_mean",
    "reelseek.models": (
        "Batch Embedding LearnedModel LossConfig RetrievalModel STRICT SYSTEMS Steps System SystemConfig TextConfig "
        "Tokens load_model"
    ),
    "reelseek.experts": (
        "DEFAULT_EXPERTS EXPERTS Expert FrameBatch FrameStream MODALITIES PerFrame Session SoundBatch SoundStream "
        "Subtitle SubtitleStream Text Track available expert_faults fingerprint known_experts likeliest load_expert "
        "spans_of_cells"
    ),
    "reelseek.testing": "ExpertContract SystemContract TEXTS random_batch random_tokens write_film",
}
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_are_one_list(module: str) -> None:
    loaded, names = import_module(module), PUBLIC[module].split()
    assert sorted(loaded.__all__) == sorted(names)
    assert set(names) <= set(dir(loaded))
    for name in names:
        item = getattr(loaded, name)
        assert not callable(item) or not hasattr(item, "__module__") or item.__doc__, f"{name} has no docstring"
    if module == "reelseek":
        assert sorted(dir(loaded)) == sorted(names)
        with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
            _ = loaded.nonsense


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
def test_names_of_the_documentation_are_exported(page: str) -> None:
    """`from reelseek... import a, b` and `reelseek.name` of README and the guides."""
    text = (ROOT / page).read_text("utf-8")
    imports = re.findall(r"^ *from (reelseek[\w.]*) import (?:\(([^)]*)\)|(.*))$", text, re.MULTILINE)
    for module, lines, line in imports:
        for name in re.findall(r"\w+", (lines or line).partition("#")[0]):
            assert hasattr(import_module(module), name), f"{page}: from {module} import {name}"
    for name in re.findall(r"`?reelseek\.([a-z_]+)\(", text):
        assert name in reelseek.__all__, f"{page}: reelseek.{name}"


def test_importing_does_no_work() -> None:
    command = "import reelseek, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


def test_metrics_of_a_square_matrix_need_no_further_words() -> None:
    similarity = np.array([[0.9, 0.1, 0.9], [0.2, 0.8, 0.1], [0.3, 0.4, 0.1]])
    measured = retrieval_metrics(similarity)
    assert measured.text_to_video.recall_at_1 == pytest.approx(1 / 3)  # the first is tied, and takes rank 1.5
    assert measured.text_to_video.mean_rank == pytest.approx((1.5 + 1 + 3) / 3)
    assert measured == retrieval_metrics(torch.tensor(similarity, requires_grad=True))
    assert recall_at_k(similarity, 5) == 1.0
    assert recall_at_k(torch.tensor(similarity)[:, :2], 1, [0, 1, 1]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("similarity", "message"),
    [
        (np.zeros((2, 3)), "not square"),
        (np.zeros(3), "wanted numbers"),
        (np.array([["a"]]), "wanted numbers"),
        (np.full((2, 2), np.nan), "holds NaN"),
    ],
)
def test_what_is_no_similarity_is_refused(similarity: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(similarity)


def test_metrics_of_ranks_refuse_a_matrix() -> None:
    with pytest.raises(ValueError, match="one rank per query"):
        metrics(np.random.default_rng(0).random((5, 5)))
    with pytest.raises(ValueError, match="ranks count from 1"):
        metrics(np.array([0.3, 1.0]))


def test_metrics_of_ranks_take_tensors_and_refuse_scores() -> None:
    ranks = [1.0, 2.5, 20.0]
    assert metrics(torch.tensor(ranks)) == metrics(np.array(ranks)) == metrics(ranks)
    assert metrics(torch.tensor([1, 3])).median_rank == 2.0
    for wrong in (torch.rand(4, 4), np.array([1.3, 7.2]), [1.0, np.inf], [1.0, np.nan], ["a"], [], 3.0, [True]):
        with pytest.raises(ValueError, match="rank"):
            metrics(wrong)


def test_ties_take_the_mean_rank_in_both_directions() -> None:
    similarity = torch.full((4, 4), 0.5)
    for direction in (reelseek_metrics.text_to_video_ranks, reelseek_metrics.video_to_text_ranks):
        assert direction(similarity).tolist() == [2.5] * 4
        assert direction(similarity.numpy()).tolist() == [2.5] * 4
    assert retrieval_metrics(similarity.bfloat16()).text_to_video.recall_at_1 == 0
    with pytest.raises(ValueError, match="one column number"):
        retrieval_metrics(similarity, [0.5, 1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="out of range"):
        retrieval_metrics(similarity, [0, 1, 2, 4])


def _naive_combinatorial(
    rows: dict[str, torch.Tensor], present: dict[str, torch.Tensor], weights: dict[str, float]
) -> torch.Tensor:
    """Equation 4 item by item; fused views are means of unit vectors."""
    unit = {name: row / row.norm(dim=1, keepdim=True) for name, row in rows.items()}
    names, total, parts = list(rows), 0.0, []
    terms = [((a,), (b,)) for a, b in combinations(names, 2)]
    terms += [((a,), pair) for a in names for pair in combinations(names, 2) if a not in pair]
    for one, two in terms:
        items = [i for i in range(len(rows["text"])) if all(present[name][i] for name in (*one, *two))]
        if not items:
            continue
        x, y = (torch.stack([sum(unit[n][i] for n in view) for i in items]) for view in (one, two))
        x, y = x / x.norm(dim=1, keepdim=True), y / y.norm(dim=1, keepdim=True)
        loss = torch.zeros(())
        for i in range(len(items)):
            scores, back = (x[i] @ y.T) / 0.05, (y[i] @ x.T) / 0.05
            loss = loss + (scores.logsumexp(0) - scores[i] + back.logsumexp(0) - back[i]) / len(items)
        weight = weights["+".join(one) + "|" + "+".join(two)]
        parts.append(weight * loss)
        total += weight
    return torch.stack(parts).sum() / total


def test_the_combinatorial_loss_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = {name: torch.randn(6, 8, generator=generator).requires_grad_() for name in ("text", "video", "audio")}
    present = {name: torch.ones(6) > 0 for name in rows}
    present["audio"] = torch.tensor([True, True, False, True, False, True])
    loss = reelseek_losses.CombinatorialLoss()
    assert loss.weights["text|video"] == 1.0
    assert sorted(loss.weights.values()) == [0.1] * 5 + [1.0]
    for module in (loss, reelseek_losses.CombinatorialLoss(weights={"text|audio": 0.0})):
        expected = _naive_combinatorial(rows, present, module.weights)
        computed = module(rows, {"audio": present["audio"]})
        torch.testing.assert_close(computed, expected)
        for one, two in zip(
            torch.autograd.grad(computed, list(rows.values())), torch.autograd.grad(expected, list(rows.values())),
            strict=True,
        ):  # fmt: skip
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_the_combinatorial_loss_by_views_and_with_absent_modalities() -> None:
    generator = torch.Generator().manual_seed(0)
    loss = reelseek_losses.CombinatorialLoss(weights={})
    views = {view: torch.randn(5, 8, generator=generator) for view in ("text", "video", "audio", "text+video")}
    views |= {("audio", "video"): torch.randn(5, 8, generator=generator), "audio+text": views["text"]}
    renamed = {("+".join(view) if isinstance(view, tuple) else view): rows for view, rows in views.items()}
    assert torch.equal(loss(views), loss(renamed))
    audio = torch.tensor([True, False, True, True, False])
    spoilt = {
        view: torch.where(audio[:, None] | ("audio" not in view), rows, torch.nan) for view, rows in views.items()
    }
    assert torch.equal(loss(spoilt, {"audio": audio}), loss(views, {"audio": audio}))
    copies = torch.tensor([0, 0, 1, 2, 3])  # the first two are no negatives of each other
    assert loss(views, ids=copies) < loss(views)
    row = torch.randn(5, 8, requires_grad=True)
    nothing = loss({**renamed, "text": row}, dict.fromkeys(("text", "video", "audio"), torch.zeros(5) > 0))
    assert nothing.item() == 0
    assert not torch.autograd.grad(nothing, row)[0].any()
    assert torch.isfinite(reelseek_losses.CombinatorialLoss(("a", "b", "c", "d"))(dict.fromkeys("abcd", row)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rows: reelseek_losses.CombinatorialLoss()({"text": rows}), "no embedding of video, audio"),
        (lambda rows: reelseek_losses.CombinatorialLoss()({"smell": rows}), "'smell' is no view"),
        (lambda rows: reelseek_losses.CombinatorialLoss(("text", "video"))({"text": rows, "video": rows[:2]}),
         "differ in shape"),
        (lambda rows: reelseek_losses.CombinatorialLoss(("a", "b"))({"a": rows, "b": rows}, {"a": torch.ones(3)}),
         "give bool"),
        (lambda rows: reelseek_losses.CombinatorialLoss(("a", "b"))({"a": rows, "b": rows}, ids=torch.ones(2)),
         "one number for each"),
        (lambda rows: reelseek_losses.CombinatorialLoss(("a", "a")), "each once"),
        (lambda rows: reelseek_losses.CombinatorialLoss("text"), "each once"),
        (lambda rows: reelseek_losses.CombinatorialLoss(weights={"video|text": 1.0}), "which is no term"),
        (lambda rows: reelseek_losses.CombinatorialLoss(weights={"text|video": -1.0}), "0 or more"),
        (lambda rows: reelseek_losses.InfoNCE()(rows[None], rows[None]), r"\[item, dim\]"),
        (lambda rows: reelseek_losses.InfoNCE()(rows.long(), rows.long()), "floating-point"),
        (lambda rows: reelseek_losses.InfoNCE()(rows[:0], rows[:0]), "floating-point"),
        (lambda rows: reelseek_losses.MaxMargin(margin=-1), "0 or more"),
        (lambda rows: reelseek_losses.MILNCE()(rows[:0], rows), r"\[item, dim\]"),
        (lambda rows: reelseek_losses.CrossCLR()(rows, rows, rows[:2]), r"\[3, dim\]"),
        (lambda rows: reelseek_losses.CrossCLR()(rows, rows, ids=torch.ones(2)), "one number for each"),
        (lambda rows: reelseek_losses.CrossCLR(reelseek_losses.CrossCLRConfig(queue=4), dim=7)(rows, rows),
         r"\[3, 7\]"),
    ],
)  # fmt: skip
def test_wrong_input_of_a_loss_is_one_error(call: Callable[[torch.Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.rand(3, 4))


def test_losses_are_modules_over_embeddings_with_published_defaults() -> None:
    generator = torch.Generator().manual_seed(0)
    video, text = (torch.randn(6, 8, generator=generator).requires_grad_() for _ in range(2))
    cosines = torch.nn.functional.normalize(text, dim=-1) @ torch.nn.functional.normalize(video, dim=-1).T
    expected = {
        reelseek_losses.MaxMargin(): max_margin(cosines, margin=0.05),
        reelseek_losses.InfoNCE(): info_nce(cosines, temperature=0.05),
        reelseek_losses.NCE(): nce(cosines, temperature=0.05),
        reelseek_losses.MMS(): mms(cosines, margin=0.001),
        reelseek_losses.MILNCE(): mil_nce(text @ video.T),
    }
    for loss, value in expected.items():
        assert torch.allclose(loss(video, text), value), loss
    for loss in (*expected, reelseek_losses.CrossCLR()):
        (gradient,) = torch.autograd.grad(loss(video, text), video)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0, loss


def test_crossclr_takes_inputs_and_keeps_a_queue() -> None:
    config = reelseek_losses.CrossCLRConfig(queue=8)
    loss = reelseek_losses.CrossCLR(config, dim=4, input_dims=(5, 3))
    generator = torch.Generator().manual_seed(1)
    rows = [torch.rand(6, width, generator=generator) for width in (4, 4, 5, 3)]
    assert torch.isfinite(loss(*rows))
    assert loss.loss.queue_x.abs().sum() > 0
    with pytest.raises(ValueError, match="say their width with dim"):
        reelseek_losses.CrossCLR(config)


def test_losses_refuse_what_is_not_paired() -> None:
    with pytest.raises(ValueError, match="wanted \\[item, dim\\] of both"):
        reelseek_losses.MaxMargin()(torch.zeros(3, 4), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="as many texts for each video"):
        reelseek_losses.MILNCE()(torch.zeros(3, 4), torch.zeros(4, 4))
    with pytest.raises(ValueError, match="more than 0"):
        reelseek_losses.InfoNCE(temperature=0)
