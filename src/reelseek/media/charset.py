"""Bytes of a text file -> text: by its byte order mark, by its zeros, as UTF-8, else by what its letters look like."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import chardet

__all__ = ["DecodedText", "decode_text"]

_SAMPLE = 2**16
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
# What text is still written in; the many others that a detector knows (Mac, DOS, mainframes) would only be mistakes.
_ENCODINGS = {
    "cp1251": "ru uk be bg sr mk mn kk rus ukr bel bul srp mkd mac mon kaz",
    "koi8-r": "ru rus",
    "koi8-u": "uk ukr",
    "iso8859-5": "ru uk be bg sr mk rus ukr bel bul srp mkd",
    "cp866": "ru rus",
    "cp1250": "pl cs sk hu ro hr sl bs sq pol ces cze slk slo hun ron rum hrv slv bos sqi alb",
    "iso8859-2": "pl cs sk hu ro hr sl bs pol ces cze slk slo hun ron rum hrv slv bos",
    "cp1252": "en fr de es pt it nl sv da no nb nn fi is ca gl eu ga eng fra fre deu ger spa por ita nld dut swe dan"
    " nor nob fin isl ice cat glg eus baq",
    "cp1253": "el ell gre",
    "iso8859-7": "el ell gre",
    "cp1254": "tr az tur aze",
    "cp1255": "he iw heb",
    "cp1256": "ar fa ur ara fas per urd",
    "iso8859-6": "ar ara",
    "cp1257": "lt lv et lit lav est",
    "cp1258": "vi vie",
    "cp874": "th tha",
    "cp932": "ja jp jpn",
    "euc_jis_2004": "ja jp jpn",
    "gb18030": "zh cn sc zho chi chs cmn zh-cn zh-sg zh-hans",
    "big5hkscs": "zh tw tc zho chi cht cmn zh-tw zh-hk zh-mo zh-hant",
    "cp949": "ko kr kor",
}
_NAMES = {
    "iso8859-9": "cp1254",
    "iso8859-1": "cp1252",
    "iso8859-15": "cp1252",
    "iso8859-8": "cp1255",
    "euc_kr": "cp949",
}
_LONE_DIALECT = {"gb18030": ("zh-tw", "zh-hk", "zh-mo", "zh-hant"), "big5hkscs": ("zh-cn", "zh-sg", "zh-hans")}

_LATIN = r"A-Za-z\u00c0-\u024f"
_OTHER = r"\u0370-\u06ff\u0e00-\u0e7f\u3400-\ufaff"
_SIGNS = "\u00a2-\u00a6\u00a8\u00ac\u00af\u00b1\u00b4\u00b6\u00b8\u00b9\u00bc\u00be\u00d7\u00f7\u02c7\u02d8-\u02dd"
_UPPER, _LOWER = (
    "\u00c0-\u00d6\u00d8-\u00de\u0410-\u042f\u0391-\u03a9",
    "\u00df-\u00f6\u00f8-\u00ff\u0430-\u044f\u03b1-\u03c9",
)
# What no language writes: letters of two scripts in a word, signs for letters, a capital after a small letter.
_ODD = re.compile(
    f"[{_LATIN}][{_OTHER}]|[{_OTHER}][{_LATIN}]|[{_SIGNS}][{_LATIN}]|[{_LATIN}][{_SIGNS}]"
    f"|[a-z{_LOWER}][{_UPPER}]|[{_LOWER}][A-Z]"
)


@dataclass(frozen=True)
class DecodedText:
    """A text file as text.

    Args:
        text: without byte order mark and NULs.
        encoding: a Python codec.
        message: what was guessed or damaged, one clause; empty where the file itself says what it is.
        damaged: bytes that fit no character, which are U+FFFD in the text.
    """

    text: str
    encoding: str
    message: str = ""
    damaged: int = 0


def decode_text(raw: bytes, languages: Sequence[str] = ()) -> DecodedText:
    """Decode a text file of any common encoding.

    Args:
        languages: what it may be written in, as codes (`ru`, `pol`, `zh-TW`); believed only where bytes leave a choice.

    >>> decode_text("Зебра спит".encode("cp1251"), ["ru"]).text
    'Зебра спит'
    """
    for mark, encoding in _BOMS:
        if raw.startswith(mark):
            return _decoded(raw[len(mark) :], encoding)
    if encoding := _wide(raw[:_SAMPLE]):
        return _decoded(raw, encoding, f"has no byte order mark and was read as {encoding.upper()}")
    if b"\x1b$" in raw:
        return _decoded(raw, "iso2022_kr" if b"\x1b$)C" in raw else "iso2022_jp_2", "was read as ISO-2022")
    try:
        return DecodedText(raw.decode("utf-8").replace("\0", ""), "utf-8")
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    if sum(not letter.isascii() for letter in text) > 10 * broken:
        return _decoded(raw, "utf-8")
    return _guessed(raw, {language.lower().replace("_", "-") for language in languages})


def _decoded(raw: bytes, encoding: str, message: str = "") -> DecodedText:
    text = raw.decode(encoding, "replace").replace("\0", "").removeprefix("\ufeff")
    damaged = text.count("\ufffd")
    if damaged:
        message = f"{message}; " if message else ""
        message += f"{damaged} places are damaged: their bytes are no {encoding.upper()}"
    return DecodedText(text, encoding, message, damaged)


def _wide(sample: bytes) -> str:
    """UTF-16 or UTF-32 without a byte order mark: blanks, digits and line ends have their zeros on one side."""
    zeros = [sample[phase::4].count(0) for phase in range(4)]
    quarter = len(sample) / 4
    if sum(zeros) > 2.5 * quarter:
        return "utf-32-be" if zeros[0] > zeros[3] else "utf-32-le"
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    if max(even, odd) > 0.2 * quarter and max(even, odd) > 4 * min(even, odd):
        return "utf-16-be" if even > odd else "utf-16-le"
    return ""


def _guessed(raw: bytes, languages: set[str]) -> DecodedText:
    """The likeliest encoding: the detector's odds, times what the language and the decoded letters speak for."""
    sample = b"\n".join(line for line in re.split(rb"[\r\n]+", raw) if not line.isascii())
    if len(sample) > _SAMPLE:  # not in the middle of a character
        sample = sample[: sample.find(b"\n", _SAMPLE) % len(sample)]
    odds = dict.fromkeys(_ENCODINGS, 0.001)
    for match in chardet.detect_all(
        sample, ignore_threshold=True, include_encodings=(*_ENCODINGS, *_NAMES), compat_names=False
    ):
        name = _NAMES.get(str(match["encoding"]), str(match["encoding"]))
        if name in odds:
            odds[name] = max(odds[name], float(match["confidence"]))
    texts: dict[str, str] = {}
    for name in odds:
        try:
            texts[name] = sample.decode(name)
        except UnicodeDecodeError:
            continue
    ranking = sorted(((odds[n] * _plausible(n, t, languages), n) for n, t in texts.items()), reverse=True)
    if not ranking:
        return _decoded(raw, "cp1252", "is in no encoding that is known and was read as CP1252")
    best, name = ranking[0]
    others = [(score, other) for score, other in ranking if texts[other] != texts[name]]
    message = f"is not UTF-8 and was read as {name.upper()}"
    if others and others[0][0] > 0.7 * best:
        message += f", though it could be {others[0][1].upper()}; save it as UTF-8 if its words look wrong"
    return _decoded(raw, name, message)


def _plausible(encoding: str, text: str, languages: set[str]) -> float:
    """By what the detector's odds for an encoding are multiplied, given how the text reads in it."""
    factor = 1.0
    spoken = _ENCODINGS[encoding].split()
    if any(code in spoken or code.partition("-")[0] in spoken for code in languages):
        factor *= 1 if languages & set(_LONE_DIALECT.get(encoding, ())) else 20
    foreign = [letter for letter in text if not letter.isascii()]
    if any(unicodedata.category(letter) in ("Cc", "Cn", "Co") for letter in foreign):
        factor *= 0.001
    if _ODD.search(text):
        factor *= 0.1
    alphabet = sum("\u0370" <= letter <= "\u0e7f" for letter in foreign)
    if 0 < 3 * alphabet < sum(letter.isascii() and letter.isalpha() for letter in text):
        factor *= 0.1  # a few letters of another alphabet among Latin ones are accents
    if sum("\u3040" <= letter <= "\u309f" for letter in foreign) > len(foreign) / 2:
        factor *= 1000  # hiragana comes by no accident
    if encoding == "cp1252":
        factor *= 1.3  # the most frequent by far
    return factor
