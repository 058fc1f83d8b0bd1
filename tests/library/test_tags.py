"""Tags of videos and moments: what is one, what selects by it, and what leaves with its video."""

import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reelseek.cli.main import app
from reelseek.errors import LibraryError, QueryError, UsageError
from reelseek.library import Library, Tag
from reelseek.library.export.restore import import_library
from reelseek.library.export.write import MANIFEST, export_library
from reelseek.library.filters import parse_filter
from reelseek.library.tags import clean_tag
from reelseek.search import Searcher, erase_videos
from tests.search.talks import make_talks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with make_talks(tmp_path / "library", 4) as library:
        library.add_tags(
            [
                Tag("v000", "Summer  Holiday"), Tag("v001", "summer holiday", 1.0, 2.5), Tag("v001", "Été"),
                Tag("v002", "blurry"), Tag("v001", "blurry"),
            ]
        )  # fmt: skip
    return tmp_path / "library"


def _selected(library: Library, text: str) -> list[str]:
    return library.catalog.selection.videos(parse_filter(text))


def test_a_filter_selects_by_tags_of_videos_and_of_their_moments(path: Path) -> None:
    with Library.open(path) as library:
        assert _selected(library, 'tag:"SUMMER holiday"') == ["v000", "v001"]
        assert _selected(library, 'tag:"summer holiday" -tag:blurry') == ["v000"]
        assert _selected(library, "tag:ete") == ["v001"]
        assert [(row.text, row.videos, row.moments) for row in library.catalog.tags.counts()] == [
            ("blurry", 2, 0), ("Été", 1, 0), ("Summer Holiday", 1, 1),
        ]  # fmt: skip
        with pytest.raises(QueryError, match=r"no tag 'blury'; did you mean 'blurry'\?"):
            _selected(library, "tag:blury")


def test_a_search_follows_tags_at_once(path: Path) -> None:
    with Library.open(path) as library:
        searcher = Searcher(library)
        digest = library.digest()
        assert {hit.video for hit in searcher.search("a dog", filter="tag:blurry")} == {"v001", "v002"}
        with Library.open(path) as other:
            assert other.add_tags([Tag("v003", "BLURRY"), Tag("v002", "blurry")]) == 1
            assert other.remove_tags([Tag("v001", "Blurry"), Tag("v001", "blurry", 1.0, 2.0)]) == 1
        assert {hit.video for hit in searcher.search("a dog", filter="tag:blurry")} == {"v002", "v003"}
        assert library.tags("v003") == [Tag("v003", "blurry")]  # one spelling in a library
        assert library.digest() == digest


def test_a_tag_waits_for_no_writer_that_reads_files(path: Path) -> None:
    with Library.open(path) as busy, Library.open(path) as library, busy.writing():
        assert library.add_tags([Tag("v003", "new")]) == 1


def test_tags_leave_with_their_video(path: Path) -> None:
    with Library.open(path) as library:
        library.add_tags([Tag("v003", "zebracrossing"), Tag("v003", "zebracrossing", 0.0, 1.0)])
        library.remove(["v003"], erase=lambda ids: erase_videos(library, ids))
        assert "zebracrossing" not in {row.text for row in library.catalog.tags.counts()}
    for file in path.rglob("*"):
        assert not file.is_file() or b"zebracrossing" not in file.read_bytes(), file


