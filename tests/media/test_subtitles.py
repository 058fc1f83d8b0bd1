"""Subtitles as they lie about: in any encoding, with any line end, under any name, and damaged."""

import re
import time
import unicodedata
from pathlib import Path

import pysubs2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelseek.media.charset import decode_text
from reelseek.media.cues import read_cues
from reelseek.media.decode import decode
from reelseek.media.markup import ass_words, plain_text
from reelseek.media.streams import Subtitle, SubtitleStream
from reelseek.media.subtitles import FolderSubtitles, sidecar_subtitles

LINES = {
    "ru": (["cp1251", "koi8-r", "cp866", "iso8859-5"], ["Привет, как дела?", "Зебра спит под деревом."]),
    "uk": (["cp1251", "koi8-u"], ["Я не знаю, що робити.", "Жираф іде до річки, її немає."]),
    "bg": (["cp1251", "iso8859-5"], ["Не знам какво да правя.", "Зебрата спи под дървото."]),
    "pl": (["cp1250", "iso8859-2"], ["Cześć, jak się masz?", "Żyrafa idzie nad rzekę."]),
    "cs": (["cp1250", "iso8859-2"], ["Nevím, co mám dělat.", "Řekl, že se zítra vrátí."]),
    "hu": (["cp1250"], ["Nem tudom, mit csináljak.", "Lekéstük a vonatot, őrült hűség."]),
    "el": (["cp1253", "iso8859-7"], ["Δεν ξέρω τι να κάνω.", "Χάσαμε το τρένο."]),
    "tr": (["cp1254", "iso8859-9"], ["Ne yapacağımı bilmiyorum.", "İstanbul çok güzel, şimdi."]),
    "he": (["cp1255"], ["אני לא יודע מה לעשות.", "פספסנו את הרכבת."]),
    "ar": (["cp1256", "iso8859-6"], ["لا أعرف ماذا أفعل.", "لقد فاتنا القطار."]),
    "ja": (["cp932", "euc_jp", "iso2022_jp"], ["シマウマは木の下で寝ている。", "電車に乗り遅れた。"]),
    "zh": (["gb18030"], ["我不知道该怎么办。", "斑马睡在树下。"]),
    "zh-TW": (["big5"], ["我不知道該怎麼辦。", "斑馬睡在樹下。"]),
    "ko": (["cp949"], ["어떻게 해야 할지 모르겠어.", "우리는 기차를 놓쳤어."]),
    "th": (["cp874"], ["ฉันไม่รู้จะทำอย่างไร", "เราพลาดรถไฟ"]),
    "en": (["cp1252"], ["It’s the giraffe’s café", "“zebra” – naïve"]),
    "fr": (["cp1252"], ["Je ne sais pas où est l’élève.", "C’était très tôt, à bientôt."]),
    "de": (["cp1252"], ["Ich weiß nicht, was ich tun soll.", "Das Zebra schläft unter dem Baum."]),
}
WIDE = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]


def _srt(lines: list[str], end: str = "\n") -> str:
    blocks = [[str(n + 1), f"00:00:0{2 * n},000 --> 00:00:0{2 * n + 1},500", line] for n, line in enumerate(lines)]
    return end.join(end.join([*block, ""]) for block in blocks) + end


@pytest.mark.parametrize("language", LINES)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
def test_every_encoding_of_a_language_with_every_line_end(language: str, end: str, tmp_path: Path) -> None:
    encodings, lines = LINES[language]
    for encoding in [*WIDE, *encodings]:
        path = tmp_path / f"film.{language}.srt"
        path.write_bytes(_srt(lines, end).encode(encoding))
        read, notices = sidecar_subtitles(tmp_path / "film.mp4")
        assert [(s.text, s.start_seconds, s.end_seconds) for s in read] == [(lines[0], 0, 1.5), (lines[1], 2, 3.5)]
        marked = encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32")
        assert [notice.place for notice in notices] == ([] if marked else [path.name]), encoding
        assert not any(notice.lost for notice in notices)


