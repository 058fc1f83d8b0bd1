"""Caption metrics: BLEU, ROUGE-L, CIDEr-D, METEOR where its program is installed, and repetition.

Captions are compared as words: lower case, letters, digits and apostrophes (straight, curly or otherwise typed),
without punctuation. On such words the values equal those of the COCO caption evaluation code.
"""

import math
import os
import re
import shutil
import subprocess
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from reelseek.errors import UsageError

__all__ = ["CaptionScores", "bleu", "cider_d", "meteor", "repetition", "rouge_l", "score_captions", "words_of"]

Words = Sequence[str]
_TINY, _SMALL = 1e-15, 1e-9  # what the COCO code adds to counts, so that nothing divides by zero
_APOSTROPHES = str.maketrans(dict.fromkeys("‘’‛ʼʻ`´′", "'"))
_SIGMA, _BETA = 6.0, 1.2


def words_of(text: str) -> list[str]:
    """Split a text into words.

    >>> words_of("Add 2 eggs, the cook's way!")
    ['add', '2', 'eggs', 'the', "cook's", 'way']

    An accent is part of its letter however it is stored, and any apostrophe is as good as the straight one.
    """
    return re.findall(r"[\w']+", unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).lower())


def _grams(words: Words, n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[at : at + n]) for at in range(len(words) - n + 1))


def bleu(candidates: Sequence[Words], references: Sequence[Sequence[Words]], n: int = 4) -> tuple[float, ...]:
    """Compute BLEU-1 to BLEU-n of a corpus (Papineni et al. 2002), with the reference closest in length.

    Args:
        candidates: the words of each caption.
        references: at least one reference for each caption.
    """
    matched, total = [0] * n, [0] * n
    length = reference_length = 0
    for words, truths in zip(candidates, references, strict=True):
        length += len(words)
        reference_length += min((abs(len(truth) - len(words)), len(truth)) for truth in truths)[1]
        for k in range(1, n + 1):
            clip: Counter[tuple[str, ...]] = Counter()
            for truth in truths:
                clip |= _grams(truth, k)
            grams = _grams(words, k)
            matched[k - 1] += (grams & clip).total()
            total[k - 1] += grams.total()
    ratio = (length + _TINY) / (reference_length + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for k in range(n):
        product *= (matched[k] + _TINY) / (total[k] + _SMALL)
        scores.append(product ** (1 / (k + 1)) * brevity)
    return tuple(scores)


def rouge_l(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """Compute ROUGE-L, the mean F of longest common subsequences (Lin 2004), with beta 1.2.

    Precision and recall of a caption are the best over its references.
    """
    scores = []
    for words, truths in zip(candidates, references, strict=True):
        common = [_common(words, truth) for truth in truths]
        precision = max(c / len(words) for c in common) if words else 0.0
        recall = max(c / len(truth) if truth else 0.0 for c, truth in zip(common, truths, strict=True))
        if precision and recall:
            scores.append((1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision))
        else:
            scores.append(0.0)
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
    """Compute CIDEr-D (Vedantam et al. 2015), times 10; document frequencies are counted over these references."""
    frequency: Counter[tuple[str, ...]] = Counter()
    for truths in references:
        frequency.update({gram for truth in truths for k in range(1, n + 1) for gram in _grams(truth, k)})
    log_documents = math.log(len(references))

    def weighted(words: Words) -> list[dict[tuple[str, ...], float]]:
        """TF-IDF of the n-grams, by their length."""
        return [
            {g: count * (log_documents - math.log(max(1.0, frequency[g]))) for g, count in _grams(words, k).items()}
            for k in range(1, n + 1)
        ]

    scores = []
    for words, truths in zip(candidates, references, strict=True):
        vectors, total = weighted(words), 0.0
        for truth in truths:
            # lengths are counted in pairs of words, as in the COCO code
            gap = max(0, len(words) - 1) - max(0, len(truth) - 1)
            penalty = math.exp(-(gap * gap) / (2 * _SIGMA * _SIGMA))
            for vector, other in zip(vectors, weighted(truth), strict=True):
                total += _clipped_cosine(vector, other) * penalty / n
        scores.append(10 * total / len(truths))
    return sum(scores) / len(scores)


def _clipped_cosine(vector: Mapping[tuple[str, ...], float], other: Mapping[tuple[str, ...], float]) -> float:
    """Cosine of TF-IDF vectors, with the first one clipped to the second; 0 for zero vectors."""
    shared = sum(min(value, other.get(gram, 0.0)) * other.get(gram, 0.0) for gram, value in vector.items())
    norm, other_norm = (math.sqrt(sum(value * value for value in row.values())) for row in (vector, other))
    return shared / (norm * other_norm) if norm and other_norm else 0.0


def repetition(paragraphs: Sequence[Words], n: int = 4) -> float:
    """Compute the share of n-grams that repeat earlier ones of their paragraph, averaged (Lei et al. 2020, R@4)."""
    shares = []
    for words in paragraphs:
        grams = _grams(words, n)
        if grams:
            shares.append(sum(count - 1 for count in grams.values()) / grams.total())
    return sum(shares) / len(shares) if shares else 0.0


def meteor(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> float | None:
    """Run METEOR 1.5; return None where its program or Java is not installed.

    The program is `meteor-1.5.jar`, which the environment variable REELSEEK_METEOR names.

    Raises:
        UsageError: the variable names no file, or the program fails.
    """
    jar = os.environ.get("REELSEEK_METEOR")
    if not jar or shutil.which("java") is None:
        return None
    if not Path(jar).is_file():
        raise UsageError(f"REELSEEK_METEOR is {jar}, which is no file; it names meteor-1.5.jar")
    scores = [
        f"SCORE ||| {' ||| '.join(' '.join(truth) for truth in truths)} ||| {' '.join(words)}"
        for words, truths in zip(candidates, references, strict=True)
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
            score = float(run.stdout.readline())
            run.kill()
    except (OSError, ValueError) as error:
        raise UsageError(f"METEOR failed: {error}") from error
    return score


@dataclass(frozen=True)
class CaptionScores:
    """Scores of a corpus. `repetition` is over paragraphs; `meteor` is None where its program is not installed."""

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
    """Compute all metrics of written captions.

    Args:
        references: at least one human caption for each.
        paragraphs: the written captions of each video, joined; None takes each caption for a paragraph.

    Raises:
        UsageError: there are no captions, a caption has no reference, or the two lists differ in length.
    """
    if not written or len(written) != len(references) or not all(references):
        raise UsageError(f"{len(written)} captions cannot be held against {len(references)} lists of references")
    candidates = [words_of(text) for text in written]
    truths = [[words_of(text) for text in texts] for texts in references]
    paragraph_words = [words_of(text) for text in (paragraphs if paragraphs is not None else written)]
    one, two, three, four = bleu(candidates, truths)
    return CaptionScores(
        one, two, three, four, rouge_l(candidates, truths), cider_d(candidates, truths), meteor(candidates, truths),
        repetition(paragraph_words), len(written),
    )  # fmt: skip
