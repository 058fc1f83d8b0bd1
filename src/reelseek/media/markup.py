"""What a subtitle line says, without how it looks: tags, override codes, entities and control characters."""

import html
import re

__all__ = ["ass_words", "plain_text"]

_PASSES = 4  # removing one tag may lay bare another; whoever nests deeper than this is not writing subtitles

_ENTITY = re.compile(r"&(?:amp;)*(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# `<3`, `a < b > c` and `<laughs>` are text: a tag is one that subtitles have, written as they write it.
_TAG = re.compile(
    r"<(?:"
    r"(?:/\s?)?(?:[ibus]|em|strong|small|big|sub|sup|center|ruby|rt|c|v|lang)(?:\.[^\s<>]*)?\s*/?"
    r"|(?:v|lang|c)(?:\.[^\s<>]*)?\s[^<>]*"
    r"|(?:/\s?)?(?:font|span|p|div)(?:\s[^<>]*)?"
    r"|\d+:[\d:]*\d(?:[.,]\d+)?"
    r")>",
    re.IGNORECASE,
)
_BREAK = re.compile(r"<br\s*/?>|(?<![:\\])\\[Nnh]", re.IGNORECASE)
_CODE = re.compile(r"\{\\[^{}]*\}|\{[yYcCfFsSpPoOH]:[^{}]*\}")  # of ASS, which other formats borrow, and of MicroDVD
_UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")
_MARKED = re.compile(
    "[<&{\\\\\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)
_OVERRIDE = re.compile(r"(?<!\\)\{([^{}]*)\}")
_DRAWING = re.compile(r"\\p(\d+)")


def plain_text(text: str) -> str:
    """Text without markup, line breaks and unseen characters; applied again it changes nothing.

    >>> plain_text("<i>Tom &amp; Jerry</i> <3 {\\\\an8}cheese")
    'Tom & Jerry <3 cheese'
    """
    if not _MARKED.search(text):
        return " ".join(text.split())
    for _ in range(_PASSES):
        cleaned = _clean(text)
        if cleaned == text:
            return text
        text = cleaned
    return _clean(re.sub(r"[<>{}&\\]", " ", text))


def _clean(text: str) -> str:
    if "&" in text and ";" in text:
        text = _ENTITY.sub(lambda match: html.unescape(f"&{match[1]};"), text)
    text = _BREAK.sub(" ", text)
    if "<" in text and ">" in text:
        text = _TAG.sub("", text)
    if "{" in text and "}" in text:
        text = _CODE.sub("", text)
    text = _CONTROL.sub(" ", _UNSEEN.sub("", text))
    return " ".join(text.split())


def ass_words(text: str) -> str:
    r"""Return the words of an event's text in ASS, where braces hold codes and comments, and \p1 begins a drawing.

    >>> ass_words(r"{\an8}a giraffe{\p1}m 0 0 l 100 0{\p0} walks")
    'a giraffe walks'
    """
    pieces = _OVERRIDE.split(text)
    words, drawing = [pieces[0]], False
    for codes, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        if scales := _DRAWING.findall(codes):
            drawing = int(scales[-1][:4]) > 0
        if not drawing:
            words.append(piece)
    text = "".join(words).replace(r"\{", "{").replace(r"\}", "}")
    return re.sub(r"\\[Nn]", "\n", text).replace(r"\h", " ")
