"""The claims of every system, over the whole registry. An entry that is not here cannot land."""

import logging
from pathlib import Path

import pytest
import torch
from tests.models.worlds import SMALL, TEXTS, batch_of, small, tokens_of

from reelseek.errors import ModelError
from reelseek.library.tokens import Steps
from reelseek.models import SYSTEMS, RetrievalModel, load_model

TRAINED = [name for name in SMALL if SYSTEMS[name.partition("+")[0]].trained]


def test_every_entry_is_held_to_the_contract() -> None:
    assert {name.partition("+")[0] for name in SMALL} == set(SYSTEMS)


@pytest.fixture(params=list(SMALL))
def model(request: pytest.FixtureRequest) -> RetrievalModel:
    return small(request.param)


def _changed(tokens: dict[str, Steps], how: object) -> dict[str, Steps]:
    return {name: how(steps) for name, steps in tokens.items()}  # type: ignore[operator]


@torch.inference_mode()
def test_absent_values_change_nothing_bitwise(model: RetrievalModel) -> None:
    tokens = tokens_of(model)
    one = model.encode_videos(tokens)
    for spoil in (torch.nan, 1e30):
        spoiled = _changed(
            tokens,
            lambda s, spoil=spoil: Steps(torch.where(s.present[..., None], s.values, spoil), s.present, s.spans),
        )
        two = model.encode_videos(spoiled)
        assert torch.equal(one.present, two.present)
        assert torch.equal(one.values, two.values)
        assert torch.isfinite(two.values).all()
    without = {name: steps for name, steps in tokens.items() if name != next(reversed(tokens))}
    if without:
        last = next(reversed(tokens))
        absent = {
            **tokens,
            last: Steps(tokens[last].values, torch.zeros_like(tokens[last].present), tokens[last].spans),
        }
        not_given, not_there = model.encode_videos(without), model.encode_videos(absent)
        assert torch.equal(not_given.present, not_there.present)
        there = not_given.present
        torch.testing.assert_close(not_given.values[there], not_there.values[there], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_padding_and_company_change_nothing(model: RetrievalModel) -> None:
    tokens = tokens_of(model)
    whole = model.encode_videos(tokens)

    def padded(s: Steps) -> Steps:
        return Steps(
            torch.cat([s.values, torch.full_like(s.values, 7)], 1),
            torch.cat([s.present, torch.zeros_like(s.present)], 1),
            torch.cat([s.spans, s.spans], 1),
        )

    longer = model.encode_videos(_changed(tokens, padded))
    torch.testing.assert_close(longer.values[whole.present], whole.values[whole.present], atol=1e-5, rtol=0)
    for row in range(4):
        alone = _changed(tokens, lambda s, row=row: Steps(*(x[row : row + 1] for x in (s.values, s.present, s.spans))))
        single, there = model.encode_videos(alone), whole.present[row : row + 1]
        assert torch.equal(single.present, there)
        torch.testing.assert_close(single.values[there], whole.values[row : row + 1][there], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_texts_do_not_depend_on_their_company(model: RetrievalModel) -> None:
    whole = model.encode_texts(TEXTS)
    for row, text in enumerate(TEXTS):
        alone = model.encode_texts([text])
        torch.testing.assert_close(alone.values[0], whole.values[row], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.weights[0], whole.weights[row], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_permuting_videos_permutes_outputs(model: RetrievalModel) -> None:
    tokens, order = tokens_of(model), torch.tensor([2, 0, 3, 1])
    mixed = _changed(tokens, lambda s: Steps(s.values[order], s.present[order], s.spans[order]))
    one, two = model.encode_videos(tokens), model.encode_videos(mixed)
    torch.testing.assert_close(one.values[order][two.present], two.values[two.present], atol=1e-6, rtol=0)


@torch.inference_mode()
def test_one_modality_alone_and_none_at_all(model: RetrievalModel) -> None:
    tokens = tokens_of(model)
    texts = model.encode_texts(["a cat", "a dog"])
    for name, steps in tokens.items():
        found = model.encode_videos({name: steps})
        assert not found.present[~steps.present.any(1)].any()
        scores = model.similarity(texts, found)
        assert torch.isfinite(scores).all()
        assert (scores[:, ~steps.present.any(1)] == 0).all()
    nothing = _changed(tokens, lambda s: Steps(s.values, torch.zeros_like(s.present), s.spans))
    assert torch.equal(model.similarity(texts, model.encode_videos(nothing)), torch.zeros(2, 4))


@torch.inference_mode()
def test_saved_and_loaded_it_is_the_same_to_the_bit(model: RetrievalModel, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert again.system == model.system
    assert again.fingerprint == model.fingerprint
    tokens = tokens_of(model)
    assert torch.equal(again.encode_videos(tokens).values, model.encode_videos(tokens).values)
    assert torch.equal(again.encode_texts(["a cat"]).values, model.encode_texts(["a cat"]).values)
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["README.md", "config.json", "model.safetensors"]


@torch.inference_mode()
def test_half_precision_stays_near(model: RetrievalModel) -> None:
    """bfloat16 keeps eight bits: cosines of texts and videos move by less than .05, raw dots by 5 % of the largest."""
    tokens = tokens_of(model)
    wanted = model.similarity(model.encode_texts(TEXTS), model.encode_videos(tokens))
    with torch.autocast("cpu", torch.bfloat16):
        videos, texts = model.encode_videos(tokens), model.encode_texts(TEXTS)
    found = model.similarity(texts, videos).float()
    assert (found - wanted).abs().max() < 0.05 * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_reach_every_parameter(name: str) -> None:
    model = small(name).train()
    terms = model.loss(batch_of(model))
    total = torch.stack(list(terms.values())).sum()
    assert torch.isfinite(total)
    total.backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None}
    for parameter, value in model.named_parameters():
        if parameter.startswith(model.unused):
            assert parameter not in reached or not value.grad.any(), f"{parameter} is declared unused and is not"
            continue
        assert value.grad is not None, parameter
        assert torch.isfinite(value.grad).all(), parameter


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_makes_the_loss_smaller(name: str) -> None:
    model = small(name).train()
    batch = batch_of(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
    losses = []
    for _ in range(12):
        torch.manual_seed(0)
        loss = torch.stack(list(model.loss(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[-3:]) < losses[0] or losses[0] < 1e-6


@pytest.mark.parametrize("name", TRAINED)
def test_absent_values_change_no_gradient(name: str) -> None:
    gradients = []
    for spoil in (0.0, torch.nan):
        model = small(name).train()
        batch = batch_of(model)
        tokens = _changed(
            dict(batch.tokens),
            lambda s, spoil=spoil: Steps(torch.where(s.present[..., None], s.values, spoil), s.present, s.spans),
        )
        torch.manual_seed(0)
        terms = model.loss(type(batch)(tokens, batch.texts, batch.video))
        torch.stack(list(terms.values())).sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for parameter, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][parameter]), parameter


def test_bad_input_is_refused_in_words(model: RetrievalModel, tmp_path: Path) -> None:
    tokens = tokens_of(model)
    name, steps = next(iter(tokens.items()))
    with pytest.raises(ModelError, match="not built for 'smell'"):
        model.encode_videos({"smell": steps})
    narrow = Steps(steps.values[..., :3], steps.present, steps.spans)
    with pytest.raises(ModelError, match=f"wants {name} of width {steps.values.shape[2]}, and was given width 3"):
        model.encode_videos({name: narrow})
    with pytest.raises(ModelError, match="no features"):
        model.encode_videos({})
    with pytest.raises(ModelError, match="empty text"):
        model.encode_texts(["fine", " "])
    model.save(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("name", TRAINED)
def test_long_texts_are_cut_with_a_count(name: str, caplog: pytest.LogCaptureFixture) -> None:
    model = small(name)
    text = getattr(model, "text", None)
    assert text is not None
    with caplog.at_level(logging.WARNING, "reelseek"):
        model.encode_texts(["word " * 600])
    if text.left_out:
        assert "tokens were left out" in caplog.text
    else:  # the sentence encoder's own vector counts for itself
        from reelseek.experts.sentence import sentence_encoder

        assert sentence_encoder().truncated


def test_published_as_needing_everything_they_can_refuse() -> None:
    for name in ("mbt", "token_fusion", "avlnet", "zorro", "mmt"):
        model = small(name, missing="refuse")
        with pytest.raises(ModelError, match=r"lack object; set model.missing to mask"):
            model.encode_videos(tokens_of(model))


def test_settings_that_do_not_fit_are_refused_in_words(tmp_path: Path) -> None:
    for name, settings, said in (
        ("mmt", {"depht": 3}, "wrong: depht"),
        ("mmt", {"width": 30, "heads": 4}, "cannot be divided"),
        ("vse", {"loss": {"name": "hinge"}}, "no loss is called 'hinge'"),
        ("vse", {"loss": {"name": "nce", "settings": {"margin": 1.0}}}, "no setting 'margin'"),
        ("eao", {"spectrograms": {"sound": {}}}, "which is none of"),
        ("eao", {"pool": "cls"}, "shared_head"),
        ("eao", {"weights": {"text|vidoe": 1.0}}, "no term of the loss"),
        ("crossclr", {"local": {"quee": 3}}, "wrong: local.quee"),
        ("coot", {"together": (("object",),)}, "together names object"),
        ("multi_cues", {"spaces": (("smell",),)}, "disagree on 'smell'"),
        ("clip4clip", {"experts": {"clip": 10}}, "keeps a width of 512, and the other side has 10"),
        ("mmt", {"experts": {}}, "experts"),
        ("mmt", {"text": {"encoder": "/no/such/folder"}}, "neither a folder"),
    ):
        with pytest.raises(ModelError, match=said):
            SYSTEMS[name].build({"experts": DIMS, **settings})
    with pytest.raises(ModelError, match="not a model"):
        load_model(tmp_path)
    model = small("vse")
    model.save(tmp_path / "m")
    config = (tmp_path / "m" / "config.json").read_text().replace('"vse"', '"mmt"')
    (tmp_path / "m" / "config.json").write_text(config)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(tmp_path / "m")


DIMS = {"object": 1000, "speech": 384, "ocr": 384}
