"""The score by which the best epoch is selected."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from reelseek.library.tokens import TokenReader
from reelseek.models.embed import embed_clips
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel
from reelseek.training.measure import Measured, measure_embedded
from reelseek.training.split import Split

__all__ = ["Validator", "averaged"]


@contextmanager
def averaged(model: RetrievalModel, average: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Put the averaged weights into a model, if there are any; its own come back at the end.

    Yields:
        the model's own weights: what is changed there is in the model afterwards.
    """
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    if average:
        model.load_state_dict(average)
    try:
        yield weights
    finally:
        model.load_state_dict(weights)


class Validator:
    """Measures a model on the validation split after every epoch; processes that train together share the work.

    Args:
        metric: of text-to-video retrieval, `train.metric`.
    """

    def __init__(self, reader: TokenReader, split: Split, metric: str) -> None:
        self.reader, self.split, self.metric = reader, split, metric

    def measure(self, model: RetrievalModel, average: dict[str, Tensor]) -> Measured:
        """Measure the averaged weights if there are any, else the model's own.

        What the model leaves to be selected on validation clips (`calibrate`, `choices`) is set to its best value, in
        the model and in `average`; all other weights of the model stay as they are.
        """
        with averaged(model, average) as weights:
            videos = embed_clips(model, self.reader, self.split.clips, divided=True)
            self.reader.share()
            owner = torch.tensor(self.split.clip_of_text)
            for name, value in model.calibrate(self.split.texts, videos, owner).items():
                for state in (model.state_dict(), weights, average):
                    if name in state:
                        state[name].copy_(torch.as_tensor(value))
            measured = self._measure(model, videos)
            for name, values in model.choices().items():
                value, measured = self._best_value(model, videos, model.state_dict()[name], values)
                for state in (weights, average):
                    if name in state:
                        state[name].fill_(value)
        return measured

    def score(self, measured: Measured) -> float:
        """Return the metric of text to video, with the sign that makes higher better."""
        metrics = measured.text_to_video
        return -metrics.mean_rank if self.metric == "mean_rank" else float(getattr(metrics, self.metric))

    def _measure(self, model: RetrievalModel, videos: Embedding) -> Measured:
        return measure_embedded(model, self.reader, self.split, videos, divided=True)

    def _best_value(
        self, model: RetrievalModel, videos: Embedding, parameter: Tensor, values: Sequence[float]
    ) -> tuple[float, Measured]:
        """The value of `parameter` with the best score; of equal ones the smallest."""
        trials = []
        for value in values:
            parameter.fill_(value)
            measured = self._measure(model, videos)
            trials.append((self.score(measured), value, measured))
        _, value, measured = max(trials, key=lambda trial: (trial[0], -trial[1]))
        return value, measured
