"""Searches by example: a moment of the library, a picture or footage is compared with clips as clips are."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.models.worlds import small
from tests.search.talks import make_talks
from tests.search.test_obeys_the_model import few_background_queries, filled, library  # noqa: F401 - fixtures

from reelseek.errors import QueryError, UsageError
from reelseek.library import Library, add
from reelseek.models.embed import embed_clips, reader_for
from reelseek.models.embedding import Embedding, similarity
from reelseek.search import Footage, Moment, Picture, Searcher
from reelseek.search.examples import parse_example
from reelseek.search.likeness import _read_picture
from reelseek.search.question import _as_texts


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with make_talks(tmp_path_factory.mktemp("examples") / "library", 30) as made:
        with made.saving():
            made.db.execute("INSERT INTO videos(id) VALUES ('copy')")
            row = made.catalog.tracks.get("id:v007", "speech")
            sha256 = made.catalog.tracks.sha256("id:v007", "speech")
            assert row is not None
            made.catalog.tracks.add(row.__class__(**{**vars(row), "owner": "id:copy"}), str(sha256))
        yield made


@pytest.fixture(scope="module")
def searcher(talks: Library) -> Searcher:
    return Searcher(talks)


def test_clips_are_ranked_by_their_cosine_to_a_moment(searcher: Searcher, talks: Library) -> None:
    hits = searcher.search(like=[Moment("v007", 0.0, None)], k=100)
    assert hits[0].video == "copy"
    assert hits[0].similarity == pytest.approx(1.0, abs=1e-4)
    assert (hits[0].confidence, hits[0].strength) == (None, None)
    assert "v007" not in {hit.video for hit in hits}, "the example itself is no answer"
    reader = reader_for(searcher.model, talks)
    example = embed_clips(searcher.model, reader, [searcher.index.clips[searcher.index.rows_of("v007")[0]]])
    clips = searcher.index.embedding(slice(None))
    slot = searcher.model.slots.index("speech")
    cosines = clips.values[:, slot] @ example.values[0, slot]
    by_video = {searcher.index.clips[row].video: float(score) for row, score in enumerate(cosines)}
    assert {hit.video: hit.similarity for hit in hits} == pytest.approx(
        {video: score for video, score in by_video.items() if video != "v007"}, abs=1e-4
    )
    assert sum(why.gave for why in hits[3].why) == pytest.approx(hits[3].similarity, abs=1e-3)


def test_less_like_takes_away_and_words_are_added(searcher: Searcher) -> None:
    words = {hit.video: hit.similarity for hit in searcher.search("platypus", k=100, group_by="video")}
    like = {hit.video: hit.similarity for hit in searcher.search(like=[Moment("v007", 0, None)], k=100)}
    both = searcher.search("platypus", like=[Moment("v007", 0, None)], k=100, group_by="video")
    assert {hit.video: hit.similarity for hit in both} == pytest.approx(
        {video: (words[video] + like[video]) / 2 for video in like}, abs=1e-4
    )
    less = {
        hit.video: hit.similarity
        for hit in searcher.search(like=[Moment("v003", 0, None)], unlike=[Moment("v007", 0, None)], k=100)
    }
    alone = {hit.video: hit.similarity for hit in searcher.search(like=[Moment("v003", 0, None)], k=100)}
    assert less["copy"] == pytest.approx(alone["copy"] - 0.5, abs=1e-3)
    for video in less.keys() & like.keys():
        assert less[video] == pytest.approx(alone[video] - 0.5 * like[video], abs=1e-3)


def test_examples_obey_filters_pages_and_exact_search(searcher: Searcher, talks: Library) -> None:
    example = Moment("v007", 0, None)
    hits = searcher.search(like=[example], k=100, filter="name:v01")
    assert {hit.video for hit in hits} == {f"v01{digit}" for digit in range(10)}
    assert [hit for start in range(0, 10, 3) for hit in searcher.search(
        like=[example], k=3, offset=start, filter="name:v01"
    )] == hits  # fmt: skip
    assert Searcher(talks, exact=True).search(like=[example], k=100, filter="name:v01") == hits


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Moment("v007", 5.0, 5.0), QueryError, "lasts 0 s"),
        (lambda: Moment("v007", -1.0, 5.0), QueryError, "no span of time"),
        (lambda: Moment("v007", float("nan"), 5.0), QueryError, "no span of time"),
        (lambda: Footage("a.mp4", 3.0, 2.0), QueryError, "lasts -1 s"),
        (lambda: Moment("nobody", 0.0, 5.0), UsageError, "no video 'nobody'"),
        (lambda: Moment("v007", 50.0, 60.0), QueryError, "has nothing of"),
        (lambda: Moment("v007", 0.0, 2.0, "audio"), UsageError, "unknown modality or expert 'audio'"),
        (lambda: Moment("v007", 0.0, 2.0, "object"), UsageError, "compares nothing of 'object'|has nothing of"),
        (lambda: Picture("/nowhere.jpg"), QueryError, "cannot be read"),
        (lambda: Picture("/dev/zero"), UsageError, "cannot be compared"),
    ],
)
def test_bad_examples_say_what_is_wrong(
    searcher: Searcher, make: Callable[[], Moment | Picture | Footage], error: type[Exception], message: str
) -> None:
    with pytest.raises((error, QueryError, UsageError), match=message):
        searcher.search(like=[make()])


def test_only_what_is_not_looked_for_is_no_question(searcher: Searcher) -> None:
    with pytest.raises(QueryError, match="say only what not to find"):
        searcher.search(unlike=[Moment("v007", 0, 2)])


def test_moments_have_names_that_are_read_again(searcher: Searcher) -> None:
    for hit in searcher.search("a dog", k=3):
        moment = Moment.parse(hit.moment)
        assert (moment.video, moment.start, moment.end) == (hit.video, hit.start, hit.end)
    assert Moment.parse("day1/a@b.mp4@1.5-20:audio") == Moment("day1/a@b.mp4", 1.5, 20.0, "audio")
    for text in ("a.mp4", "a.mp4@", "a.mp4@5", "a.mp4@x-y", "@1-2", "a.mp4@2-1"):
        with pytest.raises(QueryError):
            Moment.parse(text)


def test_what_is_typed_is_a_moment_where_the_library_has_it(talks: Library, tmp_path: Path) -> None:
    picture, film = tmp_path / "a.png", tmp_path / "b.mp4"
    for file in (picture, film):
        file.write_bytes(b"x")
    assert parse_example("v007@0-1", talks) == Moment("v007", 0.0, 1.0)
    assert parse_example(str(picture), talks) == Picture(str(picture))
    assert parse_example(str(film), talks) == Footage(str(film))
    assert parse_example(f"{film}@1-end", talks) == Footage(film, 1.0, None)
    with pytest.raises(QueryError, match="neither a moment"):
        parse_example("nothing.jpg", talks)
    with pytest.raises(UsageError, match="no video"):
        parse_example("nothing@1-2", talks)


def test_slots_of_an_example_weigh_as_in_everyday_queries() -> None:
    """What an example has sums to 1, so that the same clip scores 1 whatever it has."""
    values = torch.nn.functional.normalize(torch.randn(2, 3, 4), dim=-1)
    clips = Embedding.even(values, torch.tensor([[True, True, False], [False, True, True]]))
    unrelated = Embedding(torch.zeros(5, 3, 4), torch.ones(5, 3, dtype=torch.bool), torch.tensor([[2.0, 0.5, 0.5]] * 5))
    weights = _as_texts(clips, unrelated).weights
    assert weights.flatten().tolist() == pytest.approx([0.8, 0.2, 0.0, 0.0, 0.5, 0.5])
    assert similarity(_as_texts(clips, unrelated), clips, renormalise=False).diagonal().tolist() == pytest.approx(
        [1, 1]
    )


@pytest.mark.usefixtures("few_background_queries")
@pytest.mark.parametrize("name", ["xpool", "jsfusion"])
def test_pairwise_systems_compare_coarse_embeddings_and_say_so(name: str, library: Library) -> None:  # noqa: F811
    model = small(name)
    searcher = Searcher(library, model)
    video = next(video.id for video in library.videos() if searcher.index.rows_of(video.id))
    example = Moment(video, 0.0, None)
    hits = searcher.search(like=[example], k=100, group_by="video")
    clip = [searcher.index.clips[row] for row in searcher.index.rows_of(video)][:1]
    embedding = embed_clips(model, reader_for(model, library, searcher.index.experts), clip)
    clips = searcher.index.embedding(slice(None))
    scores = similarity(model.coarse_videos(embedding), model.coarse_videos(clips))[0]
    best: dict[str, float] = {}
    for row, score in enumerate(scores.tolist()):
        if bool(clips.present[row].any()):
            best[searcher.index.clips[row].video] = max(score, best.get(searcher.index.clips[row].video, -2.0))
    best.pop(video)
    assert {hit.video: hit.similarity for hit in hits} == pytest.approx(best, abs=1e-4)
    assert searcher.notes(like=[example]) == [
        f"{name} compares texts with clips; examples are compared by coarse embeddings"
    ]
    exact = Searcher(library, model, exact=True).search(like=[example], k=100, group_by="video")
    assert [hit.video for hit in exact] == [hit.video for hit in hits]
    assert searcher.search("a dog", like=[example], k=3)


@pytest.mark.usefixtures("few_background_queries")
def test_a_system_that_fuses_compares_one_modality_by_itself(library: Library) -> None:  # noqa: F811
    model = small("mmt")
    searcher = Searcher(library, model)
    rows = [row for row in range(len(searcher.index)) if bool(searcher.index.embedding(np.array([row])).present.any())]
    name = searcher.index.experts[0]
    reader = reader_for(model, library, [name])
    video = next(
        video
        for video in dict.fromkeys(searcher.index.clips[row].video for row in rows)
        if reader.present([searcher.index.clips[searcher.index.rows_of(video)[0]]])[name].any()
    )
    alone = searcher.search(like=[Moment(video, 0.0, None, name)], k=100, group_by="video")
    rest = [expert for expert in searcher.index.experts if expert != name]
    without = searcher.search(like=[Moment(video, 0.0, None)], without=rest, k=100, group_by="video")
    assert [(hit.video, hit.similarity) for hit in alone] == [(hit.video, hit.similarity) for hit in without]
    with pytest.raises(UsageError, match="fuses its modalities"):
        searcher.search("a dog", like=[Moment(video, 0.0, None, name)])


def test_pictures_of_deep_grey_and_with_transparency_are_read_as_they_are_shown(tmp_path: Path) -> None:
    """Pillow's own conversion clips 16 bits at 255 and shows the colours that transparent pixels hide."""
    ramp = np.linspace(0, 1, 256)[None, :].repeat(4, axis=0)
    deep = {"ramp.png": (ramp * 65535).round().astype(np.uint16), "ramp.tiff": ramp.astype(np.float32)}
    for name, values in deep.items():
        Image.fromarray(values).save(tmp_path / name)
        grey = _read_picture(tmp_path / name)
        assert grey.shape == (4, 256, 3)
        assert np.abs(grey - np.arange(256)[None, :, None]).max() <= 1, name
    logo = np.zeros((4, 6, 4), np.uint8)
    logo[:, :3] = (200, 10, 20, 255)
    for name in ("logo.png", "logo.webp"):
        Image.fromarray(logo).save(tmp_path / name, lossless=True)
        pixels = _read_picture(tmp_path / name)
        assert pixels[0, 0].tolist() == [200, 10, 20]
        assert pixels[0, 5].tolist() == [255, 255, 255], name


