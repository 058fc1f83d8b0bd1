"""How good written captions are: BLEU, ROUGE-L, CIDEr-D, METEOR where its tool is at hand, and how much they repeat.

Captions are compared as words: lower case, letters, digits and apostrophes (straight, curly or otherwise typed),
punctuation left out. On such words the
figures are those of the COCO caption evaluation code, whose rules these are.
"""

import math
import os
import re
import shutil
import subprocess
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from reelseek.errors import UsageError

__all__ = ["CaptionScores", "bleu", "cider_d", "meteor", "repetition", "rouge_l", "score_captions", "words_of"]

Words = Sequence[str]
_TINY, _SMALL = 1e-15, 1e-9  # what the COCO code adds to counts, so that nothing divides by zero
_APOSTROPHES = str.maketrans(dict.fromkeys("‘’‛ʼʻ`´′", "'"))
_SIGMA, _BETA = 6.0, 1.2


def words_of(text: str) -> list[str]:
    """A text as words.

    >>> words_of("Add 2 eggs, the cook's way!")
    ['add', '2', 'eggs', 'the', "cook's", 'way']

    An accent is part of its letter however it is stored, and any apostrophe is as good as the straight one.
    """
    return re.findall(r"[\w']+", unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).lower())


def _grams(words: Words, n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[at : at + n]) for at in range(len(words) - n + 1))


def bleu(candidates: Sequence[Words], references: Sequence[Sequence[Words]], n: int = 4) -> tuple[float, ...]:
    """BLEU-1 to BLEU-n of a corpus (Papineni et al. 2002); of several references the one of closest length counts."""
    right, total = [0] * n, [0] * n
    length = wanted = 0
    for words, told in zip(candidates, references, strict=True):
        length += len(words)
        wanted += min((abs(len(each) - len(words)), len(each)) for each in told)[1]
        for k in range(1, n + 1):
            most: Counter[tuple[str, ...]] = Counter()
            for each in told:
                most |= _grams(each, k)
            own = _grams(words, k)
            right[k - 1] += (own & most).total()
            total[k - 1] += own.total()
    ratio = (length + _TINY) / (wanted + _SMALL)
    short = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    found, product = [], 1.0
    for k in range(n):
        product *= (right[k] + _TINY) / (total[k] + _SMALL)
        found.append(product ** (1 / (k + 1)) * short)
    return tuple(found)


def rouge_l(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """Mean F of longest common subsequences (Lin 2004), beta 1.2, best precision and best recall over references."""
    scores = []
    for words, told in zip(candidates, references, strict=True):
        common = [_common(words, each) for each in told]
        precision = max(c / len(words) for c in common) if words else 0.0
        recall = max(c / len(each) if each else 0.0 for c, each in zip(common, told, strict=True))
        there = precision and recall
        scores.append((1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision) if there else 0.0)
    return sum(scores) / len(scores)


def _common(one: Words, two: Words) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(two) + 1)
    for word in one:
        before = 0
        for at, other in enumerate(two, 1):
            before, row[at] = row[at], before + 1 if word == other else max(row[at], row[at - 1])
    return row[-1]


def cider_d(candidates: Sequence[Words], references: Sequence[Sequence[Words]], n: int = 4) -> float:
    """CIDEr-D (Vedantam et al. 2015), times 10: how rare an n-gram is, is counted over these references."""
    held: Counter[tuple[str, ...]] = Counter()
    for told in references:
        held.update({gram for each in told for k in range(1, n + 1) for gram in _grams(each, k)})
    everything = math.log(len(references))

    def weighed(words: Words) -> tuple[list[dict[tuple[str, ...], float]], list[float]]:
        rows = [
            {gram: count * (everything - math.log(max(1.0, held[gram]))) for gram, count in _grams(words, k).items()}
            for k in range(1, n + 1)
        ]
        return rows, [math.sqrt(sum(value * value for value in row.values())) for row in rows]

    scores = []
    for words, told in zip(candidates, references, strict=True):
        own, norms = weighed(words)
        total = 0.0
        for each in told:
            other, other_norms = weighed(each)
            # lengths are counted in pairs of words, as in the COCO code
            gap = max(0, len(words) - 1) - max(0, len(each) - 1)
            shorter = math.exp(-(gap * gap) / (2 * _SIGMA * _SIGMA))
            for k in range(n):
                shared = sum(
                    min(value, other[k].get(gram, 0.0)) * other[k].get(gram, 0.0) for gram, value in own[k].items()
                )
                if norms[k] and other_norms[k]:
                    shared /= norms[k] * other_norms[k]
                total += shared * shorter / n
        scores.append(10 * total / len(told))
    return sum(scores) / len(scores)