def test_encodings_are_told_apart_without_the_name_of_a_language() -> None:
    cases = [(lines, encoding) for encodings, lines in LINES.values() for encoding in encodings]
    right = [decode_text(_srt(lines).encode(encoding)).text == _srt(lines) for lines, encoding in cases]
    assert sum(right) >= len(cases) - 1
    for line, encoding in (
        ("Gdzie jest mój telefon?\nSpóźniliśmy się na pociąg.", "iso8859-2"),
        ("Foi à noite.", "cp1252"),
    ):
        assert decode_text(line.encode(encoding)).text == line  # no letters of two scripts in a word, nor signs
    assert decode_text("Prašau, neišeik.".encode("cp1257")).encoding != "cp1257"
    assert decode_text("Prašau, neišeik.".encode("cp1257"), ["lt"]).encoding == "cp1257"  # the name leaves no doubt
    doubtful = decode_text("Perché è tardi?".encode("cp1252"), ["it"])
    assert "CP1252" in doubtful.message
    assert "it could be" in decode_text(b"na\xefve").message


def test_damaged_utf8_stays_utf8_and_is_told() -> None:
    raw = _srt(["ещё одна длинная строка о жирафе", "и ещё одна"]).encode()
    broken = raw[: raw.index("жирафе".encode()) + 1] + raw[raw.index("жирафе".encode()) + 2 :]
    decoded = decode_text(broken)
    assert decoded.encoding == "utf-8"
    assert decoded.damaged
    assert "длинная" in decoded.text
    assert "damaged" in decoded.message


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ("00:00:04 --> 00:00:06", (4, 6)),
        ("00:00:04.5 --> 00:00:06.25", (4.5, 6.25)),
        ("0:0:4,5 --> 0:0:6", (4.5, 6)),
        ("00:04.000 --> 00:06.000 align:start position:0%", (4, 6)),
        ("  00:00:04,000-->00:00:06,000  X1:10 X2:20", (4, 6)),
        ("00:00:04,000 -> 00:00:06,000", (4, 6)),
        ("00:00:04:500 --> 00:00:06:000", (4.5, 6)),
        ("-00:00:01,000 --> 00:00:02,000", (0, 2)),
        ("100:00:12,000 --> 100:00:14,000", (360012, 360014)),
        ("1234:00:00,000 --> 1234:00:01,000", (4442400, 4442401)),
        ("00:00:04,000 --> 00:00:02,000", (4, 5)),
    ],
)
def test_times_in_every_form(times: str, seconds: tuple[float, float], tmp_path: Path) -> None:
    (tmp_path / "film.srt").write_text(f"1\n{times}\nwords\n")
    (line,) = sidecar_subtitles(tmp_path / "film.mp4")[0]
    assert (line.start_seconds, line.end_seconds) == pytest.approx(seconds)


def test_text_is_read_as_meant() -> None:
    for written, meant in {
        "I <3 giraffes and 5 > 4": "I <3 giraffes and 5 > 4",
        "a < b, c > d <laughs>": "a < b, c > d <laughs>",
        "<i>Hello</i> <font color='#fff'>there</FONT>": "Hello there",
        "<v Roger>Tom &amp; Jerry don&#39;t fight</v>": "Tom & Jerry don't fight",
        "fish &amp;amp; chips AT&T R&D;": "fish & chips AT&T R&D;",
        "we<00:00:01.400><c> saw</c><00:00:02.000><c.yellow> it</c>": "we saw it",
        "{\\an8}up {here} {} {y:i}now": "up {here} {} now",
        "one\\Ntwo C:\\New": "one two C:\\New",
        "‫שלום‬\u200b\ufeff": "שלום",
        "<i>open <b": "open <b",
    }.items():
        assert plain_text(written) == meant, written
    assert ass_words(r"{\an8}a giraffe\Nwalks{\i1} home{\i0}") == "a giraffe\nwalks home"
    assert ass_words(r"{\p1}m 0 0 l 100 0{\p0}").strip() == ""
    assert ass_words(r"{\an7\pos(1,2)\p2}m 0 0{\p0}word{comment}s") == "words"
    assert ass_words(r"{\k20}ze{\k30}bra \{sic\}") == "zebra {sic}"


