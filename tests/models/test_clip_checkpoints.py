"""Checkpoints of DRL, CLIP4Clip and GRAM, and CLIP's towers inside of them, against the release's computation."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.experts.tiny import save_tiny
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel

from reelseek.errors import ModelError
from reelseek.library.tokens import Steps
from reelseek.models.checkpoints import convert
from reelseek.models.checkpoints.convert import NOT_CONVERTED, convert_file
from reelseek.models.systems.drl import DRL
from reelseek.models.systems.gram import Gram

State = dict[str, Tensor]
WIDTH, FRAMES, PLACES = 12, 4, 9


def _linear(name: str, out: int, into: int, *, bias: bool = True) -> State:
    made = {f"{name}.weight": torch.randn(out, into) / into**0.5}
    return {**made, f"{name}.bias": torch.randn(out) / 4} if bias else made


def _norm(name: str, width: int) -> State:
    return {f"{name}.weight": 1 + torch.randn(width) / 4, f"{name}.bias": torch.randn(width) / 4}


def _block(at: str, width: int, inner: int) -> State:
    state = _linear(f"{at}.attn.out_proj", width, width) | _linear(f"{at}.mlp.c_fc", inner, width)
    state |= _linear(f"{at}.mlp.c_proj", width, inner) | _norm(f"{at}.ln_1", width) | _norm(f"{at}.ln_2", width)
    state |= {f"{at}.attn.in_proj_weight": torch.randn(3 * width, width) / width**0.5}
    return state | {f"{at}.attn.in_proj_bias": torch.randn(3 * width) / 4}


def _towers(config: CLIPConfig, prefix: str = "clip.") -> State:
    """CLIP's towers as OpenAI's code names their parts."""
    text, vision = config.text_config, config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    state = {
        "logit_scale": torch.tensor(3.0), "visual.class_embedding": torch.randn(vision.hidden_size),
        "visual.conv1.weight": torch.randn(vision.hidden_size, 3, vision.patch_size, vision.patch_size) / 20,
        "visual.positional_embedding": torch.randn(patches + 1, vision.hidden_size),
        "visual.proj": torch.randn(vision.hidden_size, config.projection_dim),
        "token_embedding.weight": torch.randn(text.vocab_size, text.hidden_size),
        "positional_embedding": torch.randn(text.max_position_embeddings, text.hidden_size),
        "text_projection": torch.randn(text.hidden_size, config.projection_dim),
        **_norm("visual.ln_pre", vision.hidden_size), **_norm("visual.ln_post", vision.hidden_size),
        **_norm("ln_final", text.hidden_size),
        **_block("visual.transformer.resblocks.0", vision.hidden_size, vision.intermediate_size),
        **_block("transformer.resblocks.0", text.hidden_size, text.intermediate_size),
    }  # fmt: skip
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.fixture(scope="module")
def like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("like") / "clip"
    save_tiny("clip", folder)
    return folder


@pytest.fixture(scope="module")
def release(like: Path) -> State:
    """DRL's state dict: the towers, a transformer over frames of four layers, weights of words and frames."""
    torch.manual_seed(5)
    state = _towers(CLIPConfig.from_pretrained(like))
    for layer in range(4):
        state |= _block(f"transformerClip.resblocks.{layer}", WIDTH, 4 * WIDTH)
    state["frame_position_embeddings.weight"] = torch.randn(PLACES, WIDTH)
    for side in ("text", "video"):
        state |= _linear(f"{side}_weight_fc.0", WIDTH, WIDTH) | _linear(f"{side}_weight_fc.2", 1, WIDTH)
    return state


def _plain(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if "_weight_fc" not in name}


