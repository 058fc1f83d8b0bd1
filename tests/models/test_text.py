"""Text sides: packaged, from a folder, word vectors; frozen and trained; every system with every one of them."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.worlds import TEXTS, batch_of, small, tokens_of

from reelseek.errors import ModelError
from reelseek.experts.sentence import sentence_encoder
from reelseek.models import load_model
from reelseek.models.text import TextConfig, TextEncoder
from reelseek.models.words import WordVectors, split_words, word_vectors

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "dogs",
    "car",
    "red",
    "man",
    "runs",
    "sits",
    "music",
    "plays",
    "cooking",
    "on",
    "two",
]


@pytest.fixture(scope="module")
def glove(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "glove.txt"
    rng = np.random.default_rng(0)
    lines = [f"{word} {' '.join(f'{x:.4f}' for x in rng.normal(size=12))}" for word in WORDS]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def _tokenizer(folder: Path, begin: str, end: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", begin, end, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(begin, vocabulary[begin]), (end, vocabulary[end])]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights, saved as transformers saves one."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=40, max_position_embeddings=16, **sizes)).save_pretrained(folder)
    _tokenizer(folder, "[CLS]", "[SEP]")
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = {**sizes, "vocab_size": 40, "max_position_embeddings": 20, "eos_token_id": 3, "bos_token_id": 2}
    vision = {**sizes, "image_size": 8, "patch_size": 4}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)).save_pretrained(folder)
    _tokenizer(folder, "<s>", "</s>")
    return folder


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import SiglipConfig, SiglipModel

    folder = tmp_path_factory.mktemp("siglip")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = {**sizes, "vocab_size": 40, "max_position_embeddings": 12, "eos_token_id": 3, "bos_token_id": 2}
    vision = {**sizes, "image_size": 8, "patch_size": 4}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    _tokenizer(folder, "<s>", "</s>")
    return folder


def _encoder(name: str | Path, **settings: object) -> TextEncoder:
    return TextEncoder(TextConfig(encoder=str(name), **settings)).eval()  # type: ignore[arg-type]


def test_the_sentence_encoder_is_the_packaged_one_at_both_levels() -> None:
    text = _encoder("sentence")
    pooled = text.pooled(TEXTS)
    torch.testing.assert_close(pooled, torch.from_numpy(sentence_encoder().encode(TEXTS)))
    words = text.words(TEXTS)
    mean = (words.values * words.present[..., None]).sum(1) / words.present.sum(1, keepdim=True)
    torch.testing.assert_close(torch.nn.functional.normalize(mean, dim=-1), pooled, atol=1e-5, rtol=0)


def test_bert_gives_its_first_token_and_all_of_them(bert: Path) -> None:
    text = _encoder(bert)
    assert text.width == 24
    words = text.words(TEXTS)
    torch.testing.assert_close(text.pooled(TEXTS), words.values[:, 0])
    alone = text.words([TEXTS[2]])
    torch.testing.assert_close(alone.values[0], words.values[2][words.present[2]], atol=1e-5, rtol=0)


def test_the_last_layers_stand_side_by_side(bert: Path) -> None:
    from transformers import AutoTokenizer, BertModel

    text = _encoder(bert, layers=2)
    assert text.width == 48
    tokens = AutoTokenizer.from_pretrained(bert)(TEXTS[2], return_tensors="pt")
    with torch.inference_mode():
        states = BertModel.from_pretrained(bert).eval()(**tokens, output_hidden_states=True).hidden_states
    expected = torch.cat([states[-2], states[-1]], -1)
    torch.testing.assert_close(text.words([TEXTS[2]]).values, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(text.pooled([TEXTS[2]]), expected[:, 0], atol=1e-5, rtol=0)
    assert text.fingerprint != _encoder(bert).fingerprint
    with pytest.raises(ModelError, match="no layers that could stand side by side"):
        _encoder("sentence", layers=2)


def test_a_gpt_is_pooled_by_the_mean_of_its_tokens(bert: Path, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    GPT2Model(GPT2Config(vocab_size=40, n_embd=24, n_layer=2, n_head=2, n_positions=16)).save_pretrained(tmp_path)
    for file in bert.glob("*token*"):
        shutil.copy(file, tmp_path)
    text = _encoder(tmp_path)
    words = text.words(TEXTS)
    mean = (words.values * words.present[..., None]).sum(1) / words.present.sum(1, keepdim=True)
    torch.testing.assert_close(text.pooled(TEXTS), mean, atol=1e-5, rtol=0)


def test_clip_gives_projected_tokens_without_the_first_and_its_own_embedding(clip: Path) -> None:
    from transformers import CLIPModel

    text = _encoder(clip)
    assert text.width == 20
    words = text.words(["a cat sits", "two dogs"])
    assert words.present.tolist() == [[False, True, True, True, True], [False, True, True, True, False]]
    model = CLIPModel.from_pretrained(clip).eval()
    with torch.inference_mode():
        wanted = model.get_text_features(input_ids=torch.tensor([[2, 5, 6, 13, 3]]))
        wanted = getattr(wanted, "pooler_output", wanted)
    torch.testing.assert_close(text.pooled(["a cat sits"]), wanted, atol=1e-5, rtol=0)


def test_siglip_reads_lower_case_padded_to_full_length_without_a_mask(siglip: Path) -> None:
    from transformers import SiglipModel

    text = _encoder(siglip)
    assert text.width == 16
    words = text.words(["a CAT sits", "two dogs"])
    assert words.present.sum(1).tolist() == [5, 4]
    model = SiglipModel.from_pretrained(siglip).eval()
    with torch.inference_mode():
        expected = model.get_text_features(input_ids=torch.tensor([[2, 5, 6, 13, 3, *[0] * 7]]))
        expected = getattr(expected, "pooler_output", expected)
    torch.testing.assert_close(text.pooled(["A cat Sits"]), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(text.pooled(["A cat Sits", "a dog"])[:1], expected, atol=1e-5, rtol=0)
    assert text.reads(["A CAT", "кошка"]).tolist() == [True, False]
    long = text.words(["cat " * 30])
    assert long.present.sum() == 12
    assert text.left_out == 20


def test_word_vectors_leave_unknown_words_out(glove: Path) -> None:
    assert split_words("A dog's bark, twice!") == ["A", "dog's", "bark", "twice"]
    text = _encoder(glove)
    assert text.width == 12
    vectors = word_vectors(str(glove))
    words = text.words(["the unheard Cat runs", "zzz qqq"])
    assert words.present.sum(1).tolist() == [3, 0]
    np.testing.assert_allclose(words.values[0, 1], vectors.get("cat"))
    np.testing.assert_allclose(text.pooled(["the cat"])[0], (vectors.get("the") + vectors.get("cat")) / 2, atol=1e-6)


def test_forms_of_word_vector_files(glove: Path, tmp_path: Path) -> None:
    wanted = WordVectors(glove)
    headed = tmp_path / "w2v.vec"
    headed.write_text(f"{len(WORDS)} 12\n" + glove.read_text(), "utf-8")
    rows = b"".join(word.encode() + b" " + wanted.get(word).astype("<f4").tobytes() + b"\n" for word in WORDS)
    binary = tmp_path / "w2v.bin"
    binary.write_bytes(f"{len(WORDS)} 12\n".encode() + rows)
    for path in (headed, binary):
        found = WordVectors(path)
        assert (len(found), found.width) == (len(WORDS), 12)
        for word in WORDS:
            np.testing.assert_array_equal(found.get(word), wanted.get(word))
    binary.write_bytes(binary.read_bytes()[:200])
    headed.write_text("cat 1 2 3\ndog 1 2\n")
    for path, said in ((binary, "ends after"), (headed, "line 2 has 2 numbers"), (tmp_path / "no.txt", "is no file")):
        with pytest.raises(ModelError, match=said):
            WordVectors(path)


@pytest.mark.parametrize("side", ["bert", "clip", "siglip", "glove", "sentence"])
@pytest.mark.parametrize(
    "name", ["late_fusion", "mee", "ce", "mmt", "avlnet", "eao+mask", "coot", "mmv", "zorro", "umi", "vse", "jpose"]
)
def test_every_system_takes_every_text_side(name: str, side: str, request: pytest.FixtureRequest) -> None:
    encoder = "sentence" if side == "sentence" else str(request.getfixturevalue(side))
    model = small(name, text={"encoder": encoder}).train()
    torch.stack(list(model.loss(batch_of(model)).values())).sum().backward()
    model.eval()
    with torch.inference_mode():
        scores = model.similarity(model.encode_texts(TEXTS), model.encode_videos(tokens_of(model)))
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("side", ["bert", "clip", "siglip", "sentence"])
def test_a_trained_encoder_learns_and_is_saved_with_the_model(
    side: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    encoder = "sentence" if side == "sentence" else str(request.getfixturevalue(side))
    model = small("mmt", text={"encoder": encoder, "trained": True}).train()
    before = model.encode_texts(["a cat"]).values.detach()
    optimizer = torch.optim.SGD([p for n, p in model.named_parameters() if n.startswith("text.")], lr=1.0)
    torch.stack(list(model.loss(batch_of(model)).values())).sum().backward()
    learnt = [p for n, p in model.named_parameters() if n.startswith("text.encoder.") and p.grad is not None]
    assert len(learnt) > 5
    optimizer.step()
    model.eval()
    after = model.encode_texts(["a cat"]).values
    assert (after - before).abs().max() > 1e-4
    model.save(tmp_path / "m")
    assert torch.equal(load_model(tmp_path / "m").encode_texts(["a cat"]).values, after)
    frozen = small("mmt", text={"encoder": encoder})
    assert not any(n.startswith("text.") for n in frozen.state_dict())


def test_tokens_beyond_the_maximum_are_counted(glove: Path, bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "reelseek"):
        text = _encoder(glove, most_tokens=2)
        assert text.words(["a cat sits on a car", "a dog"]).present.sum(1).tolist() == [2, 2]
        assert text.left_out == 4
        long = _encoder(bert, most_tokens=100)  # the encoder itself has 16 places
        assert long.words(["cat " * 30]).present.sum() == 16
        assert long.left_out == 16
    assert "4 tokens were left out" in caplog.text


def test_text_sides_that_cannot_be_are_refused_in_words(glove: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="word vectors are not trained"):
        _encoder(glove, trained=True)
    with pytest.raises(ModelError, match="neither a folder"):
        _encoder(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="built for text vectors of width 99, and 'sentence' gives 384"):
        _encoder("sentence", dim=99).pooled(["a cat"])
    with pytest.raises(ModelError, match="empty text"):
        _encoder(glove).words([""])
