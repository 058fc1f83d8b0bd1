"""Published systems: `SYSTEMS` registers them, `NOT_OFFERED` says which are missing and why.

A package adds its own by an entry point in the group `reelseek.systems`, `name = "package.module:object"`, where the
object is a `System`; a script by `SYSTEMS["name"] = System(...)`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from reelseek.errors import ModelError, ReelseekError
from reelseek.models.model import RetrievalModel
from reelseek.models.settings import describe_problems
from reelseek.models.systems import (
    anchored,
    avlnet,
    binding,
    ce,
    clip_mean,
    concepts,
    coot,
    drl,
    eao,
    gram,
    joint,
    jpose,
    jsfusion,
    late_fusion,
    mbt,
    mdmmt,
    mee,
    mmt,
    mmv,
    perceiver_io,
    ssb,
    token_fusion,
    umi,
    vast,
    xpool,
    zorro,
)
from reelseek.models.systems.registry import Systems
from reelseek.plugins import describe_error

__all__ = ["NOT_OFFERED", "SYSTEMS", "System"]


EXAMPLE = {"object": 1000, "motion": 224, "audio": 40, "speech": 384, "ocr": 384}


@dataclass(frozen=True)
class System:
    """One entry of the registry.

    Attributes:
        config, create: its configuration class, and the class that it builds.
        paper, composition, missing: shown by `models show`; `missing` is the treatment of an absent modality.
        defaults: settings in which it differs from its configuration's defaults.
        schedule: its published training schedule, as far as `[train]` of a recipe can express it.
        published: the packaged recipe with its published settings, whose schedule is the same.
        trained: whether it needs training.
        experts: expert widths for which its parameters are counted.
    """

    config: type[Any]
    create: Callable[[Any], RetrievalModel]
    paper: str = "not published"
    composition: str = "not described"
    missing: str = "not described"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    published: str = ""
    trained: bool = True
    experts: Mapping[str, int] = field(default_factory=lambda: EXAMPLE)

    @property
    def parameters(self) -> int:
        """Number of parameters for `experts` at the default sizes; nothing is allocated."""
        if not self.trained:
            return 0
        with torch.device("meta"):
            model = self.build({"experts": dict(self.experts)})
        return sum(parameter.numel() for parameter in model.parameters())

    def build(self, settings: Mapping[str, Any]) -> RetrievalModel:
        """Build a model from plain settings.

        Raises:
            ModelError: a setting is unknown or wrong; names it.
        """
        try:
            config = TypeAdapter(self.config).validate_python({**self.defaults, **settings})
        except ValidationError as error:
            raise ModelError(f"settings of the model are wrong: {describe_problems(error, self.config)}") from error
        try:
            model = self.create(config)
        except ValueError as error:  # a block refuses inconsistent sizes
            raise ModelError(f"settings of the model are wrong: {error}") from error
        except ReelseekError:
            raise
        except Exception as error:  # foreign code: whatever it raises is its own failure
            raise ModelError(f"{self.create!r} cannot build its model: {describe_error(error)}") from error
        if not isinstance(model, RetrievalModel):
            raise ModelError(f"{self.create!r} gives a {type(model).__name__}; it has to give a RetrievalModel")
        model.system = next((name for name, system in SYSTEMS.items() if system is self), model.system)
        return model


_MASKED = "mask: key mask and zero weight, present slots are renormalised"
_OR_REFUSE = "mask (ours): an absent modality is left out; refuse: as published, an error"
_MASKED_KEYS = "mask: no text attends to what is absent; refuse"

_PACKAGED: dict[str, System] = {
    "concepts": System(
        concepts.ConceptsConfig,
        concepts.Concepts,
        paper="none: labels, speech, on-screen text and the query share one frozen sentence-embedding space",
        composition="labels/text -> sentence space, mean over steps, plain sum of slots",
        missing="mask: an absent modality adds nothing",
        trained=False,
    ),
    "clip_mean": System(
        clip_mean.ClipMeanConfig,
        clip_mean.ClipMean,
        paper="Portillo-Quintero et al. A Straightforward Framework for Video Retrieval Using CLIP. 2021",
        composition="frozen CLIP frames -> mean of unit vectors (or the middle frame) -> cosine",
        missing="one modality: a video without it is absent",
        trained=False,
    ),
    "late_fusion": System(
        late_fusion.LateFusionConfig,
        late_fusion.LateFusion,
        paper="the field's baseline: one unimodal model per modality, predictions averaged",
        composition="linear -> transformer, own modality -> mean -> one space per modality; mean of cosines",
        missing=_MASKED,
        schedule={"optimizer": "adam", "rate": 1e-4, "batch": 128, "epochs": 50},
    ),
    "mee": System(
        mee.MEEConfig,
        mee.MEE,
        paper="Miech, Laptev, Sivic. Learning a Text-Video Embedding from Incomplete and Heterogeneous Data. 2018",
        composition="mean or NetVLAD -> gated unit per expert; NetVLAD of words -> gated unit and weight per expert",
        missing=_MASKED,
        schedule={
            "optimizer": "adam", "rate": 0.0004, "schedule": "exponential", "decay": 0.95, "epochs": 100, "batch": 64,
            "keep": "last",
        },
        published="published/mee-msrvtt",
    ),
    "mee_coco": System(
        mee.MEEConfig,
        mee.MEE,
        paper="Miech, Laptev, Sivic 2018, section 4.4: still images are samples with appearance alone",
        composition="as mee; images are added to the training split, with one step of appearance and nothing else",
        missing=_MASKED,
        schedule={"optimizer": "adam", "rate": 1e-4, "decay": 0.95, "batch": 128, "epochs": 50},
    ),
    "ce": System(
        ce.CEConfig,
        ce.CE,
        paper="Liu, Albanie, Nagrani, Zisserman. Use What You Have: Collaborative Experts. BMVC 2019",
        composition="mean or NetVLAD -> linear+L2 -> gate from every pair of experts; text side as MEE",
        missing=f"{_MASKED}; keep (a switch that the release leaves off): absent experts score, all weights 1",
        schedule={
            "optimizer": "radam", "rate": 0.1, "weight_decay": 0.001, "schedule": "exponential", "decay": 0.95,
            "epochs": 100, "batch": 64, "metric": "geometric_mean",
        },
        published="published/ce-msrvtt",
    ),
    "mmt": System(
        mmt.MMTConfig,
        mmt.MMT,
        paper="Gabeur, Sun, Alahari, Schmid. Multi-modal Transformer for Video Retrieval. ECCV 2020",
        composition="linear+L2 -> [CLS], aggregate, steps -> transformer, full -> aggregates; gated text unit per slot",
        missing="mask (default): key mask and zero weight, renormalised; keep: as released, absent experts still score",
        schedule={
            "optimizer": "adam", "weight_decay": 0.0, "rate": 5e-05, "schedule": "exponential", "decay": 0.95,
            "epochs": 50, "batch": 32, "keep": "last",
        },
        published="published/mmt-msrvtt",
    ),
    "mdmmt": System(
        mdmmt.MDMMTConfig,
        mdmmt.MDMMT,
        paper="Dzabraev, Kalashnikov, Komkov, Petiushko. MDMMT: Multidomain Multimodal Transformer. CVPRW 2021",
        composition="as mmt, nine layers of eight heads; slots concatenated are one dot product",
        missing="mask (ours); keep: as released, an absent expert's empty token still scores",
        schedule={
            "optimizer": "adam", "weight_decay": 0.0, "rate": 5e-05, "schedule": "exponential", "decay": 0.95,
            "epochs": 50, "batch": 256, "gather": False, "metric": "recall_at_5",
        },
        published="published/mdmmt-best",
    ),
    "avlnet": System(
        avlnet.AVLnetConfig,
        avlnet.AVLnet,
        paper="Rouditchenko et al. AVLnet: Learning Audio-Visual Language Representations. Interspeech 2021",
        composition="max -> gated unit; spectrogram CNN -> mean -> gated unit; words' max -> gated unit; dot, a + v",
        missing=_OR_REFUSE,
        schedule={"optimizer": "adam", "rate": 1e-4, "batch": 128, "epochs": 15},
    ),
    "mcn": System(
        avlnet.MCNConfig,
        avlnet.MCN,
        paper="Chen et al. Multimodal Clustering Networks for Self-Supervised Learning. ICCV 2021",
        composition="avlnet's towers; k-means over the mean of modalities, contrast to centroids, reconstruction",
        missing=_OR_REFUSE,
        schedule={"optimizer": "adam", "rate": 1e-4, "batch": 128, "epochs": 30},
    ),
    "eao": System(
        eao.EAOConfig,
        eao.EAO,
        paper="Shvetsova et al. Everything at Once: Multi-modal Fusion Transformer for Video Retrieval. CVPR 2022",
        composition="gated unit -> views -> transformer, own view -> mean per modality -> gated unit; six NCE terms",
        missing="token: one learned stand-in, its loss rows left out; mask; refuse",
        experts={"video": 4096, "audio": 40},
        schedule={
            "optimizer": "adam", "rate": 5e-05, "schedule": "exponential", "decay": 0.9, "epochs": 15, "batch": 224,
            "batch_of": "videos", "clips_per_video": 10, "negatives": "clips", "keep": "last",
        },
        published="published/eao-howto100m",
    ),
    "coot": System(
        coot.COOTConfig,
        coot.COOT,
        paper="Ging, Zolfaghari, Pirsiavash, Brox. COOT: Cooperative Hierarchical Transformer. NeurIPS 2020",
        composition="MLP -> transformer, own clip -> attention pool -> transformer, context -> mean; margin + cycle",
        missing="experts are concatenated: an absent one is zeros there; groups trained apart are masked; refuse",
        schedule={
            "optimizer": "radam", "rate": 0.00036, "momentum": 0.56, "second_beta": 0.98, "epsilon": 1.5e-09,
            "weight_decay": 2e-05, "warmup": 0, "plateau_patience": 5, "cooldown": 3, "schedule": "plateau",
            "plateau_factor": 0.1, "epochs": 100, "patience": 16, "batch": 64, "batch_of": "videos",
            "negatives": "clips", "metric": "recall_at_1",
        },
        published="published/coot-youcook2",
    ),
    "crossclr": System(
        coot.CrossCLRModelConfig,
        coot.CrossCLRModel,
        paper="Zolfaghari, Zhu, Gehler, Brox. CrossCLR: Cross-modal Contrastive Learning. ICCV 2021",
        composition="as coot; CrossCLR with a queue on clips, without one on videos times .6",
        missing="as coot",
        schedule={
            "optimizer": "radam", "rate": 0.0007, "weight_decay": 0.0, "momentum": 0.56, "second_beta": 0.98,
            "epsilon": 1.5e-09, "schedule": "plateau", "plateau_factor": 0.1, "warmup": 4, "plateau_patience": 6,
            "cooldown": 4, "epochs": 100, "patience": 16, "batch": 64, "batch_of": "videos", "negatives": "clips",
            "metric": "recall_at_1",
        },
        published="published/crossclr-youcook2",
    ),
    "crossclr_lsmdc": System(
        coot.CrossCLRModelConfig,
        coot.CrossCLRModel,
        paper="Zolfaghari et al. 2021, supplement, table 1, LSMDC",
        composition="as crossclr; 768 wide, 16 heads at the local level, maximum for a pooler",
        missing="as coot",
        defaults={
            "width": 768, "heads": 16, "global_heads": 8, "inner": 768, "pooler": "max", "dropout": 0.01,
            "local": {"queue": 3000, "sharpness": 0.0055, "intra": 0.65},
            "everywhere": {"sharpness": 0.0055, "intra": 0.65},
        },
        schedule={
            "optimizer": "radam", "rate": 0.0007, "weight_decay": 0.0, "momentum": 0.56, "second_beta": 0.98,
            "epsilon": 1.5e-09, "schedule": "plateau", "plateau_factor": 0.1, "warmup": 4, "plateau_patience": 6,
            "cooldown": 4, "epochs": 100, "patience": 16, "batch": 64, "batch_of": "videos", "negatives": "clips",
            "metric": "recall_at_1",
        },
        published="published/crossclr-lsmdc",
    ),
    "mmv": System(
        mmv.MMVConfig,
        mmv.MMV,
        paper="Alayrac et al. Self-Supervised MultiModal Versatile Networks. NeurIPS 2020",
        composition="mean, words' max -> a graph of heads: vision -> fine -> coarse, audio -> fine, text -> coarse",
        missing="mask: the loss's terms skip clips without audio or text",
        schedule={"optimizer": "adam", "rate": 0.002, "schedule": "cosine", "warmup": 1, "epochs": 100, "batch": 4096},
        published="published/mmv",
    ),
    "mbt": System(
        mbt.MBTConfig,
        mbt.MBT,
        paper="Nagrani et al. Attention Bottlenecks for Multimodal Fusion. NeurIPS 2021 (retrieval side ours)",
        composition="linear -> transformers, own modality and its copy of the bottlenecks, copies averaged -> mean",
        missing=_OR_REFUSE,
        schedule={"optimizer": "sgd", "rate": 0.1, "batch": 64, "epochs": 50},
    ),
    "zorro": System(
        zorro.ZorroConfig,
        zorro.Zorro,
        paper="Recasens et al. Zorro: the masked multimodal transformer. 2023",
        composition="linear -> fusion tokens -> transformer, own stream, fusion reads all -> query pool per stream",
        missing="mask: key mask; each modality's stream is exactly the same as without the others",
        schedule={"optimizer": "adam", "rate": 1e-4, "batch": 512, "epochs": 50},
    ),
    "token_fusion": System(
        token_fusion.TokenFusionConfig,
        token_fusion.TokenFusion,
        paper="Wang et al. Multimodal Token Fusion for Vision Transformers. CVPR 2022 (retrieval side ours)",
        composition="linear -> k tokens per stream -> shared transformer, low tokens exchanged -> mean per stream",
        missing="mask (ours): nothing is borrowed from an absent stream; refuse: as published, an error",
        schedule={"optimizer": "adam", "rate": 1e-4, "batch": 128, "epochs": 50},
    ),
    "umi": System(
        umi.UMIConfig,
        umi.UMI,
        paper="Zhang, Doughty, Snoek. Learning Unseen Modality Interaction. NeurIPS 2023",
        composition="tokens -> k slots, summed over modalities -> transformer, two branches -> class tokens",
        missing="mask: the sum runs over present modalities",
        schedule={
            "optimizer": "sgd", "momentum": 0.9, "rate": 0.01, "weight_decay": 0.0005, "schedule": "constant",
            "epochs": 50, "batch": 128, "metric": "mean_rank",
        },
        published="published/umi-msrvtt",
    ),
    "umi_reproduction": System(
        umi.UMIConfig,
        umi.UMI,
        paper="Drys-Pentzakis et al. Reproducing Unseen Modality Interaction Results for MSR-VTT. 2024",
        composition="as umi; slots are embedded once more, and the supervised branch ranks alone",
        missing="mask: the sum runs over present modalities",
        defaults={"reading": "reproduction"},
        schedule={
            "optimizer": "sgd", "momentum": 0.9, "rate": 0.01, "weight_decay": 0.0005, "schedule": "constant",
            "epochs": 50, "batch": 128, "metric": "mean_rank",
        },
        published="published/umi-msrvtt-reproduction",
    ),
    "vse": System(
        joint.JointConfig,
        joint.Joint,
        paper="Kiros et al. 2014, as Faghri et al. 2018 (VSE++) compare with it",
        composition="mean -> linear; GRU's last state -> linear; cosine; margin over all negatives",
        missing=_MASKED,
        defaults={"text_reader": "last_state", "loss": {"name": "max_margin", "settings": {"margin": 0.2}}},
        schedule={"optimizer": "adam", "rate": 2e-4, "batch": 128, "epochs": 30},
    ),
    "vsepp": System(
        joint.JointConfig,
        joint.Joint,
        paper="Faghri, Fleet, Kiros, Fidler. VSE++: Improving Visual-Semantic Embeddings. BMVC 2018",
        composition="as vse; margin over the hardest negatives",
        missing=_MASKED,
        defaults={
            "text_reader": "last_state",
            "loss": {"name": "max_margin", "settings": {"margin": 0.2, "hardest": True}},
        },
        schedule={"optimizer": "adam", "rate": 2e-4, "batch": 128, "epochs": 30},
    ),
    "multi_cues": System(
        joint.JointConfig,
        joint.Joint,
        paper="Mithun, Li, Metze, Roy-Chowdhury. Learning Joint Embedding with Multimodal Cues. ICMR 2018",
        composition="two spaces (`spaces`: appearance; motion and sound), each as vsepp with ranks for weights; summed",
        missing=_MASKED,
        defaults={
            "text_reader": "last_state",
            "loss": {"name": "ranked_max_margin", "settings": {"margin": 0.2}},
        },
        schedule={"optimizer": "adam", "rate": 2e-4, "batch": 128, "epochs": 30},
    ),
    "w2vv": System(
        joint.JointConfig,
        joint.W2VV,
        paper="Dong, Li, Snoek. Predicting Visual Features from Text (Word2VisualVec). 2018",
        composition="frozen mean feature; text -> perceptron that predicts it; mean squared error, no negatives",
        missing=_MASKED,
        defaults={"head": "identity", "text_head": "perceptron"},
        experts={"object": 2048},
        schedule={"optimizer": "adam", "rate": 1e-4, "batch": 100, "epochs": 100},
    ),
    "dual_encoding": System(
        joint.JointConfig,
        joint.Joint,
        paper="Dong et al. Dual Encoding for Zero-Example Video Retrieval. CVPR 2019",
        composition="mean, biGRU and convolutions concatenated on both sides -> linear + BN; margin, hardest negatives",
        missing=_MASKED,
        defaults={
            "video": "dual", "text_reader": "dual", "hidden": 512, "width": 2048, "head": "normed",
            "text_head": "normed",
            "loss": {"name": "max_margin", "settings": {"margin": 0.2, "hardest": True}},
        },
        schedule={"optimizer": "adam", "rate": 1e-4, "batch": 128, "epochs": 50},
    ),
    "jpose": System(
        jpose.JPoseConfig,
        jpose.JPose,
        paper="Wray, Larlus, Csurka, Damen. Fine-Grained Action Retrieval Through Multiple Parts-of-Speech. ICCV 2019",
        composition="mean -> gated unit per part of speech, concatenated; triplets in squared distance",
        missing=_MASKED,
        schedule={
            "optimizer": "sgd", "momentum": 0.9, "rate": 0.01, "schedule": "constant", "epochs": 100, "batch": 64,
            "keep": "last",
        },
        published="published/jpose-epic",
    ),
    "ht": System(
        joint.JointConfig,
        joint.Joint,
        paper="Miech et al. HowTo100M: Learning a Text-Video Embedding by Watching Narrated Clips. ICCV 2019",
        composition="max -> gated unit; words' max -> gated unit; margin, moments of one video weighted",
        missing=_MASKED,
        defaults={
            "video": "max", "text_reader": "word_max", "hidden": 4096, "width": 4096, "head": "gated",
            "text_head": "gated", "loss": {"name": "within_video_max_margin", "settings": {"margin": 0.1}},
        },
        schedule={
            "optimizer": "adam", "rate": 0.0001, "schedule": "exponential", "decay": 0.9, "epochs": 15, "batch": 32,
            "batch_of": "videos", "clips_per_video": 64, "keep": "last",
        },
        published="published/ht-howto100m",
    ),
    "e2e": System(
        joint.JointConfig,
        joint.Joint,
        paper="Miech et al. End-to-End Learning of Visual Representations (MIL-NCE), CVPR 2020; its heads on features",
        composition="mean of S3D features -> linear; words' max -> linear; plain dot product, MIL-NCE",
        missing=_MASKED,
        defaults={
            "text_reader": "word_max", "hidden": 2048, "width": 512, "unit": False,
            "loss": {"name": "mil_nce", "settings": {}},
        },
        schedule={"optimizer": "adam", "rate": 1e-3, "batch": 512, "epochs": 15},
    ),
    "clip4clip": System(
        joint.JointConfig,
        joint.Joint,
        paper="Luo et al. CLIP4Clip: An Empirical Study of CLIP for End to End Video Clip Retrieval. 2022",
        composition="CLIP frames + transformer of four layers -> mean; CLIP text; symmetric cross entropy; on features",
        missing=_MASKED,
        defaults={
            "video": "residual", "head": "identity", "text_head": "identity",
            "loss": {"name": "info_nce", "settings": {"temperature": 0.01}},
            "text": {"dim": 512},
        },
        experts={"clip": 512},
        schedule={
            "optimizer": "adamw", "rate": 0.0001, "weight_decay": 0.2, "second_beta": 0.98, "epsilon": 1e-06,
            "clip_norm": 1.0, "schedule": "cosine", "warmup": 0.5, "rate_per": "step", "epochs": 5, "batch": 128,
            "metric": "recall_at_1",
        },
        published="published/clip4clip-msrvtt",
    ),
    "xpool": System(
        xpool.XPoolConfig,
        xpool.XPool,
        paper="Gorti et al. X-Pool: Cross-Modal Language-Video Attention for Text-Video Retrieval. CVPR 2022",
        composition="steps of all experts side by side; a text pools them by attention; cosine; on features",
        missing=_MASKED_KEYS,
        experts={"clip": 512},
        schedule={
            "optimizer": "adamw", "rate": 3e-05, "weight_decay": 0.2, "epsilon": 1e-06, "clip_norm": 1.0,
            "schedule": "cosine", "warmup": 0.5, "rate_per": "step", "epochs": 5, "batch": 32,
            "metric": "recall_at_1",
        },
        published="published/xpool-msrvtt",
    ),
    "jsfusion": System(
        jsfusion.JSFusionConfig,
        jsfusion.JSFusion,
        paper="Yu, Kim, Kim. A Joint Sequence Fusion Model for Video Question Answering and Retrieval. ECCV 2018",
        composition="frames x words -> gated joint tensor -> gated convolutions -> perceptron, a score a pair",
        missing="experts are fed side by side: an absent one is zeros there; refuse",
        experts={"appearance": 2048, "audio": 128},
        schedule={
            "optimizer": "adam", "rate": 0.0001, "clip_norm": 5.0, "schedule": "exponential", "decay": 0.5,
            "epochs": 10, "batch": 10,
        },
        published="published/jsfusion-lsmdc",
    ),
    "ssb": System(
        ssb.SSBConfig,
        ssb.SSB,
        paper="Patrick et al. Support-set Bottlenecks for Video-Text Representation Learning. ICLR 2021; on features",
        composition="linear -> transformer, full -> mean; hardest margin; a small decoder captions from other clips",
        missing="mask: key mask; refuse",
        schedule={"optimizer": "adamw", "rate": 1e-4, "batch": 64, "epochs": 50},
    ),
    "drl": System(
        drl.DRLConfig,
        drl.DRL,
        paper="Wang et al. Disentangled Representation Learning for Text-Video Retrieval. 2022",
        composition="frames + transformer of four layers; words and frames: best matches, weighted; decorrelation",
        missing="mask: no word looks at what is absent; refuse",
        experts={"clip": 512},
        schedule={
            "optimizer": "adamw", "rate": 0.0001, "weight_decay": 0.2, "second_beta": 0.98, "epsilon": 1e-06,
            "clip_norm": 1.0, "schedule": "cosine", "warmup": 0.5, "rate_per": "step", "epochs": 5, "batch": 128,
            "metric": "recall_at_1",
        },
        published="published/drl-msrvtt",
    ),
    "binding": System(
        binding.BindingConfig,
        binding.Binding,
        paper="Girdhar et al. ImageBind. CVPR 2023; Zhu et al. LanguageBind. ICLR 2024; on features",
        composition="a tower per modality, all in one space; mean of cosines; InfoNCE of each with one anchor",
        missing="mask: the mean of what is present; refuse",
        schedule={"optimizer": "adamw", "rate": 1e-4, "batch": 256, "epochs": 20, "schedule": "cosine"},
    ),
    "gram": System(
        gram.GramConfig,
        gram.Gram,
        paper="Cicchetti et al. Gramian Multimodal Representation Learning and Alignment. ICLR 2025; on features",
        composition="a tower per modality, all in one space; 1 - volume of text and modalities; InfoNCE both ways",
        missing="mask: the volume of what is present, to a power (ours) that makes subsets comparable; refuse",
        schedule={"optimizer": "adamw", "rate": 1e-4, "batch": 256, "epochs": 20, "schedule": "cosine"},
    ),
    "vast": System(
        vast.VASTConfig,
        vast.VAST,
        paper="Chen et al. VAST: A Vision-Audio-Subtitle-Text Omni-Modality Foundation Model. NeurIPS 2023",
        composition="transformers of sight, sound, subtitles -> a linear layer for every subset; InfoNCE of each",
        missing="mask: the fusion of exactly the streams that are present; refuse",
        schedule={"optimizer": "adamw", "rate": 1e-4, "batch": 256, "epochs": 20, "schedule": "cosine"},
    ),
    "perceiver_io": System(
        perceiver_io.PerceiverIOConfig,
        perceiver_io.PerceiverIO,
        paper="Jaegle et al. Perceiver IO. ICLR 2022 (retrieval side ours)",
        composition="latents read all modalities' steps -> transformer over latents -> a query reads them; InfoNCE",
        missing="mask: key mask; refuse",
        schedule={"optimizer": "adamw", "rate": 1e-4, "batch": 256, "epochs": 20, "schedule": "cosine"},
    ),
    "anchored": System(
        anchored.AnchoredConfig,
        anchored.create,
        paper="none: any system (`inner`) beside a ridge regression to frozen caption features, for few clips",
        composition="inner system; mean features -> ridge -> caption features, less hubness; a share chosen of each",
        missing="as the system inside; the anchor sums over what is present",
        schedule={"optimizer": "adamw", "rate": 3e-4, "weight_decay": 0.01, "batch": 128, "epochs": 30},
    ),
}  # fmt: skip

SYSTEMS: Systems[System] = Systems(_PACKAGED, System)

NOT_OFFERED: dict[str, str] = {
    "ct_san": "traces concepts over spatial feature maps (Yu et al. 2017), which pooled features no longer have",
}