@pytest.mark.long
def test_files_are_extracted_as_the_library_was(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    film = make_video("film.mp4", times=[number / 10 for number in range(20)], size=(128, 96))
    with Library.open(tmp_path / "library", create=True) as made:
        report = add(made, [film], experts=["object"], workers=1)
        assert not report.failed
        searcher = Searcher(made)
        (hit,) = searcher.search(like=[Footage(film, 0.0, None)], k=1)
        assert (hit.video, hit.similarity) == ("film.mp4", pytest.approx(1.0, abs=1e-3))
        picture = tmp_path / "picture.png"
        Image.fromarray(np.full((97, 131, 3), 90, np.uint8)).save(picture)
        before = sorted(os.listdir(made.path))
        (hit,) = searcher.search(like=[Picture(picture)], k=1)
        assert hit.similarity > 0.3
        assert sorted(os.listdir(made.path)) == before
        assert [video.id for video in made.videos()] == ["film.mp4"]
        (tmp_path / "text.jpg").write_text("no picture")
        with pytest.raises(QueryError, match=r"text\.jpg: it is no picture"):
            searcher.search(like=[Picture(tmp_path / "text.jpg")])
        with pytest.raises(QueryError, match="cannot be read"):
            searcher.search(like=[Footage(tmp_path / "text.jpg")])
        with pytest.raises(QueryError, match="begins at 60 s"):
            searcher.search(like=[Footage(film, 60.0, 61.0)])
