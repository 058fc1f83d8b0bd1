"""Clips with a caption each, as a loss sees them, and the parts of an embedded batch that it compares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reelseek.library.mask import Mask, upload
from reelseek.library.tokens import Steps, Tokens
from reelseek.models import parallel
from reelseek.models.blocks.mix import Plan
from reelseek.models.embedding import Embedding

__all__ = ["Batch", "Rows", "all_rows", "compared_parts", "embedding_of", "embedding_rows"]

Rows = tuple[Tensor, Mask]
"""Values with a row for each clip, and which clips have one."""


@dataclass(frozen=True)
class Batch:
    """Clips with a caption each.

    Attributes:
        video: numbers the videos that they come from.
        clip: numbers the clips of the whole training split, the same in every epoch.
        pseudo: what another model would have predicted for each clip (UMI's second branch).
        more_texts: further candidates for captions (MIL-NCE), a sequence [clip] for each; '' where a clip has fewer.
        apart: another clip of the same video is a negative too; by default it is none.
        local: compare with the clips of this process alone, where several train together.
        host_video: `video` on the host, where that is on a device.
        plans: attention plans of these clips that were made before the step, see `models.planning`.
    """

    tokens: Tokens
    texts: Sequence[str]
    video: Int[Tensor, " clip"]
    clip: Int[Tensor, " clip"] | None = None
    pseudo: Float[Tensor, "clip dim"] | None = None
    more_texts: Sequence[Sequence[str]] = ()
    apart: bool = False
    local: bool = False
    host_video: Int[Tensor, " clip"] | None = None
    plans: Mapping[bytes, Plan] | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same on a device; the host keeps what it decides by, and does not wait for the copy."""
        device = torch.device(device)
        away = device.type != "cpu"
        video = self.video.to(device, non_blocking=away)
        clip, pseudo = (
            part if part is None else part.to(device, non_blocking=away) for part in (self.clip, self.pseudo)
        )
        tokens = {name: steps.to(device) for name, steps in self.tokens.items()}
        plans = None if self.plans is None else {key: plan.to(device) for key, plan in self.plans.items()}
        return replace(
            self, tokens=tokens, video=video, clip=clip, pseudo=pseudo, host_video=self.video_numbers, plans=plans
        )

    @property
    def video_numbers(self) -> Int[Tensor, " clip"]:
        """`video` on the host."""
        if self.video.device.type == "cpu":
            return self.video
        return self.video.cpu() if self.host_video is None else self.host_video

    def videos(self, expert: str) -> Mask:
        """Which clips have an expert."""
        if expert in self.tokens:
            return self.tokens[expert].videos
        device = next(iter(self.tokens.values())).device
        return Mask.on(device, torch.zeros(len(self.texts), dtype=torch.bool))

    @property
    def evident(self) -> Bool[Tensor, " clip"]:
        """Which clips have at least one step of some modality, on the host."""
        return torch.stack([steps.videos.host for steps in self.tokens.values()]).any(0)

    def with_evidence(self, at_least: int = 0) -> "Batch":
        """The clips that have evidence: nothing can be learnt from the others.

        Args:
            at_least: so many clips; where fewer have evidence, the first of the others stay as well.
        """
        selected = self.evident
        others = (~selected).nonzero()[:, 0]
        selected[others[: max(0, at_least - len(selected) + len(others))]] = True
        if bool(selected.all()):
            return self
        return self.rows(selected.nonzero()[:, 0])

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, rows: "slice | Sequence[int] | Tensor") -> "Batch":
        """Return some of the clips: a slice, their numbers, or a mask."""
        return self.rows(torch.arange(len(self))[rows])

    @classmethod
    def concat(cls, parts: Sequence["Batch"]) -> "Batch":
        """Collate batches of the same experts, on the host, into one; steps are padded to the longest."""
        first = parts[0]
        clips = [part.clip for part in parts if part.clip is not None]
        pseudo = [part.pseudo for part in parts if part.pseudo is not None]
        return replace(
            first,
            tokens={name: Steps.concat([part.tokens[name] for part in parts]) for name in first.tokens},
            texts=[text for part in parts for text in part.texts],
            more_texts=[
                [text for texts in same for text in texts]
                for same in zip(*(part.more_texts for part in parts), strict=True)
            ],
            video=torch.cat([part.video for part in parts]),
            clip=torch.cat(clips) if first.clip is not None else None,
            pseudo=torch.cat(pseudo) if first.pseudo is not None else None,
            host_video=None,
            plans=None,
        )

    def rows(self, selected: Int[Tensor, " selected"]) -> "Batch":
        """Some of the clips, in that order, by their numbers on the host."""
        tokens = {name: steps.rows(selected) for name, steps in self.tokens.items()}
        index = upload([selected], self.video.device)[0]
        video = self.video.index_select(0, index)
        clip = None if self.clip is None else self.clip.index_select(0, index)
        pseudo = self.pseudo
        if pseudo is not None:
            pseudo = pseudo.index_select(0, upload([selected], pseudo.device)[0])
        texts, *more_texts = ([texts[row] for row in selected.tolist()] for texts in (self.texts, *self.more_texts))
        numbers = self.video_numbers.index_select(0, selected)
        return replace(
            self, tokens=tokens, texts=texts, more_texts=more_texts, video=video, clip=clip, pseudo=pseudo,
            host_video=numbers, plans=None,
        )  # fmt: skip

    @property
    def alike(self) -> Int[Tensor, " clip"]:
        """Clips that share a number are no negatives of each other's captions: those of a video, or copies of a clip.

        Raises:
            ValueError: clips are to be told apart and have no numbers.
        """
        if self.apart and self.clip is None:
            raise ValueError("apart: a batch that tells the clips of a video apart needs their numbers")
        return self.clip if self.apart and self.clip is not None else self.video

    def all_gather(self) -> "Batch":
        """The clips of all processes that train together, without their features and captions."""
        video = parallel.all_gather(self.video)
        clip, pseudo = (None if part is None else parallel.all_gather(part) for part in (self.clip, self.pseudo))
        texts = ("",) * len(video)
        return replace(
            self, tokens={}, texts=texts, more_texts=(), video=video, clip=clip, pseudo=pseudo, host_video=None
        )

    @property
    def negatives(self) -> Bool[Tensor, "text clip"]:
        return self.alike[:, None] != self.alike[None, :]

    def negatives_among(self, rows: Int[Tensor, " row"]) -> Bool[Tensor, "row row"]:
        """`negatives` of some clips, by their numbers beside the other tensors."""
        alike = self.alike.index_select(0, rows)
        return alike[:, None] != alike[None, :]


