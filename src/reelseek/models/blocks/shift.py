"""What TS2-Net (Liu et al., ECCV 2022) does to steps: shift them in time, and select those that say most."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reelseek.library.mask import Mask, zero_absent
from reelseek.library.tokens import Steps
from reelseek.models.blocks.arrange import exactly
from reelseek.models.blocks.pool import masked_mean

__all__ = ["TokenSelection", "shift_steps"]

_TRIALS = 500  # perturbations whose selections are averaged in training, and
_NOISE = 0.05  # their standard deviation: both as released


def shift_steps(steps: Steps, share: float) -> Steps:
    """Let every step hold a share of the next step's features, and as large a share of the one before.

    TS2-Net shifts whole patch tokens between frames, in the last two of twelve layers of the image tower. A track has
    one token for each step, whose channels are shifted instead, as in TSM (Lin et al. 2019), which it starts from. At
    either end zeros come in.

    Args:
        steps: present ones packed to the left.
        share: of the features, for both directions together; 0 to 1.
    """
    width = round(steps.values.shape[2] * share / 2)
    if not width:
        return steps
    values = steps.clean
    empty = values.new_zeros(len(values), 1, width)
    later = torch.cat([values[:, 1:, :width], empty], 1)
    earlier = torch.cat([empty, values[:, :-1, width : 2 * width]], 1)
    shifted = torch.cat([later, earlier, values[:, :, 2 * width :]], 2)
    return steps.with_values(zero_absent(steps.present[..., None], shifted))


class _PerturbedTop(torch.autograd.Function):
    """The mean over noise of which steps are the highest [video, place, step], with the gradient of that mean.

    Source: Berthet et al. 2020 (Learning with differentiable perturbed optimizers); Cordonnier et al. 2021.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, scores: Tensor, noise: Tensor, places: int, deviation: float
    ) -> Tensor:
        trials = scores[:, None] + deviation * noise
        selected = trials.topk(places, dim=2).indices.sort(dim=2).values  # in order of time
        one_hot = torch.zeros(*selected.shape, scores.shape[1], device=scores.device, dtype=scores.dtype)
        one_hot.scatter_(3, selected[..., None], 1.0)
        ctx.save_for_backward(one_hot, noise)
        ctx.deviation = deviation  # type: ignore[attr-defined]
        return one_hot.mean(1)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        one_hot, noise = ctx.saved_tensors  # type: ignore[attr-defined]
        along = torch.einsum("vps,vnps->vn", gradients[0], one_hot)
        scale = noise.shape[1] * ctx.deviation  # type: ignore[attr-defined]
        return torch.einsum("vn,vns->vs", along, noise) / scale, None, None, None


class TokenSelection(nn.Module):
    """The `places` steps of a video that score highest beside the mean of all its steps, in order of time.

    In training a step is selected softly: by the mean over perturbed scores, through which the scorer learns.

    TS2-Net selects patches of each frame instead: three, and the class token of the frame as a fourth. It scores a
    patch beside that token, by layers half as wide and a tanh; the mean of steps and the softmax are ours.

    Source: Liu et al. 2022 (TS2-Net), and its released code.
    """

    def __init__(self, width: int, places: int) -> None:
        super().__init__()
        self.places = places
        self.local = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())
        self.score = nn.Sequential(
            nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, 1)
        )

    def scores(self, steps: Steps) -> Float[Tensor, "video step"]:
        """The share of the softmax over a video's steps that each has; -1 where there is no step."""
        local = self.local(steps.clean)
        everywhere = masked_mean(local, steps.present)[:, None].expand_as(local)
        logits = self.score(torch.cat([local, everywhere], 2))[..., 0].float()
        shares = logits.masked_fill(~steps.present, torch.finfo(logits.dtype).min).softmax(1)
        return torch.where(steps.present, shares, shares.new_full((), -1.0))

    def forward(self, steps: Steps) -> Steps:
        """Args:
        steps: present ones packed to the left, at least as many places as are selected.
        """
        if steps.mask.shape[1] <= self.places:
            return exactly(steps, self.places)
        scores = self.scores(steps)
        if self.training:
            noise = torch.randn(len(scores), _TRIALS, scores.shape[1], device=scores.device)
            shares: Tensor = _PerturbedTop.apply(scores, noise, self.places, _NOISE)  # type: ignore[no-untyped-call]
        else:
            best = scores.topk(self.places, dim=1).indices.sort(dim=1).values
            shares = torch.zeros(*best.shape, scores.shape[1], device=scores.device).scatter_(2, best[..., None], 1.0)
        present = torch.arange(self.places) < steps.mask.sum(1, keepdim=True)
        mask = Mask.on(steps.device, present)
        values, spans = (torch.bmm(shares.to(part.dtype), part) for part in (steps.clean, steps.spans))
        return Steps(zero_absent(mask.tensor[..., None], values), mask.tensor, spans, host=present)
