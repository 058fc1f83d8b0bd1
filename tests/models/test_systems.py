"""What single systems claim beside the contract; similarity and the ridge slot against plain forms."""

import pytest
import torch
from tests.models.worlds import batch_of, small

from reelseek.errors import ModelError
from reelseek.library.tokens import Steps
from reelseek.models import Embedding
from reelseek.models.blocks.linear import PENALTIES, POWERS, SHRINKAGES, LinearSlot, error_whitening, ridge
from reelseek.models.embed import embed_texts
from reelseek.models.embedding import similarity


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


@torch.inference_mode()
def test_concepts_put_labels_near_the_words_for_them() -> None:
    model = small("concepts")
    values = torch.zeros(2, 1, 1000)
    values[0, 0, 281] = values[1, 0, 504] = 1.0  # tabby, coffee mug
    steps = Steps(values, torch.ones(2, 1, dtype=torch.bool), torch.zeros(2, 1, 2))
    scores = model.similarity(
        model.encode_texts(["a cat on a chair", "a cup of coffee"]), model.encode_videos({"object": steps})
    )
    assert scores.argmax(1).tolist() == [0, 1]


def test_ridge_equals_its_normal_equations_and_ignores_what_is_absent() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 7, generator=generator)
    targets = inputs @ torch.randn(7, 3, generator=generator) + torch.randn(60, 3, generator=generator)
    found, kept = ridge(inputs, targets)
    scale = torch.linalg.svdvals(inputs).square().mean()
    ways = [torch.linalg.solve(inputs.T @ inputs + p * scale * torch.eye(7), inputs.T @ targets) for p in PENALTIES]
    assert min(float((found - way).abs().max()) for way in ways) < 1e-4
    ranks, left_out = [], []
    for penalty in PENALTIES:  # leave one out by hand: fit without each row, rank its own target by its prediction
        alone = []
        for row in range(60):
            keep = [i for i in range(60) if i != row]
            x, y = inputs[keep].double(), targets[keep].double()
            matrix = torch.linalg.solve(x.T @ x + penalty * scale * torch.eye(7).double(), x.T @ y)
            alone.append(inputs[row].double() @ matrix)
        left_out.append(torch.stack(alone))
        unit = torch.nn.functional.normalize
        scores = unit(targets.double(), dim=-1) @ unit(left_out[-1], dim=-1).T
        ranks.append(float((scores > scores.diagonal()[:, None]).sum(1).double().mean()))
    best = min(range(len(PENALTIES)), key=ranks.__getitem__)
    torch.testing.assert_close(found, ways[best], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(kept, left_out[best].float(), atol=1e-4, rtol=1e-3)


def _errors(seed: int, spread: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Predictions of 120 rows and 180 captions of them, off by errors of the given spread."""
    generator = torch.Generator().manual_seed(seed)
    alone = torch.randn(120, 6, generator=generator)
    owner = torch.cat([torch.arange(120), torch.arange(60)])
    return alone[owner] + torch.randn(180, 6, generator=generator) * spread, alone, owner


@pytest.mark.long
def test_trust_is_the_power_that_folds_rank_best_by() -> None:
    captions, alone, owner = _errors(0, torch.tensor([3.0, 2.0, 0.3, 0.3, 0.3, 0.3]))
    found = error_whitening(captions, alone, owner)

    def way(rows: torch.Tensor, power: float, shrinkage: float) -> torch.Tensor:
        errors = (captions - alone[owner])[rows].double()
        values, vectors = torch.linalg.eigh(errors.T @ errors / len(errors))
        values = (1 - shrinkage) * values + shrinkage * values.mean()
        matrix = vectors @ torch.diag(values ** (-power / 2)) @ vectors.T
        return matrix / torch.linalg.eigvalsh(matrix).mean()

    ranks = {}
    for power, shrinkage in [(0.0, 1.0), *((p, s) for p in POWERS for s in SHRINKAGES)]:
        total = 0.0
        for fold in range(4):
            matrix = way(owner % 4 != fold, power, shrinkage)
            inside = [i for i in range(180) if owner[i] % 4 == fold]
            below = 0
            for i in inside:
                own = {}
                for row in range(fold, 120, 4):
                    own[row] = float(
                        torch.cosine_similarity(captions[i].double() @ matrix, alone[row].double() @ matrix, 0)
                    )
                below += sum(score > own[int(owner[i])] for score in own.values())
            total += below / len(inside)
        ranks[power, shrinkage] = total
    best = min(ranks, key=lambda pair: ranks[pair])
    assert best[0] > 0
    torch.testing.assert_close(found, way(torch.ones(180, dtype=torch.bool), *best).float(), atol=1e-4, rtol=1e-4)


def test_directions_in_which_predictions_err_weigh_less_and_ranking_gains() -> None:
    spread = torch.tensor([4.0, 3.0, 0.2, 0.2, 0.2, 0.2])
    matrix = error_whitening(*_errors(0, spread))
    assert matrix[0, 0] < 0.5 * matrix[2, 2]
    captions, alone, owner = _errors(1, spread)

    def mean_rank(way: torch.Tensor) -> float:
        unit = torch.nn.functional.normalize
        scores = unit(captions @ way, dim=-1) @ unit(alone @ way, dim=-1).T
        return float((scores > scores.gather(1, owner[:, None])).sum(1).double().mean())

    assert mean_rank(matrix) < 0.5 * mean_rank(torch.eye(6))
    assert torch.equal(error_whitening(captions[:4], alone[:3], torch.tensor([0, 1, 2, 0])), torch.eye(6))


def test_the_linear_slot_leaves_clips_without_evidence_and_their_captions_out() -> None:
    generator = torch.Generator().manual_seed(0)
    slot = LinearSlot({"a": 5}, 4)
    rows, captions = torch.randn(40, 5, generator=generator), torch.randn(60, 4, generator=generator)
    owner = torch.cat([torch.arange(40), torch.arange(20)])
    there = torch.arange(40) % 4 != 3
    slot.fit({"a": (torch.where(there[:, None], rows, torch.tensor(0.0)), there)}, captions, owner)
    one = {name: value.clone() for name, value in slot.state_dict().items()}
    moved = torch.where(there[owner][:, None], captions, captions + 100)
    slot.fit({"a": (torch.where(there[:, None], rows, torch.tensor(0.0)), there)}, moved, owner)
    for name, value in slot.state_dict().items():
        assert torch.equal(value, one[name]), name


def test_what_a_system_gives_wrongly_is_said_before_anything_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("vse")
    batch = batch_of(model)
    with monkeypatch.context() as patch:
        patch.setattr(model, "slots", ("one", "two", "three"))
        for fails in (lambda: model.encode_videos(batch.tokens), lambda: embed_texts(model, "a cat")):
            with pytest.raises(ModelError, match=r"vse gave embeddings with \d slots, and its `slots` names 3"):
                fails()
    with monkeypatch.context() as patch:
        patch.setattr(model, "encode", lambda steps: torch.zeros(4, 1, 8))
        with pytest.raises(ModelError, match="encode of vse gave a Tensor; wanted an Embedding"):
            model.encode_videos(batch.tokens)
    monkeypatch.setattr(model, "terms", lambda batch: torch.zeros(()))
    with pytest.raises(ModelError, match="terms of vse gave a Tensor; wanted a dict"):
        model.loss(batch)


def test_eao_with_a_transformer_for_each_modality_is_one_transformer_as_long_as_their_weights_agree() -> None:
    # Supplement of EAO, C.2, "three separate modality-specific transformers".
    shared, apart = small("eao+single"), small("eao+per_modality")
    weights = {name: value for name, value in shared.state_dict().items() if not name.startswith("mix.")}
    mixed = {name.removeprefix("mix."): value for name, value in shared.mix.state_dict().items()}
    assert isinstance(apart.mix, torch.nn.ModuleDict)
    assert len(apart.mix) == len(apart.experts) + 1
    for transformer in apart.mix.values():
        transformer.load_state_dict(mixed)
    apart.load_state_dict({**apart.state_dict(), **weights})
    batch = batch_of(shared)
    torch.testing.assert_close(apart.encode_videos(batch.tokens).values, shared.encode_videos(batch.tokens).values)
    expected = shared.loss(batch)
    torch.testing.assert_close(apart.loss(batch), expected)

    # As published, a learned token stands for each absent modality and is averaged with the rest.
    masked = small("eao+per_modality", missing="mask")

    def alone(expert: str) -> torch.Tensor:
        embedding = masked.encode_videos({expert: batch.tokens[expert]})
        return embedding.values[embedding.present]

    name = next(iter(masked.experts))
    before = {expert: alone(expert) for expert in masked.experts}
    for parameter in masked.mix[name].parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    assert [expert for expert in before if not torch.equal(before[expert], alone(expert))] == [name]


@torch.inference_mode()
def test_joint_embeddings_read_as_many_steps_as_they_are_told() -> None:
    model = small("clip4clip", most_steps=3)
    (name, width), *_ = model.experts.items()
    values = torch.randn(2, 9, width)
    steps = Steps(values, torch.ones(2, 9, dtype=torch.bool), torch.zeros(2, 9, 2))
    changed = values.clone()
    rows = [row for row in range(9) if row not in (0, 4, 8)]
    changed[:, rows] = 0.0
    again = Steps(changed, steps.present, steps.spans)
    whole = small("clip4clip").eval()
    one, two = (model.eval().encode_videos({name: track}).values for track in (steps, again))
    torch.testing.assert_close(one, two)
    assert not torch.allclose(*(whole.encode_videos({name: track}).values for track in (steps, again)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vlad": {"smell": 2}}, "vlad names 'smell'"),
        ({"vlad_ghosts": {"ocr": 1}, "vlad": {}}, "vlad_ghosts names 'ocr'"),
        ({"widths": {"smell": 2}}, "widths names 'smell'"),
    ],
)
def test_a_mixture_refuses_settings_of_experts_that_it_lacks(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        small("mee", **settings)


@torch.inference_mode()
def test_ghosts_take_shares_of_the_steps_of_an_expert() -> None:
    plain, ghosted = small("mee"), small("mee", vlad_ghosts={"ocr": 2})
    pools = [model.pools.vlad["ocr"] for model in (plain, ghosted)]
    assert [tuple(pool.clusters.shape[1:]) for pool in pools] == [(2,), (4,)]
    assert plain.pools.widths == ghosted.pools.widths
