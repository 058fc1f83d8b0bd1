"""Exact search ranks as the model does, on the CPU and on a device, and says when clips do not fit there."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.models.pretended_device import DEVICE, pretended_device
from tests.models.worlds import SMALL, small
from tests.search.test_obeys_the_model import (  # noqa: F401 - fixtures among them
    QUERY,
    _expected,
    _same_order,
    few_background_queries,
    filled,
    library,
)

from reelseek.errors import UsageError
from reelseek.library import Library
from reelseek.models.embedding import Embedding
from reelseek.search import Searcher, exact, rank
from reelseek.search.exact import ExactGallery
from reelseek.search.query import parse_query
from reelseek.search.question import Question, Selection

SYSTEMS = ["mmt", "mee", "xpool", "jsfusion"]
assert set(SYSTEMS) <= set(SMALL)


@pytest.fixture
def neighbours_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """No candidates come from nearest neighbours, and blocks are of a few clips."""
    monkeypatch.setattr(rank, "candidate_rows", lambda *_: pytest.fail("nearest neighbours are searched"))
    monkeypatch.setattr(exact, "_BLOCK_FLOATS", 700)


@pytest.mark.usefixtures("few_background_queries", "neighbours_fail")
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_clip_is_scored_by_the_model(name: str, library: Library) -> None:  # noqa: F811
    model = small(name)
    expected = _expected(model, library, list(model.experts))
    searcher = Searcher(library, model, exact=True)
    _same_order(searcher.search(QUERY, k=100, group_by="video"), expected)
    best = dict(list(expected.items())[:3])
    _same_order(searcher.search(QUERY, k=3, group_by="video"), best)
    rest = [expert for expert in model.experts if expert != "object"]
    expected = _expected(model, library, rest)
    if expected:
        _same_order(searcher.search(QUERY, k=100, group_by="video", without=["object"]), expected)


@pytest.mark.parametrize("name", ["concepts", "mee"])
def test_a_device_finds_the_same_and_the_best_come_from_all_blocks(
    name: str,
    library: Library,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = "concepts" if name == "concepts" else small(name)
    searcher = Searcher(library, model)
    index = searcher.index
    rows = np.arange(len(index.clips))[::2]
    question, _ = searcher._ask(parse_query(f"{QUERY} -cat"), [], {})
    whole = ExactGallery(searcher.model, index, rows, torch.device("cpu"))
    with torch.inference_mode():
        scores = question.scores(searcher.model, index.embedding(rows))
    evidence = index.embedding(rows).present.any(1).numpy()
    best = sorted(scores[evidence], reverse=True)
    monkeypatch.setattr(exact, "_BLOCK_FLOATS", 700)
    for count in (1, 4, 1000):
        nearest = whole.nearest(question, count)
        assert len(nearest) == min(count, evidence.sum())
        assert set(nearest) <= set(rows)
        np.testing.assert_allclose(
            sorted(scores[np.isin(rows, nearest)], reverse=True), best[: len(nearest)], atol=1e-6
        )
        with pretended_device():
            on_device = ExactGallery(searcher.model, index, rows, DEVICE)
            assert len(on_device._blocks) > 2
            np.testing.assert_array_equal(on_device.nearest(question, count), nearest)


def test_clips_without_the_evidence_that_counts_are_no_answer() -> None:
    """Their similarity is 0, which is more than that of a clip that speaks against the query."""
    model = small("mee")
    slots = len(model.slots)
    values = torch.ones(4, slots, 8)
    present = torch.eye(4, slots) > 0
    present[3] = False
    clips = Embedding.even(values, present)
    texts = Embedding(-values[:1], torch.ones(1, slots) > 0, torch.tensor([[1.0, 0.0] + [1.0] * (slots - 2)]))
    index = SimpleNamespace(embedding=lambda rows: clips[torch.from_numpy(rows)])
    question = Question(parse_query(QUERY), texts, np.ones(1, np.float32), Selection(None, np.ones(slots, np.float32)))
    gallery = ExactGallery(model, index, np.arange(4), torch.device("cpu"))  # type: ignore[arg-type]
    assert gallery.nearest(question, 4).tolist() == [0, 2]


def test_clips_that_do_not_fit_are_refused_with_what_would(
    library: Library,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searcher = Searcher(library, "concepts")
    rows = np.arange(len(searcher.index.clips))
    monkeypatch.setattr(exact, "free_memory", lambda _: exact._WORK_BYTES + 5 * whole._clip_bytes)
    whole = ExactGallery(searcher.model, searcher.index, rows, torch.device("cpu"))
    with pretended_device():
        assert ExactGallery(searcher.model, searcher.index, rows[:5], DEVICE)
        with pytest.raises(
            UsageError, match=rf"exact search of {len(rows)} clips .* where 5 would fit; .*--device cpu"
        ):
            ExactGallery(searcher.model, searcher.index, rows, DEVICE)
