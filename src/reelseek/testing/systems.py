"""The contract of a system: what a model of it has to keep, whatever it computes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor

from reelseek.errors import ModelError
from reelseek.library.tokens import Steps
from reelseek.models import SYSTEMS, RetrievalModel, load_model
from reelseek.testing.inputs import TEXTS, random_batch, random_tokens

__all__ = ["SystemContract"]

Build = Callable[[], RetrievalModel]


class SystemContract:
    """Tests of one system; a subclass names it, or overrides `build` with a fixture of several.

    Attributes:
        system: its name in SYSTEMS.
        settings: of its configuration; small sizes make fast tests. `experts` defaults to two.
        tolerance: by how much padding, company and order in a batch may change an embedding.
    """

    system: str = ""
    settings: Mapping[str, Any] = MappingProxyType({})
    tolerance: float = 1e-5

    @pytest.fixture
    def build(self) -> Build:
        """A function that builds the same model each time, with random weights, in evaluation mode."""
        assert self.system, 'name the system: `system = "my_system"`, or override the fixture `build`'

        def build_model() -> RetrievalModel:
            torch.manual_seed(0)
            experts = {"object": 1000, "speech": 384}
            return SYSTEMS[self.system].build({"experts": experts, **self.settings}).eval()

        return build_model

    @pytest.fixture
    def model(self, build: Build) -> RetrievalModel:
        return build()

    @pytest.fixture
    def trained(self, model: RetrievalModel, build: Build) -> Build:
        """`build`, of a system that is trained."""
        if not SYSTEMS[model.system].trained:
            pytest.skip("it is used as it is, without training")
        return build

    # Absence is only a mask

    @torch.inference_mode()
    def test_absent_values_change_nothing_bitwise(self, model: RetrievalModel) -> None:
        tokens = random_tokens(model)
        clean = model.encode_videos(tokens)
        for value in (torch.nan, 1e30):
            spoilt = model.encode_videos(_spoil(tokens, value))
            assert torch.equal(clean.present, spoilt.present)
            assert torch.equal(clean.values, spoilt.values)
            assert torch.isfinite(spoilt.values).all()

    @torch.inference_mode()
    def test_an_expert_that_is_not_given_is_absent(self, model: RetrievalModel) -> None:
        tokens = random_tokens(model)
        last = next(reversed(tokens))
        fewer = {name: steps for name, steps in tokens.items() if name != last}
        if not fewer:
            return  # a system of one expert
        omitted, absent = model.encode_videos(fewer), model.encode_videos({**tokens, last: _absent(tokens[last])})
        assert torch.equal(omitted.present, absent.present)
        rows = omitted.present
        torch.testing.assert_close(omitted.values[rows], absent.values[rows], atol=self.tolerance, rtol=0)

    @torch.inference_mode()
    def test_a_slot_apart_needs_its_own_expert_alone(self, model: RetrievalModel) -> None:
        """Search leaves out an expert by masking its slot, if the system says that this is the same."""
        if not model.slots_apart:
            return
        tokens = random_tokens(model)
        full = model.encode_videos(tokens)
        for slot, name in enumerate(model.slots):
            if name not in tokens:
                continue
            without = model.encode_videos({**tokens, name: _absent(tokens[name])})
            assert not without.present[:, slot].any()
            others = full.present.clone()
            others[:, slot] = False
            assert torch.equal(without.present, others)
            torch.testing.assert_close(without.values[others], full.values[others], atol=self.tolerance, rtol=0)

    @torch.inference_mode()
    def test_one_modality_alone_and_none_at_all(self, model: RetrievalModel) -> None:
        tokens = random_tokens(model)
        texts = model.encode_texts(["a cat", "a dog"])
        for name, steps in tokens.items():
            videos, absent = model.encode_videos({name: steps}), ~steps.present.any(1)
            assert not videos.present[absent].any()
            scores = model.similarity(texts, videos)
            assert torch.isfinite(scores).all()
            assert (scores[:, absent] == 0).all()
        nothing = model.encode_videos({name: _absent(steps) for name, steps in tokens.items()})
        assert torch.equal(model.similarity(texts, nothing), torch.zeros(2, 4))

    @torch.inference_mode()
    def test_every_slot_has_a_name(self, model: RetrievalModel) -> None:
        """Search and its reasons speak of slots by name."""
        model.check_embedding(model.encode_videos(random_tokens(model)), "encode_videos")
        model.check_embedding(model.encode_texts(TEXTS), "encode_texts")

    # Rows of a batch do not meet

    @torch.inference_mode()
    def test_padding_and_company_change_nothing(self, model: RetrievalModel) -> None:
        tokens = random_tokens(model)
        batch = model.encode_videos(tokens)
        padded = model.encode_videos({name: _pad(steps) for name, steps in tokens.items()})
        rule = "steps that are padding change an embedding; average or attend over `expert.present` alone"
        self._close(padded.values[batch.present], batch.values[batch.present], rule)
        for row in range(4):
            alone = model.encode_videos({name: _rows(steps, slice(row, row + 1)) for name, steps in tokens.items()})
            present = batch.present[row : row + 1]
            assert torch.equal(alone.present, present)
            self._close(alone.values[present], batch.values[row : row + 1][present])

    @torch.inference_mode()
    def test_permuting_videos_permutes_outputs(self, model: RetrievalModel) -> None:
        tokens, order = random_tokens(model), torch.tensor([2, 0, 3, 1])
        videos = model.encode_videos(tokens)
        permuted = model.encode_videos({name: _rows(steps, order) for name, steps in tokens.items()})
        self._close(videos.values[order][permuted.present], permuted.values[permuted.present])

    @torch.inference_mode()
    def test_texts_do_not_depend_on_their_company(self, model: RetrievalModel) -> None:
        batch = model.encode_texts(TEXTS)
        for row, text in enumerate(TEXTS):
            alone = model.encode_texts([text])
            present = alone.present[0]
            assert torch.equal(present, batch.present[row])
            self._close(alone.values[0][present], batch.values[row][present])
            self._close(alone.weights[0], batch.weights[row])

    @torch.inference_mode()
    def test_one_string_is_one_text(self, model: RetrievalModel) -> None:
        string, sequence = model.encode_texts("a cat"), model.encode_texts(["a cat"])
        assert len(string) == 1
        assert torch.equal(string.values, sequence.values)
        assert torch.equal(string.weights, sequence.weights)
        assert model.reads("a cat").tolist() == model.reads(["a cat"]).tolist()

    # The similarity by which search, training and evaluation rank

    @torch.inference_mode()
    def test_the_similarity_of_a_pair_is_its_own(self, model: RetrievalModel) -> None:
        texts, videos = model.encode_texts(TEXTS), model.encode_videos(random_tokens(model))
        scores = model.similarity(texts, videos)
        assert scores.shape == (len(TEXTS), 4)
        for row in range(4):
            self._close(model.similarity(texts[row : row + 1], videos)[0], scores[row])
            self._close(model.similarity(texts, videos[row : row + 1])[:, 0], scores[:, row])

    @torch.inference_mode()
    def test_search_finds_candidates_by_the_same_embeddings(self, model: RetrievalModel) -> None:
        texts, videos = model.encode_texts(TEXTS), model.encode_videos(random_tokens(model))
        if not model.pairwise:
            self._close(model.contributions(texts, videos).sum(-1), model.similarity(texts, videos))
        one, two = model.coarse_texts(texts), model.coarse_videos(videos)
        assert one.values.shape[1:] == two.values.shape[1:]
        for coarse in (one, two):
            assert torch.isfinite(coarse.values[coarse.present]).all()

    @torch.inference_mode()
    def test_half_precision_stays_near(self, model: RetrievalModel) -> None:
        """bfloat16 has eight bits: cosines move by less than .05, raw dots by 5 % of the largest."""
        tokens = random_tokens(model)
        expected = model.similarity(model.encode_texts(TEXTS), model.encode_videos(tokens))
        with torch.autocast("cpu", torch.bfloat16):
            videos, texts = model.encode_videos(tokens), model.encode_texts(TEXTS)
        scores = model.similarity(texts, videos).float()
        assert (scores - expected).abs().max() < 0.05 * max(1.0, float(expected.abs().max()))

    # Saved models and bad input

    @torch.inference_mode()
    def test_saved_and_loaded_it_is_the_same_to_the_bit(self, model: RetrievalModel, tmp_path: Path) -> None:
        for folder in (tmp_path / "m", str(tmp_path / "n")):
            model.save(folder)
        again = load_model(str(tmp_path / "m"))
        assert again.system == model.system
        assert again.fingerprint == model.fingerprint == load_model(tmp_path / "n").fingerprint
        tokens = random_tokens(model)
        assert torch.equal(again.encode_videos(tokens).values, model.encode_videos(tokens).values)
        assert torch.equal(again.encode_texts(["a cat"]).values, model.encode_texts(["a cat"]).values)
        assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["README.md", "config.json", "model.safetensors"]

    def test_bad_input_is_refused_in_words(self, model: RetrievalModel, tmp_path: Path) -> None:
        name, steps = next(iter(random_tokens(model).items()))
        with pytest.raises(ModelError, match="not built for 'smell'"):
            model.encode_videos({"smell": steps})
        narrow = Steps(steps.values[..., :3], steps.present, steps.spans)
        with pytest.raises(ModelError, match=rf"{name} of width {steps.values.shape[2]}.* width 3"):
            model.encode_videos({name: narrow})
        with pytest.raises(ModelError, match="no features"):
            model.encode_videos({})
        with pytest.raises(ModelError, match="empty text"):
            model.encode_texts(["fine", " "])
        model.save(tmp_path / "m")
        (tmp_path / "m" / "model.safetensors").write_bytes(b"\x80\x04pickle")
        with pytest.raises(ModelError, match="cannot be loaded"):
            load_model(tmp_path / "m")

    # Training

    def test_gradients_reach_every_parameter(self, trained: Build) -> None:
        model = trained().train()
        total = _total(model.loss(random_batch(model)))
        assert torch.isfinite(total)
        total.backward()
        for name, parameter in model.named_parameters():
            if name.startswith(model.unused):
                assert parameter.grad is None or not parameter.grad.any(), f"{name} is declared unused and is not"
                continue
            assert parameter.grad is not None, f"no loss reaches {name}; if none shall, name it in `unused`"
            assert torch.isfinite(parameter.grad).all(), name

    def test_a_model_is_called_for_its_loss(self, trained: Build) -> None:
        """What `DistributedDataParallel` and `torch.compile` call is `forward`."""
        called, direct = trained().train(), trained().train()
        batch = random_batch(called)
        torch.manual_seed(0)
        terms = called(batch)
        torch.manual_seed(0)
        expected = direct.loss(batch)
        assert terms.keys() == expected.keys()
        for name in terms:
            assert torch.equal(terms[name], expected[name]), name

    def test_a_step_makes_the_loss_smaller(self, trained: Build) -> None:
        model = trained().train()
        batch = random_batch(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
        losses = []
        for _ in range(6):
            torch.manual_seed(0)
            loss = _total(model.loss(batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert min(losses[-3:]) < losses[0] or losses[0] < 1e-6

    def test_absent_values_change_no_gradient(self, trained: Build) -> None:
        gradients = []
        for value in (0.0, torch.nan):
            model = trained().train()
            batch = random_batch(model)
            torch.manual_seed(0)
            _total(model.loss(replace(batch, tokens=_spoil(dict(batch.tokens), value)))).backward()
            gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        assert gradients[0].keys() == gradients[1].keys()
        for name, gradient in gradients[0].items():
            assert torch.equal(gradient, gradients[1][name]), name

    def _close(self, one: Tensor, two: Tensor, rule: str = "") -> None:
        torch.testing.assert_close(
            one, two, atol=self.tolerance, rtol=0, msg=lambda difference: f"{rule}\n{difference}".strip()
        )


def _total(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def _spoil(tokens: dict[str, Steps], value: float) -> dict[str, Steps]:
    """Put a value wherever nothing is present."""
    return {
        name: Steps(torch.where(steps.present[..., None], steps.values, value), steps.present, steps.spans)
        for name, steps in tokens.items()
    }


def _absent(steps: Steps) -> Steps:
    return Steps(steps.values, torch.zeros_like(steps.present), steps.spans)


def _pad(steps: Steps) -> Steps:
    return Steps(
        torch.cat([steps.values, torch.full_like(steps.values, 7)], 1),
        torch.cat([steps.present, torch.zeros_like(steps.present)], 1),
        torch.cat([steps.spans, steps.spans], 1),
    )


def _rows(steps: Steps, rows: slice | Tensor) -> Steps:
    return Steps(steps.values[rows], steps.present[rows], steps.spans[rows])
