"""What few clips can teach: a ridge regression to caption features, the map learnt further, and which clips are hubs.

Caption features of a frozen text encoder are the anchors: clips are predicted into their space (`LinearSlot`), from
mean features or from their signed roots, whichever predicts left-out training clips better. A second pair of linear
maps begins there and is learnt on by a contrastive loss; the two make different mistakes. Some clips are near every
caption; how near a clip is to the training captions on the whole is taken off its scores, as a querybank does (Bogolin
et al. 2022, Cross modal retrieval with querybank normalisation). Only training clips are used.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import zero_absent
from reelseek.library.tokens import Steps
from reelseek.models.blocks.linear import LinearSlot, Means
from reelseek.models.blocks.pool import masked_mean

__all__ = ["Anchor"]

POWERS = (1.0, 0.5)  # of features, sign kept: activations of networks are heavy-tailed
_SMALL = 0.1  # of the usual deviation, added to each: a feature that hardly varies is not scaled up without bound


class Anchor(nn.Module):
    """Clips in the space of frozen caption features.

    Args:
        experts: width of each expert's features.
        text_dim: width of the caption features.
        bank: how many training captions are kept to tell hubs by.
        temperature: of the mean over the bank; low ones count a clip's nearest captions alone.
        dropout: of features, where the second pair of maps is learnt.
    """

    def __init__(
        self, experts: Mapping[str, int], text_dim: int, *, bank: int, temperature: float, dropout: float
    ) -> None:
        super().__init__()
        self.temperature, self.dropout = temperature, dropout
        self.linear = LinearSlot(experts, text_dim)
        width = sum(experts.values())
        self.video_map = nn.Parameter(torch.zeros(width, text_dim))
        self.text_map = nn.Parameter(torch.eye(text_dim))
        for name, values in {
            "shift": torch.zeros(width),
            "scale": torch.ones(width),
            "power": torch.ones(()),
            "hubness": torch.zeros(()),  # how much of it is taken off
            "learnt": torch.zeros(()),  # the share of the maps that are learnt
            "bank": torch.zeros(bank, text_dim),
            "captions": torch.zeros((), dtype=torch.long),  # of the bank that are filled
        }.items():
            self.register_buffer(name, values)
        self.shift: Tensor
        self.scale: Tensor
        self.power: Tensor
        self.hubness: Tensor
        self.learnt: Tensor
        self.bank: Tensor
        self.captions: Tensor

    @property
    def width(self) -> int:
        """Of its vectors: caption features and a hubness, in closed form and learnt."""
        return 2 * (self.bank.shape[1] + 1)

    @torch.no_grad()
    def fit(
        self, steps: Mapping[str, Steps], captions: Float[Tensor, "caption text"], owner: Int[Tensor, " caption"]
    ) -> None:
        """Fit to training clips.

        Args:
            captions: frozen features of every caption.
            owner: the clip of each caption.
        """
        ranks = {power: self._fit_power(power, steps, captions, owner) for power in POWERS}
        self._fit_power(min(POWERS, key=lambda power: ranks[power]), steps, captions, owner)
        start = self.linear.matrix @ self.linear.trust
        # Lengths do not matter, but an optimizer's steps do: entries are as large as those of an orthogonal map.
        spread = start.square().mean().sqrt().clamp(min=1e-12)
        self.video_map.copy_(start / spread / len(self.text_map) ** 0.5)
        self.text_map.copy_(self.linear.trust)
        self._fill_bank(captions)

    @torch.no_grad()
    def refit(
        self, steps: Mapping[str, Steps], captions: Float[Tensor, "caption text"], owner: Int[Tensor, " caption"]
    ) -> None:
        """Fit the closed form alone to more clips: the learnt maps keep the standardised inputs that they know.

        Args:
            captions, owner: as of `fit`.
        """
        self.linear.fit(self._means(steps), captions, owner)
        self._fill_bank(captions)

    def _fill_bank(self, captions: Float[Tensor, "caption text"]) -> None:
        rows = torch.linspace(0, len(captions) - 1, min(len(captions), len(self.bank))).long()
        self.captions.fill_(len(rows))
        self.bank[: len(rows)] = captions[rows] - self.linear.centre

    def _fit_power(
        self, power: float, steps: Mapping[str, Steps], captions: Tensor, owner: Int[Tensor, " caption"]
    ) -> float:
        """Fit to a power of the features; the mean logarithm of the ranks of left-out clips."""
        self.power.fill_(power)
        self.shift.zero_()
        self.scale.fill_(1)
        begin = 0
        for rows, present in self._means(steps).values():
            place = slice(begin, begin + rows.shape[1])
            begin = place.stop
            if int(present.sum()) > 1:
                deviation = rows[present].std(0)
                self.shift[place] = rows[present].mean(0)
                self.scale[place] = 1 / (deviation + _SMALL * deviation.mean().clamp(min=1e-6))
        return self.linear.fit(self._means(steps), captions, owner)

    def _means(self, steps: Mapping[str, Steps]) -> Means:
        """The standardised mean of each expert's steps [video, dim], and which videos have one [video]."""
        means, begin = {}, 0
        for name, dim in self.linear.experts.items():
            place, track = slice(begin, begin + dim), steps[name]
            begin = place.stop
            mean = masked_mean(track.clean, track.present)
            rows = (mean.sign() * mean.abs() ** self.power - self.shift[place]) * self.scale[place]
            means[name] = (zero_absent(track.videos.tensor[:, None], rows), track.videos.tensor)
        return means

    def forward(self, steps: Mapping[str, Steps]) -> tuple[Float[Tensor, "video width"], Bool[Tensor, " video"]]:
        """Predicted caption features of unit length, a hubness behind them, twice; and which clips have them."""
        means = self._means(steps)
        values, present = self.linear(means)
        learnt = self.learnt_videos(means)
        parts = [values, self._hubness(values, self.linear.trust), learnt, self._hubness(learnt, self.text_map)]
        return torch.cat(parts, 1), present

    def encode_text(self, features: Float[Tensor, "item text"]) -> Float[Tensor, "item width"]:
        """Caption features as either pair of maps has them, each times its share."""
        hubness, learnt = -self.hubness * torch.ones_like(features[:, :1]), self.learnt
        closed, further = self.linear.encode_text(features), self.learnt_texts(features)
        return torch.cat([(1 - learnt) * torch.cat([closed, hubness], 1), learnt * torch.cat([further, hubness], 1)], 1)

    def learnt_videos(self, means: Means) -> Float[Tensor, "video text"]:
        rows = torch.cat([means[name][0] for name in self.linear.experts], 1)
        rows = functional.dropout(rows, self.dropout, self.training)
        return functional.normalize(rows @ self.video_map, dim=-1)

    def learnt_texts(self, features: Float[Tensor, "item text"]) -> Float[Tensor, "item text"]:
        return functional.normalize((features - self.linear.centre) @ self.text_map, dim=-1)

    def learnt_videos_of(self, steps: Mapping[str, Steps]) -> Float[Tensor, "video text"]:
        """What the learnt maps predict of clips."""
        return self.learnt_videos(self._means(steps))

    def _hubness(
        self, values: Float[Tensor, "video text"], trust: Float[Tensor, "text text"]
    ) -> Float[Tensor, "video 1"]:
        """The temperature times the logarithm of the mean over the bank of `exp(cosine / temperature)`."""
        cosines = values @ functional.normalize(self.bank @ trust, dim=-1).T
        # Masked rather than cut, so that nobody waits for a device to say how many captions there are.
        count = self.captions.clamp(min=1)
        empty = torch.arange(len(self.bank), device=cosines.device) >= count
        mean = (cosines / self.temperature).masked_fill(empty, -torch.inf).logsumexp(1, keepdim=True) - count.log()
        return self.temperature * mean * (self.captions > 0)
