"""A sentence encoder of one's own choice, such as a multilingual one, in the place of the packaged one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedModel, PreTrainedTokenizerFast

from reelseek.errors import ExpertUnavailable, UsageError
from reelseek.experts.hub import load_pretrained
from reelseek.experts.sentence import SENTENCE_DIM, SentenceEncoder, packaged_encoder, sentence_encoder
from reelseek.library import Library, add
from reelseek.models.text import TextConfig, TextEncoder
from reelseek.models.text_networks import load_encoder
from reelseek.search import Searcher

WORDS = ("[PAD]", "[UNK]", "зебра", "спит", "под", "деревом", "狗", "a", "dog")


def _write_encoder(folder: Path, *, width: int = SENTENCE_DIM) -> Path:
    """Random weights of BERT's form, and a vocabulary of Russian and Chinese words."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=width, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_an_encoder_reads_what_its_vocabulary_has(tmp_path: Path) -> None:
    encoder = SentenceEncoder(_write_encoder(tmp_path / "multi"))
    assert encoder.reads(["зебра спит", "狗", "жираф идёт", "a dog"]).tolist() == [True, True, False, True]
    assert packaged_encoder().reads(["зебра спит", "狗", "a dog"]).tolist() == [False, False, True]
    assert encoder.encode(["зебра спит"]).shape == (1, SENTENCE_DIM)
    assert encoder.language == "the words that multi knows"


def test_an_encoder_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExpertUnavailable, match="is 32 wide; wanted 384"):
        SentenceEncoder(_write_encoder(tmp_path / "narrow", width=32))
    (tmp_path / "narrow" / "tokenizer.json").unlink()
    with pytest.raises(ExpertUnavailable, match=r"no tokenizer\.json"):
        SentenceEncoder(tmp_path / "narrow")


def _run(encoder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "REELSEEK_SENTENCE_ENCODER": str(encoder)}
    command = [sys.executable, "-m", "reelseek.cli.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.long
def test_a_library_keeps_to_the_encoder_that_embedded_its_lines(make_video, tmp_path: Path) -> None:
    encoder, library = _write_encoder(tmp_path / "multi"), tmp_path / "library"
    film = make_video("film.mp4")
    film.with_suffix(".srt").write_text("1\n00:00:00,200 --> 00:00:01,000\nзебра спит под деревом\n", "utf-8")
    added = _run(encoder, "add", library, film, "--experts", "speech")
    assert added.returncode == 0, added.stderr
    hits = _run(encoder, "search", library, "зебра спит", "--json")
    assert hits.returncode == 0, hits.stderr
    assert json.loads(hits.stdout.splitlines()[0])["confidence"] is not None  # it is read, and found by its meaning
    with Library.open(library) as opened, pytest.raises(UsageError, match="set REELSEEK_SENTENCE_ENCODER=") as refused:
        Searcher(opened)  # in this process, which has the packaged encoder
    assert str(encoder) in str(refused.value)
    with Library.open(library) as opened, pytest.raises(UsageError, match="were embedded by the encoder"):
        add(opened, [film], experts=["speech"])


def test_an_encoder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REELSEEK_SENTENCE_ENCODER", str(tmp_path / "nothing"))
    with pytest.raises(ExpertUnavailable, match=r"REELSEEK_SENTENCE_ENCODER is '.*nothing': .* models pull"):
        sentence_encoder.__wrapped__()


def test_an_encoder_is_loaded_once_for_lines_and_for_the_text_side_of_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packaged one, and a folder that both are told to read."""
    loads: list[str] = []
    load = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def counting(cls: type[PreTrainedModel], folder: object, *arguments: object, **options: object) -> object:
        loads.append(str(folder))
        return load(cls, folder, *arguments, **options)

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(counting))
    load_pretrained.cache_clear()
    load_encoder.cache_clear()
    folder = _write_encoder(tmp_path / "multi")
    PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), unk_token="[UNK]").save_pretrained(folder)
    for path, name in ((packaged_encoder().folder, "sentence"), (folder, str(folder))):
        loads.clear()
        line = SentenceEncoder(path).encode(["a dog"])
        steps = TextEncoder(TextConfig(encoder=name)).words(["a dog"])
        assert line.shape[1] == steps.values.shape[2] == SENTENCE_DIM
        assert loads == [str(path)]
