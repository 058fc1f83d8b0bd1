"""Recognised speech: a line for each sentence by the times of its words, whole and within its stretch of speech."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelseek.experts import load_expert, speech
from reelseek.experts.expert import Text
from reelseek.experts.extract import extract
from reelseek.experts.speech import sentences
from reelseek.media.container import Limits
from tests.experts.tiny import save_tiny


def _lines(*words: tuple[str, float, float]) -> list[tuple[str, float, float]]:
    return [(line.text, line.start_seconds, line.end_seconds) for line in sentences(words, 100.0, 130.0)]


def test_a_line_ends_with_a_sentence_before_a_pause_and_after_twelve_seconds() -> None:
    words = [(" Close", 0.0, 0.5), (" the", 0.5, 0.7), (" door.", 0.7, 1.0), (" Thank", 1.1, 1.3), (" you!", 1.3, 1.5)]
    assert _lines(*words) == [("Close the door.", 100.0, 101.0), ("Thank you!", 101.1, 101.5)]
    assert _lines((" so", 0.0, 0.5), (" then", 2.0, 2.5)) == [("so", 100.0, 100.5), ("then", 102.0, 102.5)]
    assert _lines(("関係", 0.0, 0.5), ("ない。", 0.5, 1.0), ("行", 1.0, 1.2), ("く", 1.2, 1.4)) == [
        ("関係ない。", 100.0, 101.0),
        ("行く", 101.0, 101.4),
    ]
    long = [(f" word{number}", number * 0.9, number * 0.9 + 0.8) for number in range(30)]
    assert all(end - start <= 12 for _, start, end in _lines(*long))
    assert " ".join(text for text, _, _ in _lines(*long)) == " ".join(word.strip() for word, _, _ in long)
    assert _lines() == []
    assert _lines(("  ", 0.0, 0.5)) == []
    assert _lines((" late", 29.0, 45.0)) == [("late", 129.0, 130.0)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([" a", " b.", " c?", " "]), st.floats(0, 40), st.floats(0, 3)), max_size=20))
def test_no_word_is_lost_and_times_rise_within_the_stretch(rows: list[tuple[str, float, float]]) -> None:
    words = [(text, start, start + length) for text, start, length in sorted(rows, key=lambda row: row[1])]
    lines = sentences(words, 10.0, 40.0)
    assert "".join(line.text for line in lines).replace(" ", "") == "".join(text.strip() for text, _, _ in words)
    for line in lines:
        assert 10.0 <= line.start_seconds <= line.end_seconds <= 40.0
    assert [line.start_seconds for line in lines] == sorted(line.start_seconds for line in lines)


@pytest.mark.parametrize(("model", "timed"), [("whisper_words", True), ("whisper", False)])
def test_a_recogniser_gives_lines_within_the_stretch_of_speech(
    model: str, timed: bool, make_video, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(model, tmp_path / model)
    monkeypatch.setattr(speech, "_detect", lambda *_: [(0.5, 2.5)])
    spec = f"speech@{tmp_path / model}"
    load_expert(spec).prepare()
    processor, network = speech._recogniser(str(tmp_path / model))
    assert speech._tells_word_times(processor, network) == timed
    assert str(network.dtype) == "torch.float32"  # `whisper_words` is saved in half precision, as released
    extracted = extract(make_video("film.mp4", sound_seconds=3.0), [spec], Limits())
    assert not extracted.errors
    texts = extracted.tracks[spec].texts
    assert texts
    for text in texts:
        assert isinstance(text, Text)
        assert 0.5 <= text.start_seconds <= text.end_seconds <= 2.5
    if timed:
        assert len(texts) > 1


def test_a_piece_may_take_all_the_places_of_the_decoder() -> None:
    class Network:
        class config:
            max_target_positions = 448

    assert speech._most_tokens(Network()) == 444


def test_samples_are_cut_into_what_a_recogniser_takes_at_once() -> None:
    class Processor:
        class feature_extractor:
            n_samples = 16_000

    samples = np.arange(40_000, dtype=np.int16)
    pieces = list(speech._pieces(Processor(), samples))
    assert [second for second, _ in pieces] == [0.0, 1.0, 2.0]
    assert sum(len(piece) for _, piece in pieces) == 40_000