def all_rows(values: Tensor) -> Rows:
    """Rows of which none is absent."""
    return values, Mask.on(values.device, torch.ones(len(values), dtype=torch.bool))


def embedding_rows(name: str, embedding: Embedding) -> dict[str, Rows]:
    """An embedding with even weights as parts: its values, and as numbers which of its slots are present."""
    present = embedding.present.to(embedding.values.dtype)
    return {name: all_rows(embedding.values), f"{name} present": all_rows(present)}


def embedding_of(parts: Mapping[str, Rows], name: str) -> Embedding:
    """The embedding that `embedding_rows` put among parts."""
    return Embedding.even(parts[name][0], parts[f"{name} present"][0] > 0.5)


def compared_parts(parts: Mapping[str, Rows], batch: Batch, *, shared: bool) -> tuple[dict[str, Rows], Batch]:
    """The rows and the clips that a loss compares: those with evidence, of all processes where they are shared."""
    evident, rows = batch.evident, dict(parts)
    if shared:
        evident = parallel.all_gather(evident)
        for name, (values, mask) in parts.items():
            rows[name] = parallel.all_gather(values), Mask.on(values.device, parallel.all_gather(mask.host))
        batch = batch.all_gather()
    if bool(evident.all()):
        return rows, batch
    selected = evident.nonzero()[:, 0]
    for name, (values, mask) in rows.items():
        index = upload([selected], values.device)[0]
        rows[name] = values.index_select(0, index), Mask.on(values.device, mask.host.index_select(0, selected))
    return rows, batch.rows(selected)