def _sequence(state: State, frames: Tensor) -> Tensor:
    """Frames plus what the released transformer makes of them [video, frame, dim], in PyTorch's own layers."""
    values = frames + state["frame_position_embeddings.weight"][: frames.shape[1]]
    for layer in range(4):
        at = f"transformerClip.resblocks.{layer}"
        attention = nn.MultiheadAttention(WIDTH, 1, batch_first=True)
        attention.load_state_dict(
            {n.removeprefix(f"{at}.attn."): t for n, t in state.items() if n.startswith(f"{at}.attn.")}
        )
        gains = [(state[f"{at}.ln_{n}.weight"], state[f"{at}.ln_{n}.bias"]) for n in (1, 2)]
        read = functional.layer_norm(values, (WIDTH,), *gains[0], 1e-12)
        values = values + attention(read, read, read, need_weights=False)[0]
        inner = functional.layer_norm(values, (WIDTH,), *gains[1], 1e-12)
        inner = functional.linear(inner, state[f"{at}.mlp.c_fc.weight"], state[f"{at}.mlp.c_fc.bias"])
        inner = inner * torch.sigmoid(1.702 * inner)
        values = values + functional.linear(inner, state[f"{at}.mlp.c_proj.weight"], state[f"{at}.mlp.c_proj.bias"])
    return values + frames


def _shares(state: State, side: str, rows: Tensor) -> Tensor:
    hidden = functional.linear(rows, state[f"{side}_weight_fc.0.weight"], state[f"{side}_weight_fc.0.bias"]).relu()
    logits = functional.linear(hidden, state[f"{side}_weight_fc.2.weight"], state[f"{side}_weight_fc.2.bias"])
    return logits[:, 0].softmax(0)


def _clips(count: int, width: int, places: int) -> tuple[Tensor, Steps]:
    values = torch.randn(count, places, width)
    return values, Steps(values, torch.ones(count, places, dtype=torch.bool), torch.zeros(count, places, 2))


def _drl_score(state: State, words: Tensor, frames: Tensor, *, weighted: bool) -> Tensor:
    """One text [word, dim] and one video's read frames [frame, dim]."""
    cosines = functional.normalize(words, dim=-1) @ functional.normalize(frames, dim=-1).T
    best_word, best_frame = cosines.amax(1), cosines.amax(0)
    if not weighted:
        return (best_word.mean() + best_frame.mean()) / 2
    return (best_word @ _shares(state, "text", words) + best_frame @ _shares(state, "video", frames)) / 2


@pytest.mark.parametrize("weighted", [True, False])
def test_drl_scores_as_the_release_does_with_the_towers_in_a_folder(
    weighted: bool, release: State, like: Path, tmp_path: Path
) -> None:
    save_file({name: tensor.contiguous() for name, tensor in release.items()}, tmp_path / "drl.safetensors")
    left_out = convert_file(tmp_path / "drl.safetensors", "clip", {"like": str(like)}, tmp_path / "towers")
    assert [(part.missed, part.tensors) for part in left_out] == [(False, 4 * 12 + 1 + 8)]
    state = release if weighted else _plain(release)
    model = convert(state, "drl", {"text": {"encoder": str(tmp_path / "towers")}})
    assert isinstance(model, DRL)
    frames, steps = _clips(2, WIDTH, FRAMES)
    texts = ["a cat", "dog"]
    towers = CLIPModel.from_pretrained(tmp_path / "towers").eval()
    with torch.no_grad():
        read = _sequence(release, frames)
        scores = model.similarity(model.encode_texts(texts), model.encode_videos({"clip": steps}))
        for row, ids in enumerate([[1, 4, 5, 2], [1, 6, 2]]):
            words = towers.text_projection(towers.text_model(input_ids=torch.tensor([ids])).last_hidden_state)[0]
            for column in range(2):
                expected = _drl_score(release, words, read[column], weighted=weighted)
                assert scores[row, column] == pytest.approx(float(expected), abs=1e-5)
    assert math.exp(-float(model.score_loss.logit_scale.detach())) == pytest.approx(math.exp(-3))


