"""Search ranks as the model's own similarity does, for every system and every subset of modalities."""

import dataclasses
import logging
from itertools import chain, count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.models.worlds import EVERY_SYSTEM, small
from torch import Tensor, nn
from torch.nn import functional

from reelseek.errors import ModelError, UsageError
from reelseek.experts.expert import Track
from reelseek.library import Library
from reelseek.library.clips import ClipRule, clips_of
from reelseek.library.tokens import Clip, Tokens
from reelseek.models.embed import embed_clips, embed_texts, reader_for, similarity_matrix
from reelseek.models.embedding import Embedding
from reelseek.models.model import RetrievalModel
from reelseek.models.systems.concepts import background_queries
from reelseek.search import Searcher, build, build_index, current, explain, scoring
from reelseek.search.index import describe_indexes, open_index

QUERY = "two dogs at a red car"
WIDTHS = {"object": 1000, "speech": 384, "ocr": 384, "audio": 40}


def _fill(library: Library, videos: int, steps: int = 4) -> None:
    """Videos with random features; each expert is absent in some of them, and no line of text is said or shown."""
    rng = np.random.default_rng(3)
    with library.saving():
        for number in range(videos):
            library.db.execute("INSERT INTO videos(id) VALUES (?)", (f"v{number:03d}",))
            for place, (name, width) in enumerate(WIDTHS.items()):
                count = 0 if (number + place) % 5 == 0 else int(rng.integers(1, steps + 1))
                values = (rng.random((1, width)) + 0.2 * rng.random((count, width))).astype(np.float32)
                values **= 8 if name == "object" else 1
                spans = np.stack([np.arange(count), np.arange(count) + 1.0], 1) if count else np.zeros((0, 2))
                library.put_track(f"id:v{number:03d}", name, f"{name}:test", name, Track(values, spans))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("obeys") / "library"
    with Library.open(path, create=True) as library:
        _fill(library, 24)
    return path


@pytest.fixture
def library(filled: Path):
    with Library.open(filled) as opened:
        yield opened


@pytest.fixture
def few_background_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Confidence is not looked at here, and encoding 131 queries takes most of the time of a small index."""
    for module in (build, scoring):
        monkeypatch.setattr(module, "background_queries", lambda: background_queries()[:8])


def _expected(model: RetrievalModel, library: Library, experts: list[str]) -> dict[str, float]:
    """The model's similarity of every video that has any of some experts, the highest first."""
    clips = list(clips_of(library, ClipRule()))
    videos = embed_clips(model, reader_for(model, library, experts), clips)
    with torch.inference_mode():
        scores = model.similarity(embed_texts(model, [QUERY]), videos)[0]
    present = videos.present.any(1)
    order = [row for row in torch.argsort(-scores, stable=True).tolist() if present[row]]
    return {clips[row].video: float(scores[row]) for row in order}


def _same_order(hits: list, expected: dict[str, float]) -> None:
    """Video for video; those whose similarities are equal to the sixth digit may have changed places."""
    assert len(hits) == len(expected)
    for hit, (video, score) in zip(hits, expected.items(), strict=True):
        assert hit.similarity == pytest.approx(expected[hit.video], abs=2e-6)
        assert hit.video == video or hit.similarity == pytest.approx(score, abs=2e-6)


@pytest.mark.usefixtures("few_background_queries")
@pytest.mark.parametrize("name", EVERY_SYSTEM)
def test_every_subset_is_ranked_as_the_model_ranks_it(name: str, library: Library) -> None:
    model = small(name)
    used = [expert for expert in model.experts if expert in WIDTHS]
    searcher = Searcher(library, model)
    for without in ((), used[:1], used[1:3]):
        remaining = [expert for expert in used if expert not in without]
        if not remaining:
            continue
        options = {"weights": {without[0]: 0}} if len(without) == 1 else {"without": without}
        expected = _expected(model, library, remaining)
        if not expected:  # sound alone, where a system compares only pictures with text
            with pytest.raises(UsageError, match=f"no video has anything of audio that {model.system} compares"):
                searcher.search(QUERY, **options)
            continue
        hits = searcher.search(QUERY, k=100, group_by="video", **options)
        _same_order(hits, expected)
        assert not {why.modality for hit in hits for why in hit.why} & set(without)
        if len(without) == 1:
            assert searcher.within(QUERY, hits[0].video, **options).hits
            miss = searcher.why_not(QUERY, hits[-1].video, **options)
            assert miss.similarity == pytest.approx(hits[-1].similarity, abs=1e-6)
    if len(used) > 1:
        with pytest.raises(UsageError, match="nothing is left"):
            searcher.search(QUERY, without=used)