_PIECES = st.sampled_from(
    ["<", ">", "<i>", "</i>", "{", "}", "{\\an8}", "&", "&amp;", "amp;", "&lt;", "&#60;", "i", "\\N", "\\", "\n", " ",
     "<font>", "<00:01.000>", "\0", "﻿", "<v x>"]
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(max_size=80), st.lists(_PIECES, max_size=25).map("".join)))
def test_cleaned_text_is_clean_and_stays_as_it_is(text: str) -> None:
    cleaned = plain_text(text)
    assert plain_text(cleaned) == cleaned
    assert not re.search(r"</?[ibus]>|</?font|<\d+:\d\d|\{\\[^{}]*\}|&(amp|lt|gt);", cleaned)
    assert not any(unicodedata.category(letter) == "Cc" for letter in cleaned)
    assert cleaned == " ".join(cleaned.split())


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=400), st.sampled_from(["", "WEBVTT\n\n", "[Events]\n", "1\n00:01 --> 00:02\n"]))
def test_any_text_is_cues_and_any_bytes_are_text(text: str, start: str) -> None:
    cues = read_cues(start + text).cues
    assert all(line and line == plain_text(line) for cue in cues for line in cue.lines)
    decode_text((start + text).encode("utf-16-le", "surrogatepass")[1:])
    decode_text(bytes(ord(letter) % 256 for letter in text))


