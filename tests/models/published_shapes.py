"""Keys and shapes of released checkpoints, as their authors published them."""

from collections.abc import Callable

__all__ = ["CE_WIDTHS", "SHAPES", "Shapes", "mmv_shapes"]

Shapes = dict[str, tuple[int, ...]]


def _linear(name: str, out: int, into: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, into), **({f"{name}.bias": (out,)} if bias else {})}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias")}


def _batch(name: str, width: int) -> Shapes:
    return {**_norm(name, width), f"{name}.running_mean": (width,), f"{name}.running_var": (width,),
            f"{name}.num_batches_tracked": ()}  # fmt: skip


def _gated(name: str, out: int, into: int, batch_norm: bool) -> Shapes:
    found = {**_linear(f"{name}.fc", out, into), **_linear(f"{name}.cg.fc", out, out)}
    return {**found, **(_batch(f"{name}.cg.batch_norm", out) if batch_norm else {})}


def _bert(net: str, experts: dict[str, int], depth: int, video: str, text: str, unit: str) -> Shapes:
    width = 512
    shapes: Shapes = {}
    shapes[f"{net}.embeddings.position_embeddings.weight"] = (32, width)
    shapes[f"{net}.embeddings.token_type_embeddings.weight"] = (19, width)
    shapes |= _norm(f"{net}.embeddings.layer_norm", width)
    for layer in range(depth):
        at = f"{net}.encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            shapes |= _linear(f"{at}.attention.self.{part}", width, width)
        shapes |= _linear(f"{at}.attention.output.dense", width, width) | _norm(
            f"{at}.attention.output.layer_norm", width
        )
        shapes |= _linear(f"{at}.intermediate.dense", 3072, width) | _linear(f"{at}.output.dense", width, 3072)
        shapes |= _norm(f"{at}.output.layer_norm", width)
    shapes |= _linear(f"{net}.pooler.dense", width, width)
    for name, dim in experts.items():
        shapes |= _linear(f"{video}video_dim_reduce.{name}.fc", width, dim)
        shapes |= _gated(f"{text}{unit}.{name}", width, 768, True) | _linear(f"{text}moe_fc_txt.{name}", 1, 768)
    return shapes


def _vlad(name: str, width: int, clusters: int, ghosts: int = 0) -> Shapes:
    return {f"{name}.clusters": (width, clusters + ghosts), f"{name}.clusters2": (1, width, clusters),
            **_batch(f"{name}.batch_norm", clusters + ghosts)}  # fmt: skip


def _davenet(prefix: str, widths: tuple[int, ...], blocks: tuple[int, ...]) -> Shapes:
    shapes = {**_batch(f"{prefix}batchnorm1", 1), f"{prefix}conv1.weight": (widths[0], 1, 40, 1)}
    shapes |= _batch(f"{prefix}bn1", widths[0])
    for stage, (before, width, count) in enumerate(zip(widths[:-1], widths[1:], blocks, strict=True), 1):
        for block in range(count):
            at, into = f"{prefix}layer{stage}.{block}", width if block else before
            shapes |= {f"{at}.conv1.weight": (width, into, 1, 9), f"{at}.conv2.weight": (width, width, 1, 9)}
            shapes |= _batch(f"{at}.bn1", width) | _batch(f"{at}.bn2", width)
            if not block:
                shapes |= {f"{at}.downsample.0.weight": (width, into, 1, 1)} | _batch(f"{at}.downsample.1", width)
    return shapes


def _coot_net(name: str, dim: int, width: int = 384) -> Shapes:
    local = name.endswith("local")
    shapes = {
        f"{name}.norm_input.gain": (dim,),
        f"{name}.norm_input.bias": (dim,),
        f"{name}.embedding.pe": (1000, width),
    }
    for net in ["tf"] if local else ["tf", "tf_context"]:
        at = f"{name}.{net}.encoder_layers.0"
        for part in ("query_projection", "key_projection", "value_projection", "final_projection"):
            shapes |= _linear(f"{at}.self_attention_layer.sublayer.{part}", width, width)
        for layer in (0, 3):
            shapes |= _linear(f"{at}.pointwise_feedforward_layer.sublayer.feed_forward.{layer}", width, width)
        for part in ("self_attention_layer", "pointwise_feedforward_layer"):
            shapes |= {f"{at}.{part}.layer_normalization.{each}": (width,) for each in ("gain", "bias")}
    if local:
        shapes |= _linear(f"{name}.input_fc.mlp.0", width, dim)
        pool = f"{name}.pooler.pools.0.genpool"
        shapes |= {f"{pool}_w1_head": (2, 384, 384), f"{pool}_b1_head": (2, 384), f"{pool}_w2_head": (2, 384, 192),
                   f"{pool}_b2_head": (2, 192), f"{pool}_one": (1,)}  # fmt: skip
    return shapes