@pytest.mark.parametrize("name", ["zorro", "eao+mask", "mbt", "coot"])
def test_leaving_out_changes_what_a_fused_system_answers(name: str, library: Library) -> None:
    searcher = Searcher(library, small(name))
    every = [hit.similarity for hit in searcher.search(QUERY, k=5)]
    assert every != [hit.similarity for hit in searcher.search(QUERY, k=5, without=["object"])]
    with pytest.raises(UsageError, match=r"cannot weigh speech by 0\.5"):
        searcher.search(QUERY, weights={"speech": 0.5})
    with pytest.raises(UsageError, match="looks at nothing of 'face' here"):
        searcher.search(QUERY, weights={"face": 2})


@pytest.mark.parametrize("name", ["eao+mask", "mmt+linear"])  # the second has one slot that sums its experts
def test_reasons_of_a_fused_system_are_what_its_score_loses(
    name: str, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(name)
    searcher = Searcher(library, model)
    (hit,) = searcher.search(QUERY, k=1)
    present = [name for name in model.experts if len(reader_for(model, library).steps(Clip(hit.video), name)[0])]
    assert {why.modality for why in hit.why} == set(present)
    for why in hit.why:
        others = [name for name in model.experts if name != why.modality]
        without = _expected(model, library, others)[hit.video]
        assert why.gave == pytest.approx(hit.similarity - without, abs=1e-4)
        assert bool(why.matched) == (why.modality == "object")  # of random speech there are no lines
    monkeypatch.setattr(explain, "embed_tokens", lambda *_: pytest.fail("embedded again"))
    assert searcher.search(QUERY, k=1) == [hit]


def test_an_index_without_a_modality_is_kept_and_follows_the_library(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = small("umi")
    with Library.open(tmp_path / "library", create=True) as library:
        _fill(library, 12)
        searcher = Searcher(library, model)
        for _ in range(2):  # it is said once
            with caplog.at_level(logging.WARNING, "reelseek"):
                searcher.search(QUERY, without=["object"])
        assert caplog.text.count("embeds the clips of") == 1
        index = open_index(library, model, ["speech", "ocr"])
        assert index is not None
        assert index.experts == ("speech", "ocr")
        caplog.clear()
        Searcher(library, model).search(QUERY, without=["object"])
        assert "embeds the clips" not in caplog.text
        library.remove(["v003"])
        hits = searcher.search(QUERY, k=100, without=["object"])
        assert "v003" not in {hit.video for hit in hits}
        with library.saving():
            library.db.execute("INSERT INTO videos(id) VALUES ('new')")
            library.put_track("id:new", "speech", "speech:test", "speech",
                              Track(np.ones((1, 384), np.float32), np.array([[0.0, 1.0]])))  # fmt: skip
        hits = Searcher(library, model).search(QUERY, k=100, without=["object"])
        assert "new" in {hit.video for hit in hits}
        assert [about["experts"] for about in describe_indexes(library)].count(["speech", "ocr"]) == 1


def test_an_open_search_without_a_modality_finds_what_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # When the library has been quiet long enough for the first index, it has not been so for the second.
    seconds = chain([100.0, 101.0, 102.5, 102.6], count(110.0, 10.0))
    with Library.open(tmp_path / "library", create=True) as library:
        _fill(library, 6)
        searcher = Searcher(library, small("umi"))
        assert searcher.search(QUERY, k=100, without=["object"])
        monkeypatch.setattr(current, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
        with Library.open(tmp_path / "library") as writer, writer.saving():
            writer.db.execute("INSERT INTO videos(id) VALUES ('new')")
            spans = np.array([[0.0, 1.0]])
            writer.put_track("id:new", "speech", "speech:test", "speech", Track(np.ones((1, 384), np.float32), spans))
        videos = [{hit.video for hit in searcher.search(QUERY, k=100, without=["object"])} for _ in range(3)]
        assert ["new" in found for found in videos] == [False, False, True]


def test_a_subset_that_no_video_has_is_an_error(tmp_path: Path) -> None:
    with Library.open(tmp_path / "library", create=True) as library:
        _fill(library, 6)
        with library.saving():
            for number in range(6):
                empty = Track(np.zeros((0, 384), np.float32), np.zeros((0, 2)))
                library.put_track(f"id:v{number:03d}", "ocr", "ocr:test", "ocr", empty)
        for name in ("umi", "late_fusion"):
            searcher = Searcher(library, small(name))
            with pytest.raises(UsageError, match="no video has anything"):
                searcher.search(QUERY, without=["object", "speech"])


@dataclasses.dataclass(frozen=True)
class _PooledConfig:
    experts: dict[str, int]
    steps: int = 6


class _Pooled(RetrievalModel):
    """A stand-in for systems whose text decides how frames are pooled: more than a dot product of slots."""

    system = "pooled"

    def __init__(self, config: _PooledConfig) -> None:
        super().__init__()
        self.config, self.slots = config, ("frames",)
        self.sharpness = nn.Parameter(torch.tensor(6.0))
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("project", torch.randn(384, 16, generator=generator))
        self.fails = False

    @property
    def experts(self) -> dict[str, int]:
        return self.config.experts

    def encode_videos(self, tokens: Tokens) -> Embedding:
        self.check(tokens)
        rows = torch.cat([steps.clean for steps in tokens.values()], 1)
        present = torch.cat([steps.present for steps in tokens.values()], 1)
        spare = 2 * self.config.steps - rows.shape[1]
        values = functional.normalize((rows - 0.5) @ self.project, dim=-1) * present[..., None]
        return Embedding.even(functional.pad(values, (0, 0, 0, spare)), functional.pad(present, (0, spare)))

    def encode_texts(self, texts: object) -> Embedding:
        rows = [torch.randn(16, generator=torch.Generator().manual_seed(sum(map(ord, text)))) for text in texts]
        return Embedding.even(functional.normalize(torch.stack(rows), dim=-1)[:, None])

    def similarity(self, texts: Embedding, videos: Embedding) -> Tensor:
        if self.fails:
            raise RuntimeError("no such kernel")
        cosines = torch.einsum("td,vsd->tvs", texts.values[:, 0], videos.values)
        weights = (self.sharpness * cosines).masked_fill(~videos.present[None], -1e9).softmax(-1)
        pooled = torch.einsum("tvs,vsd->tvd", weights, videos.values)
        scores = (functional.normalize(pooled, dim=-1) * texts.values).sum(-1)
        return scores * videos.present.any(1)


@pytest.mark.parametrize(
    ("candidates", "exact"),
    [pytest.param(None, False, marks=pytest.mark.long), pytest.param(3000, True, marks=pytest.mark.long), (60, False)],
)
def test_a_similarity_of_its_own_is_obeyed_by_scoring_candidates_again(
    tmp_path: Path, candidates: int | None, exact: bool
) -> None:
    model = _Pooled(_PooledConfig({"speech": 384}))
    assert model.pairwise
    model.candidates = candidates
    queries = [f"query number {number}" for number in range(30)]
    with Library.open(tmp_path / "library", create=True) as library:
        _fill(library, 1500)
        index = build_index(library, model)
        (about,) = describe_indexes(library)
        if exact:
            assert (index.candidates, index.recall, about["recall"]) == (None, None, None)
        else:
            assert index.candidates == about["candidates"] < 1500
            assert candidates in (None, index.candidates)
            assert index.recall == about["recall"]
        searcher = Searcher(library, model)
        every = similarity_matrix(model, embed_texts(model, queries), index.embedding(slice(None))).numpy()
        recall = []
        for query, scores in zip(queries, every, strict=True):
            best = {index.clips[row].video for row in np.argsort(-scores, kind="stable")[:10]}
            recall.append(len(best & {hit.video for hit in searcher.search(query, k=10)}) / 10)
        if candidates == 60:
            assert np.mean(recall) == pytest.approx(index.recall, abs=0.1)
        else:
            assert np.mean(recall) >= (1 if exact else 0.99)
        model.fails = True
        with pytest.raises(ModelError, match="similarity of pooled failed: RuntimeError: no such kernel"):
            searcher.search("a cat")


class _Below(_Pooled):
    """Scores that are all below the 0 of a clip without evidence."""

    def similarity(self, texts: Embedding, videos: Embedding) -> Tensor:
        return (super().similarity(texts, videos) - 2) * videos.present.any(1)


@pytest.mark.parametrize("candidates", [None, 60])
def test_clips_without_evidence_are_neither_found_nor_counted(tmp_path: Path, candidates: int | None) -> None:
    model = _Below(_PooledConfig({"speech": 384}))
    model.candidates = candidates
    with Library.open(tmp_path / "library", create=True) as library:
        _fill(library, 200)
        index = build_index(library, model)
        assert index.recall is None or index.recall > 0.7
        searcher = Searcher(library, model)
        hits = searcher.search("a cat", k=200)
        present = index.embedding(slice(None)).present.numpy()
        absent = {clip.video for clip, row in zip(index.clips, present, strict=True) if not row.any()}
        assert len(absent) == 40
        assert len(hits) > 50
        assert not absent & {hit.video for hit in hits}