def repetition(paragraphs: Sequence[Words], n: int = 4) -> float:
    """Share of n-grams of a paragraph that were in it before, averaged (Lei et al. 2020, R@4); 0 is best."""
    shares = []
    for words in paragraphs:
        grams = _grams(words, n)
        if grams:
            shares.append(sum(count - 1 for count in grams.values()) / grams.total())
    return sum(shares) / len(shares) if shares else 0.0


def meteor(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> float | None:
    """METEOR 1.5 by its own program, or None where that is not at hand.

    The program is `meteor-1.5.jar`, named by the environment variable REELSEEK_METEOR, and Java runs it.

    Raises:
        UsageError: the variable names no file, or the program fails.
    """
    jar = os.environ.get("REELSEEK_METEOR")
    if not jar or shutil.which("java") is None:
        return None
    if not Path(jar).is_file():
        raise UsageError(f"REELSEEK_METEOR is {jar}, which is no file; it names meteor-1.5.jar")
    scores = [
        f"SCORE ||| {' ||| '.join(' '.join(each) for each in told)} ||| {' '.join(words)}"
        for words, told in zip(candidates, references, strict=True)
    ]
    command = ["java", "-jar", "-Xmx2G", jar, "-", "-", "-stdio", "-l", "en", "-norm"]
    try:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(jar).parent
        ) as run:
            assert run.stdin is not None
            assert run.stdout is not None
            stats = []
            for line in scores:
                run.stdin.write(line + "\n")
                run.stdin.flush()
                stats.append(run.stdout.readline().strip())
            run.stdin.write("EVAL ||| " + " ||| ".join(stats) + "\n")
            run.stdin.flush()
            for _ in stats:
                run.stdout.readline()
            found = float(run.stdout.readline())
            run.kill()
    except (OSError, ValueError) as error:
        raise UsageError(f"METEOR failed: {error}") from error
    return found


@dataclass(frozen=True)
class CaptionScores:
    """Of a corpus. `repetition` is over paragraphs; `meteor` is None where its tool is not at hand."""

    bleu_1: float
    bleu_2: float
    bleu_3: float
    bleu_4: float
    rouge_l: float
    cider_d: float
    meteor: float | None
    repetition: float
    captions: int

    def as_json(self) -> dict[str, float | int | None]:
        return asdict(self)


def score_captions(
    written: Sequence[str], references: Sequence[Sequence[str]], paragraphs: Sequence[str] | None = None
) -> CaptionScores:
    """All figures of written captions.

    Args:
        references: what people said of each, at least one text each.
        paragraphs: the written captions of each video together; None takes each caption for one.

    Raises:
        UsageError: nothing was written, a caption has no reference, or not as many were written as are wanted.
    """
    if not written or len(written) != len(references) or not all(references):
        raise UsageError(f"{len(written)} captions cannot be held against {len(references)} lists of references")
    candidates = [words_of(text) for text in written]
    told = [[words_of(text) for text in each] for each in references]
    whole = [words_of(text) for text in (paragraphs if paragraphs is not None else written)]
    one, two, three, four = bleu(candidates, told)
    return CaptionScores(
        one, two, three, four, rouge_l(candidates, told), cider_d(candidates, told), meteor(candidates, told),
        repetition(whole), len(written),
    )  # fmt: skip
