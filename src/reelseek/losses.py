"""The papers' losses as modules over embeddings, with their published defaults, for a training loop of one's own.

>>> import torch
>>> video, text = torch.eye(3), torch.eye(3)
>>> float(MaxMargin(margin=0.2)(video, text))
0.0

Row i of the texts belongs to row i of the videos. The functions behind them take similarity matrices and masks of
negatives; see `reelseek.models.losses`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from reelseek.models import losses
from reelseek.models.losses import CrossCLRConfig

__all__ = ["MILNCE", "MMS", "NCE", "CrossCLR", "CrossCLRConfig", "InfoNCE", "MaxMargin"]


class _OfCosines(nn.Module):
    """A loss over the cosines of paired rows."""

    def __init__(self, loss: Callable[..., Tensor], **settings: float | bool) -> None:
        super().__init__()
        self._loss, self._settings = loss, settings

    def forward(self, video: Float[Tensor, "item dim"], text: Float[Tensor, "item dim"]) -> Float[Tensor, ""]:
        """Row i of both belongs together.

        Raises:
            ValueError: the shapes differ.
        """
        _check_paired(video, text)
        cosines = functional.normalize(text, dim=-1) @ functional.normalize(video, dim=-1).T
        return self._loss(cosines, **self._settings)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self._settings.items())


class MaxMargin(_OfCosines):
    """Bidirectional max-margin ranking loss; margin .05 in MMT, .2 in MEE, COOT and VSE++.

    Args:
        hardest: only the largest violation of each row and column (VSE++).

    Source: Gabeur et al. 2020, equation 1; see `reelseek.models.losses.max_margin`.
    """

    def __init__(self, margin: float = 0.05, *, hardest: bool = False) -> None:
        super().__init__(losses.max_margin, margin=margin, hardest=hardest)


class InfoNCE(_OfCosines):
    """Symmetric InfoNCE, the mean of both directions (CLIP, CLIP4Clip)."""

    def __init__(self, temperature: float = 0.05) -> None:
        _check_positive("temperature", temperature)
        super().__init__(losses.info_nce, temperature=temperature)


class NCE(_OfCosines):
    """As Everything at Once releases it: the sum of both directions, temperature .05.

    Source: Shvetsova et al. 2022, equation 3.
    """

    def __init__(self, temperature: float = 0.05) -> None:
        _check_positive("temperature", temperature)
        super().__init__(losses.nce, temperature=temperature)


class MMS(_OfCosines):
    """Masked margin softmax; .001 in AVLnet (Rouditchenko et al. 2021, section 3.3)."""

    def __init__(self, margin: float = 0.001) -> None:
        super().__init__(losses.mms, margin=margin)


class MILNCE(nn.Module):
    """MIL-NCE: of a video's candidate texts some must be near it; raw products, as released.

    Source: Miech et al. 2020, equation 1.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        _check_positive("temperature", temperature)
        self.temperature = temperature

    def forward(self, video: Float[Tensor, "video dim"], text: Float[Tensor, "text dim"]) -> Float[Tensor, ""]:
        """Texts stand in order of their videos, as many for each.

        Raises:
            ValueError: the number of texts is no multiple of that of videos.
        """
        if not len(video) or len(text) % len(video) or video.shape[1:] != text.shape[1:]:
            raise ValueError(
                f"{tuple(text.shape)} texts for {tuple(video.shape)} videos; wanted as many texts for each video, "
                "of one width"
            )
        owners = torch.arange(len(video), device=video.device).repeat_interleave(len(text) // len(video))
        return losses.mil_nce(text @ video.T, video_of_text=owners, temperature=self.temperature)


class CrossCLR(nn.Module):
    """CrossCLR: negatives within a modality too; influential samples are no negatives and weigh more.

    Args:
        config: temperature .03, lambda .8, gamma .9, kappa .0035 and no queue unless it says otherwise.
        input_dims: widths of the inputs of videos and texts; wanted where a queue keeps them.

    Source: Zolfaghari et al. 2021, equations 4 to 6.
    """

    def __init__(
        self, config: CrossCLRConfig | None = None, *, dim: int | None = None, input_dims: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        config = config or CrossCLRConfig()
        if config.queue and dim is None:
            raise ValueError("a queue keeps embeddings: say their width with dim, and input_dims if inputs are given")
        width = dim or 0
        self.loss = losses.CrossCLR(config, (width, *(input_dims or (width, width))))

    def forward(
        self,
        video: Float[Tensor, "item dim"],
        text: Float[Tensor, "item dim"],
        video_input: Float[Tensor, "item _"] | None = None,
        text_input: Float[Tensor, "item _"] | None = None,
        ids: Int[Tensor, " item"] | None = None,
    ) -> Float[Tensor, ""]:
        """Row i of both belongs together.

        Args:
            video_input, text_input: what the encoders were given, pooled; connectivity is measured there. None
                measures it on the embeddings themselves.
            ids: which sample each row is, so that its earlier copies in the queue are no negatives of it.
        """
        _check_paired(video, text)
        given = video if video_input is None else video_input, text if text_input is None else text_input
        return self.loss(video, text, *given, ids)


def _check_paired(video: Tensor, text: Tensor) -> None:
    if video.dim() != 2 or video.shape != text.shape:
        raise ValueError(f"videos are {tuple(video.shape)} and texts {tuple(text.shape)}; wanted [item, dim] of both")


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} is {value}; wanted more than 0")
