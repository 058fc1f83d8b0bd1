"""The packaged sentence encoder without transformers: the same numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from reelseek.errors import ExpertUnavailable
from reelseek.experts.efficientnet import imagenet_labels
from reelseek.experts.minilm import BertEncoder
from reelseek.experts.sentence import SentenceEncoder, packaged_encoder
from reelseek.models.shipped import SHIPPED, remember_shipped, shipped_vectors
from reelseek.models.systems import concepts

TEXTS = ["a dog on a beach", "x", "the museum opens at nine", "word " * 300, "ein Hund, ein Boot und das Meer"]


def _tokens(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [row.ids[:256] for row in packaged_encoder()._tokenizer().encode_batch(texts)]
    ids, mask = torch.zeros(2, len(rows), max(map(len, rows)), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)], mask[index, : len(row)] = torch.tensor(row), 1
    return ids, mask


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1], ["a cat", "a dog"]])
def test_hidden_states_are_those_of_transformers(texts: list[str]) -> None:
    folder = packaged_encoder().folder
    theirs = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    ids, mask = _tokens(texts)
    with torch.inference_mode():
        expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
        hidden = BertEncoder(folder)(ids, mask)
    present = mask.bool()
    torch.testing.assert_close(hidden[present], expected[present], atol=1e-6, rtol=0)


def test_weights_of_another_model_are_refused_by_name(tmp_path: Path) -> None:
    folder = packaged_encoder().folder
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    torch.save({}, tmp_path / "model.safetensors")  # no safetensors at all
    with pytest.raises(ExpertUnavailable, match=str(tmp_path)):
        SentenceEncoder(tmp_path).encode(["a dog"])


def test_an_encoder_of_another_form_is_still_computed(tmp_path: Path) -> None:
    folder = packaged_encoder().folder
    for name in ("tokenizer.json", "model.safetensors"):
        (tmp_path / name).symlink_to(folder / name)
    config = json.loads((folder / "config.json").read_text("utf-8")) | {"hidden_act": "relu"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    other = SentenceEncoder(tmp_path).encode(["a dog"])
    assert np.abs(other - packaged_encoder().encode(["a dog"])).max() > 1e-3


@pytest.mark.long
def test_the_shipped_vectors_are_those_of_the_encoder() -> None:
    encoder = SentenceEncoder(packaged_encoder().folder, by_the_letter=True)
    queries, labels = concepts.background_queries(), imagenet_labels()
    made = shipped_vectors(encoder, queries, labels)
    with np.load(SHIPPED, allow_pickle=False) as shipped:
        assert set(shipped) == set(made)
        assert str(shipped["of"]) == str(made["of"])
        for name in ("queries", "names"):
            np.testing.assert_allclose(shipped[name], made[name], atol=1e-6)


def test_vectors_of_other_texts_are_not_taken() -> None:
    encoder = SentenceEncoder(packaged_encoder().folder, by_the_letter=True)
    assert not remember_shipped(encoder, ["other", "queries"])
    assert not encoder.remembers(["other"])
    assert remember_shipped(encoder, concepts.background_queries())
    assert encoder.remembers([*concepts.background_queries(), "tench"])
