"""The papers' losses as modules over embeddings, with their published defaults, for any PyTorch training loop.

>>> import torch
>>> video, text = torch.eye(3), torch.eye(3)
>>> float(MaxMargin(margin=0.2)(video, text))
0.0

Row i of the texts belongs to row i of the videos. Every loss is a scalar with gradients to both, and refuses other
shapes with ValueError. The functions behind them take similarity matrices and masks of negatives; see
`reelseek.models.losses`.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import Mask, zero_absent
from reelseek.models import losses
from reelseek.models.losses import CrossCLRConfig
from reelseek.models.losses.combinatorial import View, pairs_of_views, term_name, weighted_losses

__all__ = [
    "MILNCE",
    "MMS",
    "NCE",
    "CombinatorialLoss",
    "CrossCLR",
    "CrossCLRConfig",
    "InfoNCE",
    "MaxMargin",
]


class _CosineLoss(nn.Module):
    """A loss over the cosines of paired rows."""

    def __init__(self, loss: Callable[..., Tensor], **settings: float | bool) -> None:
        super().__init__()
        self._loss, self._settings = loss, settings

    def forward(self, video: Float[Tensor, "item dim"], text: Float[Tensor, "item dim"]) -> Float[Tensor, ""]:
        """Compute the loss of a batch; row i of both belongs together.

        Raises:
            ValueError: the shapes differ, or they are no matrices of floating-point numbers.
        """
        _check_paired(video, text)
        cosines = functional.normalize(text, dim=-1) @ functional.normalize(video, dim=-1).T
        return self._loss(cosines, **self._settings)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self._settings.items())


class MaxMargin(_CosineLoss):
    """Bidirectional max-margin ranking loss; margin .05 in MMT, .2 in MEE, COOT and VSE++.

    >>> float(MaxMargin(margin=0.5)(torch.ones(2, 3), torch.ones(2, 3)))  # every wrong pair violates by the margin
    0.5

    Args:
        margin: 0 or more.
        hardest: only the largest violation of each row and column (VSE++).

    Source: Gabeur et al. 2020, equation 1; see `reelseek.models.losses.max_margin`.
    """

    def __init__(self, margin: float = 0.05, *, hardest: bool = False) -> None:
        _check_not_negative("margin", margin)
        super().__init__(losses.max_margin, margin=margin, hardest=hardest)


class InfoNCE(_CosineLoss):
    """Symmetric InfoNCE, the mean of both directions (CLIP, CLIP4Clip).

    >>> loss = InfoNCE(temperature=0.07)(torch.randn(8, 16), torch.randn(8, 16))  # video, text
    """

    def __init__(self, temperature: float = 0.05) -> None:
        _check_positive("temperature", temperature)
        super().__init__(losses.info_nce, temperature=temperature)


class NCE(_CosineLoss):
    """As Everything at Once releases it: the sum of both directions, temperature .05.

    >>> loss = NCE()(torch.randn(8, 16), torch.randn(8, 16))  # video, text

    Source: Shvetsova et al. 2022, equation 3.
    """

    def __init__(self, temperature: float = 0.05) -> None:
        _check_positive("temperature", temperature)
        super().__init__(losses.nce, temperature=temperature)


class MMS(_CosineLoss):
    """Masked margin softmax; .001 in AVLnet (Rouditchenko et al. 2021, section 3.3).

    >>> loss = MMS()(torch.randn(8, 16), torch.randn(8, 16))  # video, text
    """

    def __init__(self, margin: float = 0.001) -> None:
        _check_not_negative("margin", margin)
        super().__init__(losses.mms, margin=margin)


class MILNCE(nn.Module):
    """MIL-NCE: of a video's candidate texts some must be near it; raw products, as released.

    >>> loss = MILNCE()(torch.randn(4, 16), torch.randn(12, 16))  # three candidate texts for each of four videos

    Source: Miech et al. 2020, equation 1.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        _check_positive("temperature", temperature)
        self.temperature = temperature

    def forward(self, video: Float[Tensor, "video dim"], text: Float[Tensor, "text dim"]) -> Float[Tensor, ""]:
        """Compute the loss of a batch; texts stand in order of their videos, the same number for each.

        Raises:
            ValueError: the number of texts is no multiple of that of videos, or the widths differ.
        """
        for name, rows in (("video", video), ("text", text)):
            _check_rows(name, rows)
        if not len(text) or len(text) % len(video) or video.shape[1:] != text.shape[1:]:
            raise ValueError(
                f"{tuple(text.shape)} texts for {tuple(video.shape)} videos; wanted as many texts for each video, "
                "of one width"
            )
        owners = torch.arange(len(video), device=video.device).repeat_interleave(len(text) // len(video))
        return losses.mil_nce(text @ video.T, video_of_text=owners, temperature=self.temperature)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"


class CrossCLR(nn.Module):
    """CrossCLR: negatives within a modality too; influential samples are no negatives and weigh more.

    >>> loss = CrossCLR()(torch.randn(8, 16), torch.randn(8, 16))  # video, text
    >>> queued = CrossCLR(CrossCLRConfig(queue=3000), dim=16)  # keeps the embeddings of earlier batches as negatives

    Args:
        config: temperature .03, lambda .8, gamma .9, kappa .0035 and no queue unless it says otherwise.
        dim: width of the embeddings; needed for a queue.
        input_dims: widths of the inputs of videos and texts; needed where a queue keeps them.

    Source: Zolfaghari et al. 2021, equations 4 to 6.
    """

    def __init__(
        self, config: CrossCLRConfig | None = None, *, dim: int | None = None, input_dims: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        config = config or CrossCLRConfig()
        if config.queue and dim is None:
            raise ValueError("a queue keeps embeddings: say their width with dim, and input_dims if inputs are given")
        self.dim = dim or 0
        self.input_dims = input_dims or (self.dim, self.dim)
        self.loss = losses.CrossCLR(config, (self.dim, *self.input_dims))

    def forward(
        self,
        video: Float[Tensor, "item dim"],
        text: Float[Tensor, "item dim"],
        video_input: Float[Tensor, "item _"] | None = None,
        text_input: Float[Tensor, "item _"] | None = None,
        ids: Int[Tensor, " item"] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute the loss of a batch; row i of both belongs together.

        Args:
            video_input, text_input: what the encoders were given, pooled; connectivity is measured there. None
                measures it on the embeddings themselves.
            ids: which sample each row is, so that its earlier copies in the queue are no negatives of it.

        Raises:
            ValueError: shapes differ, or a width is not the one that the queue was made for.
        """
        _check_paired(video, text)
        inputs = video if video_input is None else video_input, text if text_input is None else text_input
        for name, rows, width in zip(("video_input", "text_input"), inputs, self.input_dims, strict=True):
            _check_rows(name, rows, len(video), width if self.loss.config.queue else None)
        if self.loss.config.queue and video.shape[1] != self.dim:
            raise ValueError(f"embeddings are {video.shape[1]} wide, and the queue keeps {self.dim}; give that width")
        if ids is not None and ids.shape != video.shape[:1]:
            raise ValueError(f"ids are {tuple(ids.shape)} for {len(video)} items; give one number for each")
        return self.loss(video, text, *inputs, ids)


class CombinatorialLoss(nn.Module):
    """NCE between every pair of modalities, and between every modality and every fused pair of the others.

    For text, video and audio these are the six terms of equation 4: `text|video`, `text|audio`, `video|audio`,
    `text|video+audio`, `video|text+audio` and `audio|text+video`. The loss is their weighted mean. With more than three
    modalities the first one also meets all of the others fused.

    >>> rows = {name: torch.randn(8, 16) for name in ("text", "video", "audio")}
    >>> loss = CombinatorialLoss()(rows)

    Args:
        modalities: their names, text first.
        weights: of terms by their names, 1 where not named. None takes those of the paper's training on HowTo100M: the
            term of the first two modalities weighs 1, every other one .1. `{}` weighs all alike, as its fine-tuning.
        temperature: above 0; .05 in the paper.

    Source: Shvetsova et al., "Everything at Once", CVPR 2022, equations 3 and 4; weights from its supplement, A.5.
    """

    def __init__(
        self,
        modalities: Sequence[str] = ("text", "video", "audio"),
        weights: Mapping[str, float] | None = None,
        *,
        temperature: float = 0.05,
    ) -> None:
        super().__init__()
        _check_positive("temperature", temperature)
        if isinstance(modalities, str) or len(set(modalities)) != len(modalities) or len(modalities) < 2:
            raise ValueError(f"modalities are {modalities!r}; give the names of two or more, each once")
        self.modalities, self.temperature = tuple(modalities), temperature
        self._pairs = pairs_of_views(self.modalities)
        names = [term_name(*pair) for pair in self._pairs]
        if unknown := sorted(set(weights or ()) - set(names)):
            raise ValueError(f"weights name {unknown[0]!r}, which is no term; the terms are {', '.join(names)}")
        if negative := [name for name, weight in (weights or {}).items() if not weight >= 0]:
            raise ValueError(f"the weight of {negative[0]} is {(weights or {})[negative[0]]}; give 0 or more")
        published = {name: 1.0 if name == names[0] else 0.1 for name in names}
        self.weights = published if weights is None else dict.fromkeys(names, 1.0) | dict(weights)

    def forward(
        self,
        embeddings: Mapping[str | View, Float[Tensor, "item dim"]],
        present: Mapping[str, Bool[Tensor, " item"]] | None = None,
        ids: Int[Tensor, " item"] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute the loss of a batch; row i of all embeddings is one item.

        Args:
            embeddings: by view, a subset of modalities: `"text"`, `"video+audio"` or `("video", "audio")`, in any
                order, as `reelseek.blocks.FusionTransformer` gives them. With single modalities alone, a fused view is
                the mean of its modalities' unit vectors.
            present: which items have a modality; True where one is not named. A term looks only at items that have
                all of its modalities, and rows of the others change nothing, NaN included.
            ids: items that share a number are no negatives of each other, such as captions of one video.

        Returns:
            the weighted mean of the terms that have items; 0, with gradients of 0, where none has.

        Raises:
            ValueError: a view is missing or unknown, or shapes differ.
        """
        views = self._views(embeddings)
        items, first = len(next(iter(views.values()))), next(iter(views.values()))
        masks = {name: torch.ones(items, dtype=torch.bool, device=first.device) for name in self.modalities}
        for name, mask in (present or {}).items():
            if name not in masks or mask.shape != (items,) or mask.dtype != torch.bool:
                raise ValueError(
                    f"present[{name!r}] is {mask.dtype} {tuple(mask.shape)}; give bool [{items}] for any of "
                    f"{', '.join(self.modalities)}"
                )
            masks[name] = mask
        if ids is None:
            ids = torch.arange(items, device=first.device)
        elif ids.shape != (items,):
            raise ValueError(f"ids are {tuple(ids.shape)} for {items} items; give one number for each")
        for pair in self._pairs:
            for view in pair:
                if view not in views:
                    views[view] = _mean_of_units([(views[(name,)], masks[name]) for name in view])
        terms = weighted_losses(views, {name: Mask.of(mask) for name, mask in masks.items()}, self._pairs, self.weights,
                        self._nce, ids)  # fmt: skip
        if not terms:
            return torch.stack([zero_absent(torch.zeros_like(rows) > 0, rows).sum() for rows in views.values()]).sum()
        return torch.stack(list(terms.values())).sum()

    def _nce(self, similarity: Tensor, *, negatives: Tensor) -> Tensor:
        return losses.nce(similarity, temperature=self.temperature, negatives=negatives)

    def _views(self, embeddings: Mapping[str | View, Tensor]) -> dict[View, Tensor]:
        """The embeddings by view, modalities of each in the order of `modalities`."""
        views: dict[View, Tensor] = {}
        for label, rows in embeddings.items():
            names = tuple(label.split("+")) if isinstance(label, str) else tuple(label)
            if not names or not set(names) <= set(self.modalities) or len(set(names)) != len(names):
                raise ValueError(f"{label!r} is no view; join names of {', '.join(self.modalities)} with '+'")
            view = tuple(sorted(names, key=self.modalities.index))
            if view in views:
                raise ValueError(f"{label!r} is given twice, in another order")
            _check_rows("+".join(view), rows)
            views[view] = rows
        shapes = {tuple(rows.shape) for rows in views.values()}
        if len(shapes) > 1:
            named = ", ".join(f"{'+'.join(view)} {tuple(rows.shape)}" for view, rows in views.items())
            raise ValueError(f"embeddings differ in shape: {named}; give [item, dim] of one shape for all")
        needed = list(dict.fromkeys(view for pair in self._pairs for view in pair))
        fused = any(len(view) > 1 for view in views)
        absent = [view for view in needed if view not in views and (fused or len(view) == 1)]
        if absent:
            raise ValueError(f"there is no embedding of {', '.join('+'.join(view) for view in absent)}; give all views")
        return views

    def extra_repr(self) -> str:
        return f"modalities={self.modalities}, temperature={self.temperature}, weights={self.weights}"


def _mean_of_units(parts: Sequence[tuple[Tensor, Tensor]]) -> Float[Tensor, "item dim"]:
    rows = [zero_absent(mask[:, None], functional.normalize(values, dim=-1)) for values, mask in parts]
    return torch.stack(rows).mean(0)


def _check_rows(name: str, rows: Tensor, items: int | None = None, width: int | None = None) -> None:
    shape = f"[{'item' if items is None else items}, {'dim' if width is None else width}]"
    fits = rows.dim() == 2 and rows.is_floating_point() and len(rows) > 0
    if not fits or (items is not None and len(rows) != items) or (width is not None and rows.shape[1] != width):
        raise ValueError(f"{name} is {rows.dtype} {tuple(rows.shape)}; give floating-point numbers {shape}")


def _check_paired(video: Tensor, text: Tensor) -> None:
    _check_rows("video", video)
    _check_rows("text", text)
    if video.shape != text.shape:
        raise ValueError(f"videos are {tuple(video.shape)} and texts {tuple(text.shape)}; wanted [item, dim] of both")


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} is {value}; wanted more than 0")


def _check_not_negative(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} is {value}; wanted 0 or more")
