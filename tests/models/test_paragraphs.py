"""Captions read together with those before and after them: tokens, shortening, resuming, and learning from them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.test_text import _tokenizer
from transformers import AutoTokenizer, BertConfig, BertModel, RobertaConfig, RobertaModel
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import UsageError
from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.library.caption_sets import open_caption_features
from reelseek.library.imports import fingerprint_of
from reelseek.library.records import Caption
from reelseek.models.paragraphs import encode_paragraphs, shorten, tokenize_paragraph
from reelseek.models.text_networks import count_positions
from reelseek.training import evaluate, read_recipe, train

FIRST, SECOND = Caption("v0", "The man  runs.", 0.0, 4.0), Caption("v0", "a cat. sits on two dogs", 4.0, 9.0)
POSITIONS = 24
BEGIN, END = 2, 3


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=40, max_position_embeddings=POSITIONS, **sizes)).save_pretrained(folder)
    _tokenizer(folder, "[CLS]", "[SEP]")
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "library", create=True) as opened:
        _add(opened, [SECOND, FIRST])
        yield opened


def _add(library: Library, captions: list[Caption]) -> None:
    with library.writing(), library.saving(), library.catalog.transaction():
        existing = {video.id for video in library.catalog.videos.all()}
        for video in dict.fromkeys(caption.video for caption in captions):
            if video not in existing:
                library.catalog.videos.add(video)
        library.catalog.captions.add(captions)


def _oracle(folder: Path, ids: list[int], layers: int) -> np.ndarray:
    """The last layers side by side [token, width] of one text alone."""
    model = BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    return torch.cat(states[len(states) - layers :], -1)[0].numpy()


def test_a_paragraph_is_one_text_whose_tokens_go_back_to_their_captions(library: Library, bert: Path) -> None:
    others = [Caption("v1", "music plays", 1.0, 2.0), Caption("v2", "red car", 0.0, 1.0)]  # a batch of three lengths
    _add(library, others)
    report = encode_paragraphs(library, str(bert), "bert", layers=2)
    assert (report.captions, report.videos, report.cut, report.failed) == (4, 3, 0, [])
    words = AutoTokenizer.from_pretrained(bert).get_vocab()
    first = [BEGIN, *(words.get(word, words["[UNK]"]) for word in ("The", "man", "runs")), END]
    second = [words["a"], words["cat"], END, *(words[word] for word in ("sits", "on", "two", "dogs")), END]
    wanted = _oracle(bert, first + second, 2)
    features = open_caption_features(library.path, "bert")
    assert features.width == 48
    for caption, rows in ((FIRST, wanted[: len(first)]), (SECOND, wanted[len(first) :])):
        encoded = features.read(caption)
        assert encoded is not None
        np.testing.assert_allclose(encoded.vectors, rows, atol=1e-5)
    alone = features.read(others[0])
    assert alone is not None
    np.testing.assert_allclose(alone.vectors, _oracle(bert, [BEGIN, words["music"], words["plays"], END], 2), atol=1e-5)


def test_a_stopped_run_goes_on_and_a_new_caption_renews_its_paragraph(library: Library, bert: Path) -> None:
    encode_paragraphs(library, str(bert), "bert")
    before = open_caption_features(library.path, "bert").read(FIRST)
    _add(library, [Caption("v1", "music plays", 1.0, 2.0)])
    report = encode_paragraphs(library, str(bert), "bert")
    assert (report.captions, report.existing) == (1, 2)
    _add(library, [Caption("v0", "a red car", 12.0, 13.0)])
    report = encode_paragraphs(library, str(bert), "bert")
    assert (report.captions, report.existing) == (3, 1)
    after = open_caption_features(library.path, "bert").read(FIRST)
    assert before is not None
    assert after is not None
    assert before.vectors.shape == after.vectors.shape
    assert np.abs(before.vectors - after.vectors).max() > 1e-4  # the first caption tells what follows it


def test_too_long_paragraphs_lose_the_ends_of_their_last_captions(library: Library, bert: Path) -> None:
    long = [Caption("v1", " ".join(["cat"] * 12), float(i), i + 1.0) for i in range(2)]
    many = [Caption("v2", "two dogs on a car", float(i), i + 1.0) for i in range(9)]
    _add(library, [*long, *many])
    report = encode_paragraphs(library, str(bert), "bert")
    features = open_caption_features(library.path, "bert")
    lengths = [len(caption.vectors) for one in long if (caption := features.read(one)) is not None]
    assert lengths == [14, POSITIONS - 14]
    assert report.cut == 27 - POSITIONS
    assert [video for video, _ in report.failed] == ["v2"]
    assert f"9 captions of 5 tokens at least are more than the {POSITIONS} tokens" in report.failed[0][1]
    assert features.read(many[0]) is None
    assert features.read(FIRST) is not None


def test_shortened_captions_keep_five_tokens_and_their_separator() -> None:
    sentences = [[BEGIN, *range(10, 30), END], [*range(30, 36), END], [40, 41, END]]
    shortened = shorten(sentences, 24)
    assert list(map(len, shortened)) == [16, 5, 3]
    assert all(sentence[-1] == END for sentence in shortened)
    assert shortened[0][:-1] == sentences[0][:15]
    assert shorten(sentences, 100) == sentences
    assert list(map(len, shorten(sentences, 4))) == [5, 5, 3]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [("a cat.", ["a cat"]), ("a cat..", ["a cat.."]), ("a\n cat. . dogs.", ["a cat", "dogs"]), (".", [])],
)
def test_full_stops_end_sentences(text: str, pieces: list[str], bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert)
    wanted = [token for piece in pieces for token in [*tokenizer(piece, add_special_tokens=False)["input_ids"], END]]
    assert tokenize_paragraph([text], tokenizer) == [[BEGIN, *wanted] if pieces else []]


def test_captions_of_several_splits_and_without_spans_are_counted(library: Library, bert: Path) -> None:
    again = [replace(FIRST, split="val_2"), Caption("v0", "two dogs", 5.0, 6.0, "val_2")]
    same = [Caption("v1", "music plays", 0.0, 1.0, split) for split in ("val_1", "val_2")]
    _add(
        library,
        [*again, *same, Caption("v1", "red car"), Caption("v1", "a cat"), Caption("v1", "  "), Caption("v1", " . .")],
    )
    report = encode_paragraphs(library, str(bert), "bert")
    assert (report.captions, report.shared, report.alone, report.empty) == (6, 1, 2, 2)
    features = open_caption_features(library.path, "bert")
    shared, separate = features.read(FIRST), features.read(Caption("v1", "red car"))
    words = AutoTokenizer.from_pretrained(bert).get_vocab()
    assert shared is not None
    assert separate is not None
    first = [BEGIN, words["[UNK]"], words["man"], words["runs"], END]
    second = [words["a"], words["cat"], END, *(words[word] for word in ("sits", "on", "two", "dogs")), END]
    np.testing.assert_allclose(shared.vectors, _oracle(bert, first + second, 2)[:5], atol=1e-5)
    np.testing.assert_allclose(separate.vectors, _oracle(bert, [BEGIN, words["red"], words["car"], END], 2), atol=1e-5)
    assert encode_paragraphs(library, str(bert), "bert").captions == 0


def test_encoders_that_read_no_paragraphs_are_refused(library: Library, bert: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has 3 layers; --layers 4 asks for more"):
        encode_paragraphs(library, str(bert), "bert", layers=4)
    from tests.experts.tiny import save_tiny

    save_tiny("siglip", tmp_path / "siglip")
    with pytest.raises(UsageError, match=r"does not begin and separate sentences; name a BERT-like --encoder"):
        encode_paragraphs(library, str(tmp_path / "siglip"), "bert")
    encode_paragraphs(library, str(bert), "bert", layers=1)
    with pytest.raises(UsageError, match=r"last 1 of its layers, and these .* last 2 .*reelseek features remove"):
        encode_paragraphs(library, str(bert), "bert", layers=2)
    assert len(open_caption_features(library.path, "bert")) == 2


def test_roberta_reads_fewer_tokens_than_it_has_positions(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = RobertaModel(RobertaConfig(vocab_size=20, max_position_embeddings=12, **sizes)).eval()
    longest = count_positions(model)
    assert model(input_ids=torch.full((1, longest), 5)).last_hidden_state.shape == (1, longest, 8)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 5))


def test_a_model_learns_from_paragraphs_of_the_packaged_encoder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "library"
    with Library.open(path, create=True) as opened:
        spans = [(0.0, 3.0), (3.0, 6.0)]
        captions = [
            Caption(f"v{video}", f"{text} number {video}", *span)
            for video in range(8)
            for text, span in zip(("cut the onion", "fry it"), spans, strict=True)
        ]
        _add(opened, captions)
        with opened.writing(), opened.saving():
            for split, members in (("train", range(5)), ("val", range(5, 7)), ("test", [0, 7])):
                opened.put_split(split, [f"v{i}" for i in members])
            for i in range(8):
                track = Track(
                    rng.normal(size=(6, 6)).astype(np.float32), np.array([[s, s + 1] for s in range(6)], float)
                )
                opened.put_track(f"id:v{i}", "rgb", fingerprint_of("rgb", "appearance", None, 6), "appearance", track)
    result = CliRunner().invoke(app, ["data", "encode", str(path), "--name", "context"])
    assert result.exit_code == 0, result.output
    assert "16 captions of 8 videos encoded as context, 0 failed" in result.output
    assert "model.text.encoder=features@context" in result.output
    sizes = ["model.width=8", "model.heads=2", "model.inner=16", "train.epochs=1", "train.batch=4"]
    recipe = read_recipe("crossclr", [*sizes, "model.text.encoder=features@context"])
    with Library.open(path) as opened:
        model = train(recipe, opened, tmp_path / "model")
        assert evaluate(model, opened, split="test").text_to_video.recall_at_10 == 1.0