def _umi_block(at: tuple[str, str, str, str]) -> Shapes:
    norm1, attention, norm2, feed = at
    shapes = (
        _norm(norm1, 256) | {f"{attention}.to_qkv.weight": (1536, 256)} | _linear(f"{attention}.to_out.0", 256, 512)
    )
    return shapes | _norm(norm2, 256) | _linear(f"{feed}.net.0", 512, 256) | _linear(f"{feed}.net.3", 256, 512)


def _affine(name: str, dim: int) -> Shapes:
    return _norm(f"{name}.0", dim) | _linear(f"{name}.1", 256, dim) | _norm(f"{name}.2", 256)


def mmv_shapes(sight: int, fine: int, coarse: int, words: int, sound: int = 2048) -> Shapes:
    """MMV's heads under the short names of their arrays."""

    def norm(name: str, width: int) -> Shapes:
        averages = {f"{name}/{which}_ema/average": (1, width) for which in ("mean", "var")}
        return {f"{name}/scale": (1, width), f"{name}/offset": (1, width), **averages}

    def dense(name: str, into: int, out: int) -> Shapes:
        return {f"{name}/w": (into, out), f"{name}/b": (out,)}

    return {
        **dense("vid2audio_embd/final_projection_inner", sight, 512), **norm("vid2audio_embd/batch_norm_0", 512),
        "vid2audio_embd/final_projection/w": (512, fine), **norm("vid2audio_embd/batch_norm_1", fine),
        **dense("vis_embd/final_projection", fine, coarse), **norm("vis_embd/batch_norm_0", coarse),
        **dense("audio_embd/final_projection", sound, fine), **dense("txt_embd/final_projection", words, coarse),
        "text_module/text_conv1/w": (1, 300, words), "text_module/text_conv1/b": (words,),
        **dense("txt2audio_embd/final_projection", words, 512), **dense("audio2txt_embd/final_projection", sound, 512),
        "text_module/embed/embeddings": (65536, 300), "audio_module/res_net_v2/initial_conv/w": (7, 7, 1, 64),
        "vis_embd/batch_norm_0/mean_ema/hidden": (1, coarse), "vis_embd/batch_norm_0/mean_ema/counter": (),
    }  # fmt: skip


def _frames() -> Shapes:
    """CLIP4Clip's transformer over frames; of CLIP's towers the text projection, by which its width is told."""
    width = 512
    shapes: Shapes = {"clip.text_projection": (width, width), "clip.logit_scale": ()}
    shapes["frame_position_embeddings.weight"] = (77, width)
    for layer in range(4):
        at = f"transformerClip.resblocks.{layer}"
        shapes |= {f"{at}.attn.in_proj_weight": (3 * width, width), f"{at}.attn.in_proj_bias": (3 * width,)}
        shapes |= _linear(f"{at}.attn.out_proj", width, width) | _linear(f"{at}.mlp.c_fc", 4 * width, width)
        shapes |= _linear(f"{at}.mlp.c_proj", width, 4 * width) | _norm(f"{at}.ln_1", width)
        shapes |= _norm(f"{at}.ln_2", width)
    return shapes


def _weights() -> Shapes:
    parts = {}
    for side in ("text", "video"):
        parts |= _linear(f"{side}_weight_fc.0", 512, 512) | _linear(f"{side}_weight_fc.2", 1, 512)
    return parts


def _gram() -> Shapes:
    dims = {"t": 768, "s": 768, "v": 1408, "a": 768, "d": 1408}
    heads: Shapes = {f"contra_head_{head}.linear.weight": (512, dim) for head, dim in dims.items()}
    fused = _linear("contra_head_va", 512, 2176) | _linear("contra_head_vs", 512, 2176)
    return heads | fused | _linear("contra_head_vas", 512, 2944) | {"contra_temp": ()}


def _ce() -> Shapes:
    widths = CE_WIDTHS
    clusters = {"audio": 16, "ocr": 23, "speech": 29}
    shapes = _vlad("text_pooling", 768, 28, 1) | _linear("ce.moe_fc", 7, 21504) | _linear("ce.g_reason_1", 768, 1536)
    for name, count in clusters.items():
        shapes |= _vlad(f"pooling.{name}", widths[name], count, 1)
    for layer in (0, 3):
        shapes |= _batch(f"ce.g_reason_shared.{layer}", 768) | _linear(f"ce.g_reason_shared.{layer + 2}", 768, 768)
    for index, (name, width) in enumerate(widths.items()):
        shapes |= _linear(f"ce.video_dim_reduce.{index}.fc", 768, width * clusters.get(name, 1))
        shapes |= _linear(f"ce.video_GU.{index}.cg.fc", 768, 768) | _batch(f"ce.video_GU.{index}.cg.batch_norm", 768)
        shapes |= _batch(f"ce.video_GU.{index}.cg.batch_norm2", 768) | _gated(f"ce.text_GU.{index}", 768, 21504, True)
    return shapes


