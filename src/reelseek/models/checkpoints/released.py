"""Key tables of the checkpoints that other projects released."""

from collections.abc import Mapping

from reelseek.models.blocks.project import key
from reelseek.models.checkpoints.keymap import KeyMap, Source

__all__ = ["audio_cnn", "avlnet", "ce", "coot", "e2e", "eao", "ht", "mdmmt", "mee", "mmt", "umi"]


def _bert_layers(table: KeyMap, prefix: str, depth: int) -> None:
    for layer in range(depth):
        ours, theirs = f"mix.layers.{layer}", f"{prefix}.encoder.layer.{layer}"
        parts = tuple(f"{theirs}.attention.self.{part}" for part in ("query", "key", "value"))
        table.joined(f"{ours}.attention.qkv", parts)
        table.linear(f"{ours}.attention.out", f"{theirs}.attention.output.dense")
        table.linear(f"{ours}.norm1", f"{theirs}.attention.output.layer_norm")
        table.linear(f"{ours}.feed.fc1", f"{theirs}.intermediate.dense")
        table.linear(f"{ours}.feed.fc2", f"{theirs}.output.dense")
        table.linear(f"{ours}.norm2", f"{theirs}.output.layer_norm")


def mmt(
    experts: Mapping[str, int], depth: int, *, types: int, video: str = "", text: str = "", unit: str = "text_GU"
) -> KeyMap:
    """Map MMT's keys.

    Args:
        experts: row of each expert in the released table of `types` expert embeddings, in the order of our slots.
        video, text: prefixes of the two sides (MDMMT).
        unit: `text_GU`, or `text_gu` before the release's commit ef81f96 and in MDMMT.
    """
    table = KeyMap("mdmmt" if video else "mmt")
    net = f"{video}vid_bert"
    table.same("position.weight", f"{net}.embeddings.position_embeddings.weight")
    table.sources["expert.weight"] = Source(
        (f"{net}.embeddings.token_type_embeddings.weight",), rows=(0, *experts.values()), of=types
    )
    table.linear("norm", f"{net}.embeddings.layer_norm")
    _bert_layers(table, net, depth)
    table.drop(f"{net}.pooler.dense", "the pooler's output is not read")
    for name in experts:
        table.linear(f"project.{key(name)}", f"{video}video_dim_reduce.{name}.fc")
        table.gated(f"captions.heads.{key(name)}", f"{text}{unit}.{name}", batch_norm=True)
    table.joined("captions.weights.scores", tuple(f"{text}moe_fc_txt.{name}" for name in experts))
    return table


def mdmmt(experts: Mapping[str, int], depth: int, *, types: int) -> KeyMap:
    """Map MDMMT's keys: MMT's under two prefixes."""
    return mmt(experts, depth, types=types, video="vid_state_dict.", text="txt_state_dict.", unit="text_gu")


def _vlad(table: KeyMap, ours: str, theirs: str) -> None:
    table.same(f"{ours}.clusters", f"{theirs}.clusters")
    table.same(f"{ours}.centres", f"{theirs}.clusters2", lead=1)
    table.norm(f"{ours}.norm", f"{theirs}.batch_norm")


def mee(
    experts: list[str], vlad: Mapping[str, str], columns: list[str], *, net: str = "mee", text: str = "text_pooling"
) -> KeyMap:
    """Map MEE's keys.

    Args:
        experts: in the order in which the released gated units are numbered.
        vlad: name of the released pooling of each expert that has one.
        columns: the experts of the columns of the released `moe_fc`, which follow another order.
    """
    table = KeyMap("mee")
    for name, theirs in vlad.items():
        _vlad(table, f"pools.vlad.{key(name)}", theirs)
    _vlad(table, "captions.vlad", text)
    for index, name in enumerate(experts):
        table.gated(f"heads.{key(name)}", f"{net}.video_GU.{index}", batch_norm=True)
        table.gated(f"captions.heads.{key(name)}", f"{net}.text_GU.{index}", batch_norm=True)
    rows = tuple(columns.index(name) for name in experts)
    for part in ("weight", "bias"):
        table.sources[f"captions.weights.scores.{part}"] = Source((f"{net}.moe_fc.{part}",), rows=rows, of=len(rows))
    return table


