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
    BertConfig,
    BertModel,
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
    WhisperTokenizer,
    XCLIPConfig,
    XCLIPModel,
    YolosConfig,
    YolosForObjectDetection,
)

from reelseek.experts.backbones import S3DG, SpectrogramResNet50
from reelseek.experts.presets import Preset
from reelseek.models.backbones import save_network

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
    "whisper_words": "speech",
    "s3dg": "vision_net",
    "spectrogram": "audio_net",
}
# What stands for each model of the presets: the same architecture, its processor and tokenizer.
STAND_INS = {
    "google/siglip2-base-patch16-224": "siglip",
    "google/siglip2-so400m-patch14-384": "siglip",
    "microsoft/xclip-base-patch32": "xclip",
    "MCG-NJU/videomae-large-finetuned-kinetics": "videomae",
    "PekingU/rtdetr_v2_r50vd": "rtdetr_v2",
    "PekingU/rtdetr_r101vd_coco_o365": "rtdetr",
    "laion/larger_clap_general": "clap",
    "MIT/ast-finetuned-audioset-10-10-0.4593": "ast",
    "openai/whisper-large-v3-turbo": "whisper_words",
    "openai/whisper-large-v3": "whisper_words",
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2": "sentence",
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


def _save_whisper_with_words(folder: Path) -> None:
    """Whisper with its own tokenizer, the heads that follow its sound, and weights in half precision, as released."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = WhisperTokenizer(vocab={piece: i for i, piece in enumerate(alphabet)}, merges=[], language=None)
    special = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|translate|>", "<|nospeech|>", "<|notimestamps|>"]
    tokenizer.add_special_tokens({"extra_special_tokens": special})
    tokenizer.add_tokens([f"<|{i * 0.02:.2f}|>" for i in range(1501)], special_tokens=True)
    end, begin, english, transcribe, translate, _, plain = tokenizer.convert_tokens_to_ids(["<|endoftext|>", *special])
    config = WhisperConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=80, pad_token_id=end,
        bos_token_id=end, eos_token_id=end, decoder_start_token_id=begin, suppress_tokens=None,
        begin_suppress_tokens=None, max_target_positions=40,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    settings = model.generation_config
    settings._from_model_config = False
    settings.update(
        forced_decoder_ids=None, is_multilingual=True, lang_to_id={"<|en|>": english}, max_length=40,
        task_to_id={"transcribe": transcribe, "translate": translate},
    )  # fmt: skip
    settings.no_timestamps_token_id, settings.alignment_heads = plain, [[0, 0], [1, 1]]
    settings.prev_sot_token_id, settings.suppress_tokens, settings.begin_suppress_tokens = None, [], [end]
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)


def _save_sentence_encoder(folder: Path) -> None:
    sizes = {**_SMALL, "hidden_size": 384, "num_attention_heads": 4}
    BertModel(BertConfig(vocab_size=32, **sizes), add_pooling_layer=False).save_pretrained(folder)
    _tokenizer(folder)


def save_pulled(preset: Preset, models: Path) -> None:
    """Save stand-ins of a preset's models where `models pull` puts them; `models` is what REELSEEK_MODELS names."""
    for member in preset.models:
        save_tiny(STAND_INS[member.model], models / member.model.replace("/", "__"))


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
    if name == "s3dg":
        sizes: dict[str, Any] = {"scale": 1 / 16}
        takes = {"frames": 4, "fps": 5.0, "resize": 36, "crop": 32}
        save_network(S3DG(**sizes).eval(), folder, takes=takes, **sizes)
    elif name == "spectrogram":
        sizes = {"scale": 1 / 16, "blocks": [1, 1, 1, 1], "bands": 20, "rate": 8000}
        save_network(SpectrogramResNet50(**sizes).eval(), folder, takes={"rate": 8000, "seconds": 0.8}, **sizes)
    elif name == "clip":
        CLIPModel(CLIPConfig(text_config=text, vision_config=picture, projection_dim=12)).save_pretrained(folder)
        _tokenizer(folder)
        _pictures(folder, {"shortest_edge": 32}, crop=32)
    elif name == "siglip":
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=picture))
        model.logit_scale.data.fill_(5.0)
        model.save_pretrained(folder)
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
    elif name == "whisper_words":
        _save_whisper_with_words(folder)
    elif name == "sentence":
        _save_sentence_encoder(folder)
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
