"""A trainable convolutional network over log-mel spectrograms (DAVEnet, as AVLnet and EAO use it)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from reelseek.library.mask import zero_absent
from reelseek.library.tokens import Steps

__all__ = ["AudioCNN"]


class AudioCNN(nn.Module):
    """Spectrogram [frame, band] -> tokens: one convolution over all bands, then residual stages that halve time.

    Args:
        bands: mel bands.
        widths: channels of the first convolution and of each stage. (128, 128, 256, 512, 1024) is AVLnet's, in four
            stages of two blocks; (128, 128, 256, 512, 1024, 2048, 4096) EAO's, in six.
        blocks: residual blocks of each stage.
        kernel: length of the convolutions over time, odd.

    Source: Harwath et al. 2018; Rouditchenko et al. 2021, section 3.2; Shvetsova et al. 2022, supplement C.
    """

    def __init__(self, bands: int, widths: Sequence[int], blocks: Sequence[int], *, kernel: int = 9) -> None:
        super().__init__()
        if len(widths) != len(blocks) + 1:
            raise ValueError(f"{len(widths)} widths and {len(blocks)} stages: give one width more than stages")
        self.conv = nn.Conv2d(1, widths[0], (bands, 1), bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(_Block(before if not index else width, width, kernel, 1 if index else 2) for index in range(count))
            )
            for before, width, count in zip(widths[:-1], widths[1:], blocks, strict=True)
        )
        self.width, self.stride = widths[-1], 2 ** len(blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, frames: Float[Tensor, "video frame band"]) -> Float[Tensor, "video token channel"]:
        """Tokens of all frames, padding included."""
        values = self.norm(self.conv(frames.transpose(1, 2)[:, None])).relu()
        for stage in self.stages:
            values = stage(values)
        tokens: Tensor = values[:, :, 0].transpose(1, 2)
        return tokens

    def kernel(self, frames: int) -> int:
        """Frames per token, as the released mask counts them: `ceil(frames / tokens)`."""
        tokens = -(-frames // self.stride)
        return -(-frames // tokens)

    def token_mask(self, present: Tensor) -> Tensor:
        """A token is present where any of its frames is. Frames that do not fill a last token are ignored."""
        kernel = self.kernel(present.shape[1])
        return functional.max_pool1d(present.float()[:, None], kernel, stride=kernel)[:, 0] > 0

    def forward(self, steps: Steps) -> Steps:
        """Tokens with their masks and spans.

        Frames are padded to a whole number of tokens, so that mask and tokens agree. Absent frames are set to zero
        after every layer that mixes frames, so that a clip's tokens do not depend on the padding of its batch.
        """
        length = steps.present.shape[1]
        padding = -length % self.stride
        frames = functional.pad(steps.clean, (0, 0, 0, padding))
        present, host = (functional.pad(mask, (0, padding)) for mask in (steps.present, steps.mask))
        spans = functional.pad(steps.spans, (0, 0, 0, padding))
        has_audio = steps.videos
        if self.training and not has_audio.all and has_audio.count:
            # Batch statistics exclude clips without sound.
            rows = self._masked(frames.index_select(0, has_audio.rows), present.index_select(0, has_audio.rows))
            values = rows.new_zeros(len(frames), *rows.shape[1:]).index_copy(0, has_audio.rows, rows)
        else:
            values = self._masked(frames, present)
        frames_of_token = present.unflatten(1, (-1, self.stride))
        token_present = frames_of_token.any(2)
        spans = spans.unflatten(1, (-1, self.stride))
        starts = spans[..., 0].masked_fill(~frames_of_token, torch.inf).amin(2)
        ends = spans[..., 1].masked_fill(~frames_of_token, -torch.inf).amax(2)
        spans = torch.stack([starts, ends], -1)
        spans = zero_absent(token_present[..., None], spans)
        return Steps(values, token_present, spans, host=host.unflatten(1, (-1, self.stride)).any(2))

    def _masked(self, frames: Tensor, present: Tensor) -> Tensor:
        mask = present[:, None, None].to(frames.dtype)
        values = self.norm(self.conv(frames.transpose(1, 2)[:, None])).relu() * mask
        for stage in self.stages:
            mask = functional.max_pool2d(mask, (1, 2), ceil_mode=True)
            for block in stage.children():
                values = block(values, mask)
        tokens: Tensor = values[:, :, 0].transpose(1, 2)
        return tokens


class _Block(nn.Module):
    """Two convolutions over time with a shortcut, which is a strided convolution at the start of a stage."""

    def __init__(self, before: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        pad = (0, kernel // 2)
        self.conv1 = nn.Conv2d(before, width, (1, kernel), stride=(1, stride), padding=pad, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, (1, kernel), padding=pad, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, width, 1, stride=(1, stride), bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        inner = self.norm1(self.conv1(values)).relu()
        if mask is not None:
            inner = inner * mask
        inner = self.norm2(self.conv2(inner))
        out = (inner + self.shortcut(values)).relu()
        return out if mask is None else out * mask