def ce(experts: list[str], vlad: list[str], *, pair_layers: int, gate_layers: int) -> KeyMap:
    """Map CE's keys; experts are numbered by their sorted names."""
    table = KeyMap("ce")
    for name in vlad:
        _vlad(table, f"pools.vlad.{key(name)}", f"pooling.{name}")
    _vlad(table, "captions.vlad", "text_pooling")
    table.linear("mix.pair.0", "ce.g_reason_1")
    for ours, theirs, layers in (("pair", "g_reason_shared", pair_layers - 1), ("gate", "h_reason", gate_layers)):
        for layer in range(layers):
            shift = 1 if ours == "pair" else 0
            table.norm(f"mix.{ours}.{shift + 3 * layer}", f"ce.{theirs}.{3 * layer}")
            table.linear(f"mix.{ours}.{shift + 3 * layer + 2}", f"ce.{theirs}.{3 * layer + 2}")
    for index, name in enumerate(experts):
        table.linear(f"project.{key(name)}", f"ce.video_dim_reduce.{index}.fc")
        table.linear(f"mix.own.{key(name)}", f"ce.video_GU.{index}.cg.fc")
        table.norm(f"mix.norm1.{key(name)}", f"ce.video_GU.{index}.cg.batch_norm")
        table.norm(f"mix.norm2.{key(name)}", f"ce.video_GU.{index}.cg.batch_norm2")
        table.gated(f"captions.heads.{key(name)}", f"ce.text_GU.{index}", batch_norm=True)
    table.linear("captions.weights.scores", "ce.moe_fc")
    return table


def audio_cnn(table: KeyMap, ours: str, theirs: str, blocks: tuple[int, ...]) -> None:
    """Map DAVEnet's keys."""
    table.same(f"{ours}conv.weight", f"{theirs}conv1.weight")
    table.norm(f"{ours}norm", f"{theirs}bn1")
    table.drop(
        f"{theirs}batchnorm1", "never applied", "weight", "bias", "running_mean", "running_var", "num_batches_tracked"
    )
    for stage, count in enumerate(blocks):
        for block in range(count):
            our_block, their_block = f"{ours}stages.{stage}.{block}", f"{theirs}layer{stage + 1}.{block}"
            for conv in (1, 2):
                table.same(f"{our_block}.conv{conv}.weight", f"{their_block}.conv{conv}.weight")
                table.norm(f"{our_block}.norm{conv}", f"{their_block}.bn{conv}")
            if block == 0:
                table.same(f"{our_block}.shortcut.0.weight", f"{their_block}.downsample.0.weight")
                table.norm(f"{our_block}.shortcut.1", f"{their_block}.downsample.1")


def eao(
    depth: int, blocks: tuple[int, ...], *, gated: bool, gated_head: bool, shared: bool, cls: bool, learned: bool
) -> KeyMap:
    """Map Everything at Once's keys; its modalities are video, audio and text."""
    table = KeyMap("eao")
    table.same("stand_in", "fusion.masking_token")
    if cls:
        table.same("cls", "fusion.cls_token", lead=2)
    for layer in range(depth):
        ours, theirs = f"mix.layers.{layer}", f"fusion.blocks.{layer}"
        for mine, other in (
            ("norm1", "norm1"), ("attention.qkv", "attn.qkv"), ("attention.out", "attn.proj"), ("norm2", "norm2"),
            ("feed.fc1", "mlp.fc1"), ("feed.fc2", "mlp.fc2"),
        ):  # fmt: skip
            table.linear(f"{ours}.{mine}", f"{theirs}.{other}")
    table.drop("fusion.norm", "never applied")
    for name in ("video", "audio", "text"):
        table.linear(f"norm.{name}", f"{name}_norm_layer")
        _either(table, f"project.{name}", f"{name}_token_proj", gated=gated)
        if not shared:
            _either(table, f"heads.{name}", f"{name}_proj", gated=gated_head)
        if learned:
            table.same(f"place.{name}", f"{name}_pos_embed", lead=1)
    if shared:
        _either(table, "heads.any", "proj", gated=gated_head)
    audio_cnn(table, "audio.audio.", "davenet.", blocks)
    return table


def _either(table: KeyMap, ours: str, theirs: str, *, gated: bool) -> None:
    if gated:
        table.gated(ours, theirs, batch_norm=False)
    else:
        table.linear(ours, theirs)


def coot(local_layers: int, global_layers: int, context_layers: int, *, attention: bool = True) -> KeyMap:
    """Map COOT's keys, the four networks' state dicts under `net_{video,text}_{local,global}.`."""
    table = KeyMap("coot")
    for side, ours_side in (("video", "video.0"), ("text", "caption.0")):
        for level in ("local", "global"):
            ours, theirs = f"{ours_side}.{level}_reader", f"net_{side}_{level}"
            _gain(table, f"{ours}.norm", f"{theirs}.norm_input")
            table.unused[f"{theirs}.embedding.pe"] = "position codes are computed"
            for layer in range(local_layers if level == "local" else global_layers):
                _coot_layer(table, f"{ours}.mix.layers.{layer}", f"{theirs}.tf.encoder_layers.{layer}")
            if level == "global":
                for layer in range(context_layers):
                    _coot_layer(table, f"{ours}.context.{layer}", f"{theirs}.tf_context.encoder_layers.{layer}")
                continue
            table.linear(f"{ours}.fc", f"{theirs}.input_fc.mlp.0")
            if attention:
                for mine, other in (("weight1", "w1"), ("bias1", "b1"), ("weight2", "w2"), ("bias2", "b2")):
                    table.same(f"{ours}.pool.{mine}", f"{theirs}.pooler.pools.0.genpool_{other}_head")
                table.unused[f"{theirs}.pooler.pools.0.genpool_one"] = "never read"
    return table