@pytest.mark.parametrize("piece", ["<", "{", "<i ", "{\\an", "&amp;", "\\N", "<v x", "\r", "0 --> ", "<font", "{\\p1}"])
def test_megabytes_of_markup_cost_no_more_than_their_length(piece: str) -> None:
    started = time.monotonic()
    text = piece * (1_000_000 // len(piece))
    plain_text(text)
    ass_words(text)
    read_cues(f"1\n00:00:01,000 --> 00:00:02,000\n{text}\n")
    read_cues(f"[Events]\nDialogue: 0,0:00:04.00,0:00:06.00,Default,,0,0,0,,{text}\n")
    assert time.monotonic() - started < 60  # 210 s for two fifths of it when it was quadratic


def test_what_files_agree_on_reads_as_pysubs2_reads_it(tmp_path: Path) -> None:
    subs = pysubs2.SSAFile()
    for n in range(50):
        subs.append(pysubs2.SSAEvent(start=4000 * n + 120, end=4000 * n + 2360, text=f"line {n}, of\\Nmany: “{n}”"))
    for suffix in ("srt", "vtt", "ass", "ssa"):
        for old in tmp_path.iterdir():
            old.unlink()
        subs.save(str(tmp_path / f"film.{suffix}"))
        read, notices = sidecar_subtitles(tmp_path / "film.mp4")
        assert not notices
        assert [(round(1000 * s.start_seconds), round(1000 * s.end_seconds), s.text) for s in read] == [
            (e.start, e.end, e.plaintext.replace("\n", " ")) for e in subs
        ], suffix


def test_numbers_as_text_and_cues_without_blank_lines() -> None:
    text = "1\n00:01 --> 00:02\n42\n\n2\n00:03 --> 00:04\n1984\n3\n00:05 --> 00:06\n\n7\n\n\n00:07 --> 00:08\nend\n9"
    assert [cue.lines for cue in read_cues(text).cues] == [("42",), ("1984",), ("7",), ("end", "9")]
    assert [cue.lines for cue in read_cues("00:01 --> 00:02\n7\n00:03 --> 00:04\n8\n").cues] == [("7",), ("8",)]


def test_webvtt_notes_styles_regions_and_names() -> None:
    text = (
        "WEBVTT - a title\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nREGION\nid:bill\n\nNOTE before\n\nfirst\n"
        "00:01.000 --> 00:02.000 region:bill\n<v Ann>one\n\nNOTE\nnot said\nat all\n\nsecond name\n"
        "00:03.000 --> 00:04.000\nNOTE is a word\n\n00:05.000 --> 00:06.000\n-> three\n"
    )
    assert [cue.lines for cue in read_cues(text).cues] == [("one",), ("NOTE is a word",), ("-> three",)]


ROLLING = """WEBVTT
Kind: captions

00:00:01.000 --> 00:00:04.000 align:start position:0%
 
we<00:00:01.400><c> saw</c><00:00:02.000><c> a</c><00:00:02.400><c> big</c><00:00:03.000><c> giraffe</c>

00:00:04.000 --> 00:00:04.010 align:start position:0%
we saw a big giraffe
 

00:00:04.010 --> 00:00:08.000 align:start position:0%
we saw a big giraffe
near<00:00:05.000><c> the</c><00:00:06.000><c> river</c>

00:00:08.000 --> 00:00:08.010 align:start position:0%
near the river
 

00:00:08.010 --> 00:00:12.000 align:start position:0%
near the river
chapter
"""  # noqa: W293


def test_what_rolls_up_the_screen_comes_once_at_its_time() -> None:
    right = [("we saw a big giraffe", 1, 4), ("near the river", 4.01, 8), ("chapter", 8.01, 12)]
    plain = re.sub(r"<[^>]*>", "", ROLLING)  # as it is after a conversion to SubRip
    for text in (ROLLING, plain, plain.replace("WEBVTT\nKind: captions\n\n", "").replace(".", ",")):
        assert [(*cue.lines, cue.start, cue.end) for cue in read_cues(text).cues] == right
    twice = "1\n00:01 --> 00:02\nNo.\n\n2\n00:02 --> 00:03\nNo.\n\n3\n00:03 --> 00:04\nYes.\n"
    assert [cue.lines for cue in read_cues(twice).cues] == [("No.",), ("No.",), ("Yes.",)]


def test_ass_comments_karaoke_and_fields_that_cannot_be_read(tmp_path: Path) -> None:
    head = "[Script Info]\n[V4+ Styles]\nStyle: bad,line\n[Events]\n"
    form = "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    (tmp_path / "film.ass").write_text(
        f"{head}{form}Dialogue: 0,0:00:04.00,0:00:06.00,D,,0,0,0,,one, two\n"
        "Dialogue: 0,0:00:0x.00,0:00:06.00,D,,0,0,0,,x\n"
        "Comment: 0,0:00:08.00,0:00:09.00,D,,0,0,0,,a note\nDialogue: 1,0:00:04.00,0:00:06.00,D,,0,0,0,,one, two\n"
    )
    lines, (notice,) = sidecar_subtitles(tmp_path / "film.mp4")
    assert [line.text for line in lines] == ["one, two"]
    assert notice.lost
    assert "line 7" in notice.message
    (tmp_path / "film.ass").write_text(
        f"{head}{form}Comment: 0,0:00:04.00,0:00:06.00,D,,0,0,0,karaoke,{{\\k9}}la {{\\k9}}li\n"
        "Dialogue: 0,0:00:04.00,0:00:05.00,D,,0,0,0,fx,la\nDialogue: 0,0:00:05.00,0:00:06.00,D,,0,0,0,fx,li\n"
    )
    assert [line.text for line in sidecar_subtitles(tmp_path / "film.mp4")[0]] == ["la li"]


@pytest.mark.parametrize(
    ("content", "lost", "says"),
    [
        ("", False, "empty"),
        ("no subtitles at all", True, "no time line"),
        ("1\n00:00:04,000 --> 00:00:0x,000\nx\n", True, "1 times cannot be read (line 2)"),
        ("1\n00:00:04,000 --> 00:00:06,000\n<i></i>\n", False, "none of its 1 cues"),
        ("1\n-00:00:04,000 --> -00:00:02,000\nx\n", False, "before the video begins"),
        ("1\n100:00:04,000 --> 100:00:06,000\nx\n", False, "long after the video ends"),
    ],
)
def test_a_file_that_yields_no_line_says_why(content: str, lost: bool, says: str, tmp_path: Path) -> None:
    (tmp_path / "film.srt").write_text(content)
    lines, (notice,) = sidecar_subtitles(tmp_path / "film.mp4", duration=20.0)
    assert lines == []
    assert (notice.place, notice.lost) == ("film.srt", lost)
    assert says in notice.message


