"""What a captioner may see, what its memory does, and how sentences are searched for."""

from dataclasses import replace

import pytest
import torch

from reelseek.models.captioner import BEGIN, END, PAD, UNKNOWN, Captioner, CaptionerConfig

WORDS = ("cat", "dog", "runs", "sits")


def _captioner(**how: int) -> Captioner:
    torch.manual_seed(0)
    made = Captioner(CaptionerConfig(inputs=6, words=WORDS, width=16, heads=2, inner=16, most_words=5, **how))
    for parameter in made.parameters():  # far from their beginnings, so that everything matters
        torch.nn.init.normal_(parameter, std=0.4)
    return made.eval()


def _clip() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    words = torch.tensor([[BEGIN, 4, 5, 6, END], [BEGIN, 7, END, PAD, PAD]])
    return torch.randn(2, 3, 6, generator=generator), torch.ones(2, 3, dtype=torch.bool), words


@torch.inference_mode()
def test_a_word_is_guessed_from_features_and_earlier_words_alone() -> None:
    captioner, (features, present, words) = _captioner(), _clip()
    scores = captioner(features, present, words)[0]
    later = words.clone()
    later[0, 3] = 4
    changed = captioner(features, present, later)[0]
    assert torch.equal(scores[0, :3], changed[0, :3])
    assert not torch.allclose(scores[0, 3], changed[0, 3])
    padded = words.clone()
    padded[1, 3:] = PAD
    longer = torch.cat([words, torch.full((2, 2), PAD)], 1)
    torch.testing.assert_close(captioner(features, present, longer)[0][:, :5][words != PAD], scores[words != PAD])


@torch.inference_mode()
def test_absent_steps_change_nothing() -> None:
    captioner, (features, present, words) = _captioner(), _clip()
    present[:, 2] = False
    scores, memory = captioner(features, present, words)
    features[:, 2] = 1e4
    again, same = captioner(features, present, words)
    assert torch.equal(scores, again)
    assert all(torch.equal(one, two) for one, two in zip(memory.cells, same.cells, strict=True))


@torch.inference_mode()
def test_memory_goes_from_clip_to_clip_and_can_be_left_out() -> None:
    captioner, (features, present, words) = _captioner(), _clip()
    scores, memory = captioner(features, present, words)
    assert not torch.allclose(captioner(features, present, words, memory)[0], scores)
    alone = _captioner(memory=0)
    scores, memory = alone(features, present, words)
    assert memory.cells == (None, None)
    assert torch.equal(alone(features, present, words, memory)[0], scores)


@torch.inference_mode()
def test_a_wide_beam_finds_the_best_of_all_sentences() -> None:
    captioner = _captioner(memory=0)
    captioner.config = replace(captioner.config, most_words=3)
    features, present, _ = _clip()
    best: list[float] = []
    for length in (1, 2, 3):
        every = torch.cartesian_prod(*[torch.arange(4, 8)] * length).view(-1, length)
        words = torch.cat([torch.full((len(every), 1), BEGIN), every, torch.full((len(every), 1), END)], 1)
        wide = len(words)
        logits = captioner(features[:1].expand(wide, -1, -1), present[:1].expand(wide, -1), words)[0][:, :-1]
        logits[..., [PAD, BEGIN, UNKNOWN]] = -torch.inf
        logits[:, 0, END] = -torch.inf
        if length == 3:
            logits[:, 3, 4:] = -torch.inf  # as long as a sentence may be
        mean = logits.log_softmax(-1).gather(2, words[:, 1:, None])[..., 0].mean(1)
        best.append(float(mean.max()))
        if best[-1] == max(best):
            wanted = captioner.text(every[int(mean.argmax())].tolist())
    assert captioner.write(features[:1, None], present[:1, None], beam=100)[0] == [wanted]


@pytest.mark.parametrize("gone", [0, 1])
def test_a_clip_that_is_not_there_leaves_the_memory_alone(gone: int) -> None:
    captioner = _captioner(memory=2)
    features = torch.randn(2, 3, 2, 6, generator=torch.Generator().manual_seed(2))
    present = torch.ones(2, 3, 2, dtype=torch.bool)
    present[0, gone] = False
    left = [place for place in range(3) if place != gone]
    told = captioner.write(features, present)
    assert told[0][gone] == ""
    assert [told[0][place] for place in left] == captioner.write(features[:1, left], present[:1, left])[0]
    assert told[1] == captioner.write(features[1:], present[1:])[0]  # and company does not matter
    assert all(len(text.split()) <= 5 for text in told[1])


def test_sentences_and_numbers() -> None:
    captioner = _captioner()
    assert captioner.numbers(["cat", "flies"]) == [BEGIN, 4, UNKNOWN, END]
    assert captioner.numbers(["cat"] * 9) == [BEGIN, *[4] * 5, END]
    assert captioner.text([4, 6, END, 5]) == "cat runs"


@pytest.mark.parametrize("beam", [1, 3])
def test_what_is_learnt_by_heart_is_written(beam: int) -> None:
    torch.manual_seed(0)
    captioner = Captioner(CaptionerConfig(inputs=6, words=WORDS, width=32, heads=2, inner=32, dropout=0.0))
    features = torch.eye(6)[:4, None, None] * 3
    present = torch.ones(4, 1, 1, dtype=torch.bool)
    captioner.fit(features, present)
    said = ["cat runs", "cat sits", "dog runs", "dog sits runs"]
    rows = [captioner.numbers(text.split()) for text in said]
    words = torch.zeros(4, 6, dtype=torch.long)
    for place, row in enumerate(rows):
        words[place, : len(row)] = torch.tensor(row)
    optimizer = torch.optim.Adam(captioner.parameters(), lr=3e-3)
    for _ in range(120):
        scores = captioner(features[:, 0], present[:, 0], words[:, :-1])[0]
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), words[:, 1:].flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert [told[0] for told in captioner.eval().write(features, present, beam=beam)] == said