@pytest.mark.parametrize(
    "text",
    ["", "  ", "a\nb", "a\0b", "x" * 61, "x" * 10_000, "\u202egpj.exe", "a\u2028b", "\ud800", 'say "x"', "„x“", "a,b",
     "\u200d", "\u0301"],
)  # fmt: skip
def test_what_no_line_of_text_shows_is_no_tag(path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        clean_tag(text)
    with Library.open(path) as library:
        before = library.catalog.tags.counts()
        with pytest.raises(UsageError):
            library.add_tags([Tag("v000", "fine"), Tag("v000", text)])
        assert library.catalog.tags.counts() == before


@pytest.mark.parametrize(
    "text", ["<b>x</b>", "c++", "12:30", "//x", ":)", "👩\u200d🚀", "می\u200cخواهم", "−3°", "x" * 60]
)
def test_any_other_word_is_one_and_a_filter_selects_by_it(path: Path, text: str) -> None:
    with Library.open(path) as library:
        library.add_tags([Tag("v002", text)])
        assert _selected(library, f'tag:"{clean_tag(text)}"') == ["v002"]


def test_tags_of_no_video_and_of_no_moment_are_refused(path: Path) -> None:
    with Library.open(path) as library:
        for tag in (Tag("nobody", "x"), Tag("v000", "x", 2.0, 1.0), Tag("v000", "x", 1.0), Tag("v000", "x", -1.0, 1.0)):
            with pytest.raises(UsageError):
                library.add_tags([tag])
        with pytest.raises(UsageError, match="more than 1000 tags"):
            library.add_tags([Tag("v000", f"t{number}") for number in range(1001)])
        assert [tag.text for tag in library.tags("v000")] == ["Summer Holiday"]


def test_many_writers_lose_no_tag_and_agree_on_its_spelling(path: Path) -> None:
    together = threading.Barrier(4)

    def work(number: int) -> None:
        with Library.open(path) as library:
            for place in range(10):
                together.wait(60)
                library.add_tags([Tag(f"v00{number}", f"tag {place}".upper() if number % 2 else f"tag {place}")])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Library.open(path) as library:
        counts = [row.videos for row in library.catalog.tags.counts() if row.text.lower().startswith("tag ")]
        assert counts == [4] * 10
        spellings = library.db.execute("SELECT count(DISTINCT text) FROM tags GROUP BY folded").fetchall()
        assert {number for (number,) in spellings} == {1}


def test_exports_take_tags_along_and_older_exports_have_none(path: Path, tmp_path: Path) -> None:
    with Library.open(path) as library:
        export_library(library, tmp_path / "lake", to="parquet")
        tags = library.tags("v001")
    import_library(tmp_path / "again", tmp_path / "lake")
    with Library.open(tmp_path / "again") as again:
        assert again.tags("v001") == tags
    (tmp_path / "lake" / "tags.parquet").unlink()
    manifest = (tmp_path / "lake" / MANIFEST).read_text().replace('"tags": 5,', "")
    (tmp_path / "lake" / MANIFEST).write_text(manifest)
    import_library(tmp_path / "older", tmp_path / "lake")
    with Library.open(tmp_path / "older") as older:
        assert older.catalog.tags.counts() == []


def test_the_command_line_tags_lists_and_searches(path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, list(arguments))
        return result.exit_code, result.output

    folder = str(path)
    assert run("tag", "add", folder, "to cut", "--filter", "tag:blurry") == (0, "tagged 2 videos\n")
    assert run("tag", "add", folder, "to cut", "v002", "v003") == (0, "tagged 1 video; 1 other had it\n")
    assert run("tag", "add", folder, "goal", "v000", "--start", "1", "--end", "2.5") == (0, "tagged 1 moment\n")
    assert '{"video": "v000", "tag": "goal", "start": 1.0, "end": 2.5}\n' in run(
        "tag", "list", folder, "v000", "--json"
    )[1]  # fmt: skip
    assert '{"tag": "to cut", "videos": 3, "moments": 0}\n' in run("tag", "list", folder, "--json")[1]
    assert run("tag", "remove", folder, "to cut", "v002", "v000")[0] == 1
    code, output = run("search", folder, "a dog", "--filter", 'tag:"to cut"', "--json")
    assert (code, {line.split('"video": "')[1][:4] for line in output.splitlines()}) == (0, {"v001", "v003"})


def test_an_older_library_that_could_not_be_carried_forward_has_no_tags(path: Path) -> None:
    with Library.open(path) as library:
        library.db.execute("DROP TABLE tags")
        library.db.commit()
        assert (library.tags("v000"), library.catalog.tags.counts()) == ([], [])
        with pytest.raises(QueryError, match="there are none"):
            _selected(library, "tag:blurry")
        with pytest.raises(LibraryError, match="cannot be written"):
            library.add_tags([Tag("v000", "x")])