def _mee() -> Shapes:
    shapes = _vlad("text_pooling", 300, 32) | _vlad("audio_pooling", 128, 16) | _linear("mee.moe_fc", 4, 9600)
    for index, (into, out) in enumerate([(128, 128), (2048, 128), (2048, 2048), (1024, 1024)]):
        shapes |= _gated(f"mee.video_GU.{index}", out, into, True) | _gated(f"mee.text_GU.{index}", out, 9600, True)
    return shapes


def _eao() -> Shapes:
    shapes = _davenet("davenet.", (128, 128, 256, 512, 1024, 2048, 4096), (2, 2, 1, 1, 1, 1))
    shapes |= {"fusion.masking_token": (4096,)} | _norm("fusion.norm", 4096)
    for part in ("norm1", "norm2"):
        shapes |= _norm(f"fusion.blocks.0.{part}", 4096)
    shapes |= _linear("fusion.blocks.0.attn.qkv", 3 * 4096, 4096)
    for part in ("attn.proj", "mlp.fc1", "mlp.fc2"):
        shapes |= _linear(f"fusion.blocks.0.{part}", 4096, 4096)
    for name, width in {"video": 4096, "text": 300, "audio": 4096}.items():
        shapes |= _norm(f"{name}_norm_layer", 4096) | _gated(f"{name}_token_proj", 4096, width, False)
        shapes |= _gated(f"{name}_proj", 6144, 4096, False)
    return shapes


def _coot() -> Shapes:
    shapes: Shapes = {}
    for side, width in (("video", 512), ("text", 1536)):
        shapes |= _coot_net(f"net_{side}_local", width) | _coot_net(f"net_{side}_global", 384)
    return shapes


def _umi() -> Shapes:
    shapes: Shapes = {"alignment.base_vectors": (1, 3806, 256)}
    for name, tokens in (("rgb", 784), ("audio", 146)):
        at = f"reorganization.{name}"
        shapes |= _affine(f"{at}_embedding", 768) | {f"{at}_pos_embedding": (1, tokens, 256)}
        shapes |= _norm(f"{at}_head.0", 256) | _linear(f"{at}_head.1", 512, 256)
        shapes |= _affine(f"model.{name}_embedding", 768)
        for layer in range(6):
            inner = f"{at}_transformer.layers.{layer}"
            shapes |= _umi_block((f"{inner}.0.norm", f"{inner}.0.fn", f"{inner}.1.norm", f"{inner}.1.fn"))
    shapes |= {"model.pos_embedding": (1, 514, 256), "model.cls_token": (1, 2, 256)}
    for layer in range(6):
        inner = f"model.transformer.layers.{layer}"
        shapes |= _umi_block((f"{inner}.0.norm", f"{inner}.1", f"{inner}.2.norm", f"{inner}.3"))
    return shapes | _norm("model.mlp_head.0", 256) | _linear("model.mlp_head.1", 3806, 256)


def _avlnet() -> Shapes:
    shapes = _davenet("DAVEnet.", (128, 128, 256, 512, 1024), (2, 2, 2, 2)) | _linear("DAVEnet_projection", 4096, 1024)
    return shapes | _gated("GU_audio", 1024, 1024, False) | _ht()


def _ht() -> Shapes:
    shapes = _gated("GU_video", 4096, 4096, False) | _gated("GU_text_captions", 4096, 4096, False)
    return shapes | _linear("text_pooling_caption.fc", 4096, 300)


def _e2e() -> Shapes:
    shapes = _linear("fc", 512, 1024) | _linear("text_module.fc1", 2048, 300) | _linear("text_module.fc2", 512, 2048)
    return shapes | {"text_module.word_embd.weight": (66250, 300), "conv1.conv1.weight": (64, 24, 2, 4, 4)}


MMT_WIDTHS = {"face": 512, "ocr": 300, "rgb": 2048, "s3d": 1024, "scene": 2208, "speech": 300, "vggish": 128}
MDMMT_WIDTHS = {"VIDEO": 2048, "CLIP": 512, "tf_vggish": 128}
CE_WIDTHS = {"audio": 128, "face": 512, "flow": 1024, "ocr": 300, "rgb": 2048, "scene": 2208, "speech": 300}
SHAPES: dict[str, Callable[[], Shapes]] = {
    "mmt": lambda: _bert("vid_bert", MMT_WIDTHS, 4, "", "", "text_GU"),
    "mdmmt": lambda: _bert("vid_state_dict.vid_bert", MDMMT_WIDTHS, 9, "vid_state_dict.", "txt_state_dict.", "text_gu"),
    "ce": _ce,
    "mee": _mee,
    "eao": _eao,
    "coot": _coot,
    "umi": _umi,
    "avlnet": _avlnet,
    "ht": _ht,
    "e2e": _e2e,
    "mmv": lambda: mmv_shapes(1024, 512, 256, 2048),
    "drl": lambda: _frames() | _weights(),
    "clip4clip": _frames,
    "gram": _gram,
}
"""By format, every tensor of a released checkpoint by its key, in the shape that the release has."""