def _gain(table: KeyMap, ours: str, theirs: str) -> None:
    table.same(f"{ours}.weight", f"{theirs}.gain")
    table.same(f"{ours}.bias", f"{theirs}.bias")


def _coot_layer(table: KeyMap, ours: str, theirs: str) -> None:
    attention, feed = f"{theirs}.self_attention_layer", f"{theirs}.pointwise_feedforward_layer"
    parts = tuple(f"{attention}.sublayer.{part}_projection" for part in ("query", "key", "value"))
    table.joined(f"{ours}.attention.qkv", parts)
    table.linear(f"{ours}.attention.out", f"{attention}.sublayer.final_projection")
    _gain(table, f"{ours}.norm1", f"{attention}.layer_normalization")
    table.linear(f"{ours}.feed.fc1", f"{feed}.sublayer.feed_forward.0")
    table.linear(f"{ours}.feed.fc2", f"{feed}.sublayer.feed_forward.3")
    _gain(table, f"{ours}.norm2", f"{feed}.layer_normalization")


def umi(modalities: list[str], reorganise_depth: int, depth: int) -> KeyMap:
    """Map UMI's keys, those of reorganisation, model and alignment."""
    table = KeyMap("umi")
    for name in modalities:
        ours, theirs = f"reorganise.{key(name)}", f"reorganization.{name}"
        for part in range(3):
            table.linear(f"{ours}.embed.{part}", f"{theirs}_embedding.{part}")
            table.linear(f"embed.{key(name)}.{part}", f"model.{name}_embedding.{part}")
        table.same(f"{ours}.position", f"{theirs}_pos_embedding", lead=1)
        for layer in range(reorganise_depth):
            at = f"{theirs}_transformer.layers.{layer}"
            _umi_layer(
                table, f"{ours}.mix.layers.{layer}", (f"{at}.0.norm", f"{at}.0.fn", f"{at}.1.norm", f"{at}.1.fn")
            )
        for part in range(2):
            table.linear(f"{ours}.head.{part}", f"{theirs}_head.{part}")
    table.same("position", "model.pos_embedding", lead=1)
    table.same("cls", "model.cls_token", lead=1)
    table.same("prototypes", "alignment.base_vectors", lead=1)
    for layer in range(depth):
        at = f"model.transformer.layers.{layer}"
        _umi_layer(table, f"mix.layers.{layer}", (f"{at}.0.norm", f"{at}.1", f"{at}.2.norm", f"{at}.3"))
    for part in range(2):
        table.linear(f"head.{part}", f"model.mlp_head.{part}")
    return table


def _umi_layer(table: KeyMap, ours: str, theirs: tuple[str, str, str, str]) -> None:
    norm1, attention, norm2, feed = theirs
    table.linear(f"{ours}.norm1", norm1)
    table.same(f"{ours}.attention.qkv.weight", f"{attention}.to_qkv.weight")
    table.linear(f"{ours}.attention.out", f"{attention}.to_out.0")
    table.linear(f"{ours}.norm2", norm2)
    table.linear(f"{ours}.feed.fc1", f"{feed}.net.0")
    table.linear(f"{ours}.feed.fc2", f"{feed}.net.3")


def avlnet(blocks: tuple[int, ...], *, fused: bool) -> KeyMap:
    """Map AVLnet's keys, with text."""
    table = KeyMap("avlnet")
    audio_cnn(table, "audio_net.", "DAVEnet.", blocks)
    table.gated("audio_head.0", "GU_audio", batch_norm=False)
    table.linear("audio_head.1", "DAVEnet_projection")
    table.gated("video_head", "GU_video", batch_norm=False)
    table.linear("words.fc", "text_pooling_caption.fc")
    if fused:
        # The sum of a linear layer per half is one linear layer over both, concatenated; the biases add up.
        table.sources["fuse.fc.weight"] = Source(
            ("GU_audio_text.fc_text.weight", "GU_audio_text.fc_audio.weight"), axis=1
        )
        table.sources["fuse.fc.bias"] = Source(
            ("GU_audio_text.fc_text.bias", "GU_audio_text.fc_audio.bias"), added=True
        )
        table.linear("fuse.gate", "GU_audio_text.cg.fc")
    else:
        table.gated("text_head", "GU_text_captions", batch_norm=False)
    return table


def ht() -> KeyMap:
    """Map HowTo100M's keys."""
    table = KeyMap("ht")
    table.gated("heads.0", "GU_video", batch_norm=False)
    table.linear("text_read.0.fc", "text_pooling_caption.fc")
    table.gated("text_heads.0", "GU_text_captions", batch_norm=False)
    return table


def e2e() -> KeyMap:
    """Map the heads of MIL-NCE's S3D."""
    table = KeyMap("e2e")
    table.linear("heads.0", "fc")
    table.linear("text_read.0.fc", "text_module.fc1")
    table.linear("text_heads.0", "text_module.fc2")
    return table