def test_clip4clip_scores_as_the_release_does(release: State, like: Path) -> None:
    model = convert(_plain(release), "clip4clip", {"text": {"encoder": str(like)}})
    frames, steps = _clips(3, WIDTH, FRAMES)
    with torch.no_grad():
        read = functional.normalize(_sequence(release, frames), dim=-1).mean(1)
        scores = model.similarity(model.encode_texts(["a cat"]), model.encode_videos({"clip": steps}))
        towers = CLIPModel.from_pretrained(like).eval()
        last = towers.text_model(input_ids=torch.tensor([[1, 4, 5, 2]])).last_hidden_state[:, -1]
        text = functional.normalize(towers.text_projection(last), dim=-1)
    expected = text @ functional.normalize(read, dim=-1).T
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    assert model.config.loss.settings["temperature"] == pytest.approx(math.exp(-3))


def test_openais_towers_become_transformers(release: State, like: Path, tmp_path: Path) -> None:
    torch.save({name: tensor for name, tensor in release.items() if name.startswith("clip.")}, tmp_path / "x.pth")
    convert_file(tmp_path / "x.pth", "clip", {"like": str(like)}, tmp_path / "towers")
    made, other = CLIPModel.from_pretrained(tmp_path / "towers").eval(), CLIPModel.from_pretrained(like).eval()
    assert made.config.vision_config.hidden_act == "quick_gelu"
    assert made.config.vision_config.num_attention_heads == 1
    assert sorted(p.name for p in like.iterdir()) == sorted(p.name for p in (tmp_path / "towers").iterdir())
    weights = release["clip.visual.transformer.resblocks.0.attn.in_proj_weight"]
    attention = made.vision_model.encoder.layers[0].self_attn
    torch.testing.assert_close(
        torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]), weights
    )
    torch.testing.assert_close(made.visual_projection.weight, release["clip.visual.proj"].T)
    # In transformers' own names (LanguageBind's images) the same folder comes back.
    save_file(other.state_dict(), tmp_path / "own.safetensors")
    assert not convert_file(tmp_path / "own.safetensors", "clip", {"like": str(like)}, tmp_path / "again")
    again = CLIPModel.from_pretrained(tmp_path / "again")
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), other.state_dict().values(), strict=True))


