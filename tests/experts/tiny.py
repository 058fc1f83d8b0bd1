"""Tiny random models saved to folders in the hub's own layout."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    ViTConfig,
    ViTForImageClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    XCLIPConfig,
    XCLIPModel,
    YolosConfig,
    YolosForObjectDetection,
)

TINY = {
    "clip": "clip",
    "siglip": "clip",
    "siglip2": "clip",
    "videomae": "video",
    "xclip": "video",
    "vit": "scene",
    "yolos": "detection",
    "rtdetr": "detection",
    "rtdetr_v2": "detection",
    "ast": "sound",
    "clap": "clap",
    "whisper": "speech",
}
_SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def _tokenizer(folder: Path) -> None:
    words = ["<pad>", "<s>", "</s>", "<unk>", "a", "cat", "dog", "зебра", "спит", "狗"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        model_max_length=16,
    ).save_pretrained(folder)  # fmt: skip


def save_byte_tokenizer(folder: Path) -> None:
    """A tokenizer like OpenAI's CLIP's: words of Latin letters, and every other alphabet in bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate(["<s>", "</s>", *alphabet, "ca", "cat"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("c", "a"), ("ca", "t")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))


def _save_rtdetr(name: str, folder: Path) -> None:
    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    sizes: dict[str, Any] = {
        "encoder_hidden_dim": 16, "encoder_in_channels": [8, 8, 8], "encoder_layers": 1, "encoder_ffn_dim": 16,
        "encoder_attention_heads": 2, "d_model": 16, "num_queries": 5, "decoder_in_channels": [16, 16, 16],
        "decoder_ffn_dim": 16, "decoder_layers": 2, "decoder_attention_heads": 2, "num_denoising": 0, "num_labels": 3,
    }  # fmt: skip
    if name == "rtdetr":
        RTDetrForObjectDetection(RTDetrConfig(backbone_config=backbone, **sizes)).save_pretrained(folder)
    else:
        RTDetrV2ForObjectDetection(RTDetrV2Config(backbone_config=backbone, **sizes)).save_pretrained(folder)
    settings = {"image_processor_type": "RTDetrImageProcessor", "size": {"height": 64, "width": 64}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def _pictures(folder: Path, size: dict[str, int], crop: int | None = None, processor: str = "") -> None:
    about: dict[str, Any] = {"size": size, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_normalize": True}
    if processor:
        about["image_processor_type"] = processor
    if crop:
        about |= {"do_center_crop": True, "crop_size": {"height": crop, "width": crop}}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))


def save_tiny(name: str, folder: Path) -> None:
    """Save one of TINY, with what its loader needs beside it."""
    torch.manual_seed(0)
    text = {**_SMALL, "vocab_size": 32, "max_position_embeddings": 16, "eos_token_id": 2}
    picture = {**_SMALL, "image_size": 32, "patch_size": 16}
    if name == "clip":
        CLIPModel(CLIPConfig(text_config=text, vision_config=picture, projection_dim=12)).save_pretrained(folder)
        _tokenizer(folder)
        _pictures(folder, {"shortest_edge": 32}, crop=32)
    elif name == "siglip":
        SiglipModel(SiglipConfig(text_config=text, vision_config=picture)).save_pretrained(folder)
        _tokenizer(folder)
        _pictures(folder, {"height": 32, "width": 32})
    elif name == "siglip2":
        vision = {**_SMALL, "patch_size": 16, "num_patches": 16}
        Siglip2Model(Siglip2Config(text_config=text, vision_config=vision)).save_pretrained(folder)
        _tokenizer(folder)
        settings = {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 16, "max_num_patches": 16}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    elif name == "xclip":
        config = XCLIPConfig(
            text_config=text, vision_config={**picture, "num_frames": 2, "mit_hidden_size": 12,
            "mit_intermediate_size": 16, "mit_num_attention_heads": 2, "mit_num_hidden_layers": 1},
            projection_dim=12, prompt_layers=1, prompt_num_attention_heads=2,
        )  # fmt: skip
        XCLIPModel(config).save_pretrained(folder)
        _tokenizer(folder)
        _pictures(folder, {"shortest_edge": 32}, crop=32, processor="VideoMAEImageProcessor")
    elif name in ("rtdetr", "rtdetr_v2"):
        _save_rtdetr(name, folder)
    elif name == "videomae":
        VideoMAEForVideoClassification(VideoMAEConfig(**picture, num_frames=4, num_labels=3)).save_pretrained(folder)
        _pictures(folder, {"shortest_edge": 32}, crop=32)
    elif name == "vit":
        ViTForImageClassification(ViTConfig(**picture, num_labels=3)).save_pretrained(folder)
        _pictures(folder, {"height": 32, "width": 32})
    elif name == "yolos":
        YolosForObjectDetection(YolosConfig(**{**picture, "image_size": [32, 32]}, num_labels=3)).save_pretrained(
            folder
        )
        _pictures(folder, {"shortest_edge": 32})
    elif name == "ast":
        ASTForAudioClassification(ASTConfig(**_SMALL, max_length=128, num_labels=3)).save_pretrained(folder)
        ASTFeatureExtractor(max_length=128).save_pretrained(folder)
    elif name == "clap":
        sound = {"hidden_size": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2],
                 "spec_size": 256, "num_mel_bins": 64, "window_size": 8, "enable_fusion": False}  # fmt: skip
        ClapModel(ClapConfig(text_config=text, audio_config=sound, projection_dim=12)).save_pretrained(folder)
        ClapFeatureExtractor(feature_size=64, truncation="rand_trunc").save_pretrained(folder)
    elif name == "whisper":
        config = WhisperConfig(
            vocab_size=40, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=80, pad_token_id=0,
            bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None,
        )  # fmt: skip
        model = WhisperForConditionalGeneration(config)
        model.generation_config.forced_decoder_ids = None
        model.save_pretrained(folder)
        _tokenizer(folder)
        WhisperFeatureExtractor().save_pretrained(folder)