def test_names_as_media_servers_write_them(tmp_path: Path) -> None:
    mine = ["film.srt", "FILM.EN.VTT", "film.en.forced.srt", "film.en.sdh.srt", "film.pt-BR.ass", "film.mp4.srt",
            "film.eng.default.srt", "film.mp4.zh-Hans.srt", "film.hi.ssa", "film.sub"]  # fmt: skip
    for name in [
        *mine,
        "film.2.srt",
        "film.2.en.srt",
        "films.srt",
        "._film.srt",
        "film.machine-written.srt",
        "other.srt",
    ]:
        (tmp_path / name).write_text("")
    for name in ("film.mp4", "film.2.mp4", "film.2.nfo"):
        (tmp_path / name).touch()
    folder = FolderSubtitles(tmp_path)
    assert folder.beside("film.mp4") == sorted(mine)
    assert folder.beside("film.2.mp4") == ["film.2.en.srt", "film.2.srt"]
    assert folder.beside("film.2.nfo") == folder.beside("film.2.mp4")  # it is no video unless somebody says so
    cafe = unicodedata.normalize("NFD", "café")
    (tmp_path / f"{cafe}.srt").write_text("1\n00:01 --> 00:02\nhello\n")
    assert [line.text for line in sidecar_subtitles(tmp_path / "café.mp4")[0]] == ["hello"]
    (tmp_path / "a.quite.different.film.srt").write_text("1\n00:01 --> 00:02\nhello\n")
    lines, (notice,) = sidecar_subtitles(tmp_path / "a.mp4")
    assert lines == []
    assert "quite.different.film" in notice.message


def test_several_files_and_copies_give_each_line_once(tmp_path: Path) -> None:
    for folder, name, words in [("x", "a.en.srt", "one"), ("x", "a.de.srt", "eins"), ("y", "b.srt", "one"), ("y", "b.fr.srt", "un")]:  # fmt: skip  # noqa: E501
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(f"1\n00:01 --> 00:02\n{words}\n")
    lines, _ = sidecar_subtitles(tmp_path / "x" / "a.mp4", [tmp_path / "x" / "a.mp4", tmp_path / "y" / "b.mp4"])
    assert [line.text for line in lines] == ["eins", "one", "un"]


def test_embedded_subtitles_are_cleaned_alike(make_video, tmp_path: Path) -> None:
    import av

    source = make_video("plain.mkv")
    (tmp_path / "words.ass").write_text(
        "[Script Info]\nScriptType: v4.00+\n[Events]\n"
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Dialogue: 0,0:00:00.20,0:00:01.00,Default,,0,0,0,,{\\an8}Tom &amp; Jerry\\Nrun, <3{\\i1} home{\\i0}\n"
        "Dialogue: 0,0:00:00.20,0:00:01.00,Default,,0,0,0,,{\\p1}m 0 0 l 100 0 100 100{\\p0}\n"
    )
    with (
        av.open(str(source)) as video,
        av.open(str(tmp_path / "words.ass")) as words,
        av.open(str(tmp_path / "film.mkv"), "w") as out,
    ):
        streams = [out.add_stream_from_template(each.streams[0]) for each in (video, words)]
        for opened, stream in zip((video, words), streams, strict=True):
            for packet in opened.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    lines: list[Subtitle] = []
    decode(tmp_path / "film.mkv", {SubtitleStream(): [lines.extend]})
    assert [(line.text, line.source) for line in lines] == [("Tom & Jerry run, <3 home", "embedded")]
