"""How words are compared, in a query and in what was said or written alike: one spelling, one token a word.

Scripts that put no blanks between words (and Korean, which joins words and particles) give one token a character, so
that a phrase of any length is found wherever it stands.
"""

import re
import unicodedata

__all__ = ["fold", "is_character", "token_runs", "tokens"]

_BARE = str.maketrans({"ı": "i", "ł": "l", "ø": "o", "đ": "d", "\u0640": ""})  # no marks to take off, or a filler
# Accents, Hebrew and Arabic points, variation selectors; but not the breve of й, nor the vowels of Indic and Thai.
_MARKS = re.compile(
    "[\u0300-\u0305\u0307-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u06d6-\u06ed\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff"
    "\ufe00-\ufe0f\ufe20-\ufe2f]|(?<![иу])\u0306"
)
# Thai, Lao, Burmese, Hangul, Khmer, kana, bopomofo, Yi and the characters of Chinese
_CHARACTER = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3031-\u3035\u3041-\u31ff\u3400-\u4dbf"
    "\u4e00-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def fold(text: str) -> str:
    """A text without what tells no words apart: letter case, accents, width, ligatures, the dots of Turkish i.

    >>> fold("İstanbul, Straße, ﬁne ＣＡＦÉ")
    'istanbul, strasse, fine cafe'
    """
    if text.isascii():
        return text.lower()
    letters = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    bare = _MARKS.sub("", unicodedata.normalize("NFD", letters.translate(_BARE)))
    return unicodedata.normalize("NFC", bare)


def is_character(token: str) -> bool:
    """Whether a token is one character of a script that puts no blanks between words."""
    return _CHARACTER.match(token) is not None


def token_runs(text: str) -> list[list[str]]:
    """Folded words; those of one run stand next to each other without anything between.

    >>> token_runs("don't 部署 🎉")
    [['don'], ['t'], ['部', '署'], ['u1f389']]
    """
    folded = fold(text)
    if folded.isascii():
        return [[word] for word in re.findall("[a-z0-9]+", folded)]
    runs: list[list[str]] = [[]]
    open_word = False  # the last token is a word that further letters continue
    for letter in folded:
        kind = unicodedata.category(letter)
        if kind[0] in "LN":
            character = is_character(letter)
            if open_word and not character:
                runs[-1][-1] += letter
            else:
                runs[-1].append(letter)
            open_word = not character
        elif kind[0] == "M" and runs[-1]:
            runs[-1][-1] += letter
        elif kind == "So":  # an emoji is a word; its number, since tokenizers hold it for punctuation
            runs += [[f"u{ord(letter):x}"], []]
            open_word = False
        elif kind not in ("Cf", "Sk"):  # joiners and skin tones part nothing
            runs.append([])
            open_word = False
    return [run for run in runs if run]


def tokens(text: str) -> list[str]:
    """Folded words of a text, in order."""
    return [token for run in token_runs(text) for token in run]
