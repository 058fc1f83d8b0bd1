"""Caption metrics against recorded figures of a public package, and by hand."""

import json
from pathlib import Path

import pytest

from reelseek.errors import UsageError
from reelseek.evaluation.captions import bleu, cider_d, repetition, rouge_l, score_captions, words_of

RECORDED = json.loads((Path(__file__).parents[1] / "data" / "captions.json").read_text())


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: f"{len(case['written'])} captions")
def test_figures_are_those_of_a_public_package(case: dict) -> None:
    """Recorded by pycocoevalcap 1.2 on the same strings."""
    found = score_captions(case["written"], case["references"])
    assert [found.bleu_1, found.bleu_2, found.bleu_3, found.bleu_4] == pytest.approx(case["bleu"], rel=1e-9)
    assert found.rouge_l == pytest.approx(case["rouge_l"], rel=1e-9)
    assert found.cider_d == pytest.approx(case["cider_d"], rel=1e-9)


def test_figures_by_hand() -> None:
    assert words_of("The cook's 2 eggs, fried!") == ["the", "cook's", "2", "eggs", "fried"]
    for apostrophe in "’‘ʼ＇´":
        assert words_of(f"the cook{apostrophe}s cafe\u0301") == words_of("the cook's café") == ["the", "cook's", "café"]
    one = [["a", "b", "c", "d"]]
    assert bleu(one, [one])[3] == pytest.approx(1.0)
    assert bleu([["a", "b"]], [one])[0] == pytest.approx(0.3678794, rel=1e-5)  # all right, half as long: e to the -1
    assert rouge_l([["a", "c", "x"]], [one]) == pytest.approx((1 + 1.44) * (2 / 3) * 0.5 / (0.5 + 1.44 * 2 / 3))
    assert cider_d(one, [one]) == 0.0  # one caption alone: no n-gram is rarer than another
    assert cider_d([*one, ["x", "y"]], [one, [["x", "y"]]]) == pytest.approx(7.5)  # two words have no 3- and 4-grams
    assert repetition([["a", "b", "c", "d"] * 3]) == pytest.approx(5 / 9)
    assert repetition([["a"]]) == 0.0


def test_captions_of_no_words_score_nothing_and_odd_lists_are_refused() -> None:
    found = score_captions(["", "a cat"], [["a dog runs"], ["a cat"]])
    assert 0 < found.rouge_l < 1
    assert found.captions == 2
    for written, told in (([], []), (["a"], []), (["a"], [[]])):
        with pytest.raises(UsageError, match="cannot be held against"):
            score_captions(written, told)


def test_meteor_is_left_out_without_its_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REELSEEK_METEOR", raising=False)
    assert score_captions(["a cat"], [["a cat"]]).meteor is None
    monkeypatch.setenv("REELSEEK_METEOR", "/nowhere/meteor-1.5.jar")
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/java")
    with pytest.raises(UsageError, match="names meteor"):
        score_captions(["a cat"], [["a cat"]])