def test_towers_that_do_not_fit_are_refused_by_name(release: State, like: Path, tmp_path: Path) -> None:
    def refused(state: State, message: str, **settings: Any) -> None:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "x.safetensors")
        with pytest.raises(ModelError, match=message):
            convert_file(tmp_path / "x.safetensors", "clip", settings or {"like": str(like)}, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    lacking = {name: tensor for name, tensor in release.items() if name != "clip.ln_final.bias"}
    refused(lacking, r"1 keys are absent, such as 'clip\.ln_final\.bias'")
    refused(release | {"clip.visual.conv2.weight": torch.ones(1)}, r"such as 'clip\.visual\.conv2\.weight'")
    refused(
        release | {"clip.visual.ln_pre.weight": torch.ones(3)},
        r"clip\.visual\.ln_pre\.weight makes \(3,\), wanted \(16,\)",
    )
    refused({"vision_model.encoder.layers.0.temporal_attn.q_proj.weight": torch.ones(1)}, "attend over time")
    refused({"fc.weight": torch.ones(1)}, "no CLIP of two transformers")
    refused(release, "takes one setting", heads=4)


def test_what_has_no_place_in_drl_and_clip4clip_is_said(release: State) -> None:
    def refused(state: State, kind: str, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            convert(state, kind)

    plain = _plain(release)
    refused(release | {"lstm_visual.weight_ih_l0": torch.ones(1)}, "clip4clip", "LSTM")
    refused(plain | {"cross.pooler.dense.bias": torch.ones(1)}, "drl", "text and a video together")
    refused(plain | {"visual_token_selector.score_predictor.in_conv.0.bias": torch.ones(1)}, "clip4clip", "TS2-Net's")
    bare = {name: tensor for name, tensor in plain.items() if "transformerClip" not in name}
    refused(bare, "clip4clip", "--format clip makes a folder")
    refused(bare, "drl", "no transformer over frames")
    refused(release, "clip4clip", "--format drl")
    three = {name: tensor for name, tensor in plain.items() if "resblocks.3." not in name}
    refused(three, "clip4clip", "has 3 layers; here it has 4")
    one = plain | {"text_weight_fc.weight": torch.ones(1, WIDTH)}
    refused(one, "drl", "--wti_arch 1")
    refused(release | {"text_weight_fc.4.weight": torch.ones(1)}, "drl", r"such as 'text_weight_fc\.4\.weight'")
    refused(plain | {"transformerClip.resblocks.0.ln_1.bias": torch.ones(3)}, "clip4clip", r"ln_1\.bias makes \(3,\)")
    for kind, reason in NOT_CONVERTED.items():
        refused(release, kind, f"{kind} cannot become a model here: {reason[:20]}")


def _gram() -> State:
    dims = {"t": 8, "s": 8, "v": 6, "a": 5, "d": 6}
    state = {f"contra_head_{head}.linear.weight": torch.randn(4, dim) for head, dim in dims.items()}
    return state | {
        "contra_temp": torch.tensor(0.05), "contra_head_va.bias": torch.ones(4),
        "contra_head_va.weight": torch.ones(4, 11),
        "itm_head.linear1.weight": torch.ones(8, 8), "vision_encoder.visual.cls_token": torch.ones(1, 1, 6),
        "audio_encoder.layer_norm.bias": torch.ones(5), "multimodal_encoder.cls.predictions.bias": torch.ones(9),
        "multimodal_encoder.bert.encoder.layer.0.crossattention.self.key.bias": torch.ones(8),
        "multimodal_encoder.bert.encoder.layer.0.output.dense.bias": torch.ones(8),
        "multimodal_encoder.bert.embeddings.position_ids": torch.arange(3)[None],
        "hidden_trans_audio_multimodal.0.bias": torch.ones(8), "vision_frame_embedding": torch.ones(1, 8, 8),
        "subtitle_type_embeddings": torch.ones(1, 1, 8),
    }  # fmt: skip


def test_grams_heads_span_the_volume_that_the_release_computes() -> None:
    torch.manual_seed(2)
    state = _gram()
    model = convert(state, "gram")
    assert isinstance(model, Gram)
    dims = {"vision": 6, "audio": 5, "subtitles": 8}
    clips = {name: _clips(2, dim, 3) for name, dim in dims.items()}
    text = functional.normalize(torch.randn(8) @ state["contra_head_t.linear.weight"].T, dim=-1)
    with torch.no_grad():
        torch.testing.assert_close(
            functional.normalize(model.text_head(torch.eye(8)), dim=-1),
            functional.normalize(state["contra_head_t.linear.weight"].T, dim=-1),
        )
        videos = model.encode_videos({name: steps for name, (_, steps) in clips.items()})
        texts = type(videos).even(text[None, None])
        scores = model.similarity(texts, videos)
    for video in range(2):
        vectors = [text]
        for head, (values, _) in zip("vas", clips.values(), strict=True):
            pooled = values[video].mean(0)
            vectors.append(functional.normalize(pooled @ state[f"contra_head_{head}.linear.weight"].T, dim=-1))
        rows = torch.stack(vectors)
        volume = torch.det(rows @ rows.T).abs().sqrt()
        assert float(scores[0, video]) == pytest.approx(1 - float(volume), abs=1e-4)
    assert math.exp(-float(model.score_loss.logit_scale.detach())) == pytest.approx(0.05)


def test_what_has_no_place_in_gram_is_counted(tmp_path: Path) -> None:
    save_file(_gram(), tmp_path / "gram.safetensors")
    left_out = convert_file(tmp_path / "gram.safetensors", "gram", {"names": ["vision", "depth"]}, tmp_path / "m")
    counts = {part.reason[:12]: (part.tensors, part.missed) for part in left_out}
    assert counts == {
        "the encoders": (2, True), "matching and": (6, True), "the text enc": (1, True), "no output of": (1, False),
        "fused modali": (2, False), "its modality": (2, False),
    }  # fmt: skip
    with pytest.raises(ModelError, match="1 keys are not known there, such as 'new_part'"):
        convert(_gram() | {"new_part": torch.ones(1)}, "gram")
    with pytest.raises(ModelError, match="its modalities are vision"):
        convert(_gram(), "gram", {"names": ["smell"]})
