"""Systems without recorded numbers against the paper written as plain loops in float64.

Nothing of `reelseek.models.blocks` is used here: weights are read by name from the state dict, and every video, token
and head is computed alone.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.models.worlds import TEXTS, small, tokens_of
from torch import Tensor

from reelseek.library.tokens import Steps
from reelseek.models import RetrievalModel
from reelseek.models.batch import Batch

State = dict[str, np.ndarray]


def _state(model: RetrievalModel) -> State:
    return {name: value.detach().double().numpy() for name, value in model.state_dict().items()}


def _erf(x: np.ndarray) -> np.ndarray:
    return torch.special.erf(torch.from_numpy(np.asarray(x))).numpy()


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + _erf(x / np.sqrt(2))) / 2


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def unit(x: np.ndarray) -> np.ndarray:
    return x / max(np.sqrt((x * x).sum()), 1e-12)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def linear(s: State, name: str, x: np.ndarray) -> np.ndarray:
    return s[f"{name}.weight"] @ x + s.get(f"{name}.bias", 0)


def layer_norm(s: State, name: str, x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + eps) * s[f"{name}.weight"] + s[f"{name}.bias"]


def batch_norm(s: State, name: str, x: np.ndarray) -> np.ndarray:
    scaled = (x - s[f"{name}.running_mean"]) / np.sqrt(s[f"{name}.running_var"] + 1e-5)
    return scaled * s[f"{name}.weight"] + s[f"{name}.bias"]


def gated(s: State, name: str, x: np.ndarray) -> np.ndarray:
    y = linear(s, f"{name}.fc", x)
    return y * sigmoid(linear(s, f"{name}.gate", y))


def attend(s: State, name: str, queries: list, keys: list, heads: int) -> list[np.ndarray]:
    """Each query over all keys, a head at a time."""
    weight, bias = s[f"{name}.qkv.weight"], s[f"{name}.qkv.bias"]
    inner = len(weight) // 3
    dim = inner // heads
    out = []
    for query in queries:
        q = weight[:inner] @ query + bias[:inner]
        read = np.zeros(inner)
        for h in range(heads):
            part = slice(h * dim, (h + 1) * dim)
            ks = [(weight[inner : 2 * inner] @ key + bias[inner : 2 * inner])[part] for key in keys]
            vs = [(weight[2 * inner :] @ key + bias[2 * inner :])[part] for key in keys]
            shares = softmax(np.array([q[part] @ k for k in ks]) / np.sqrt(dim))
            read[part] = sum(share * v for share, v in zip(shares, vs, strict=True))
        out.append(linear(s, f"{name}.out", read))
    return out


def feed(s: State, name: str, x: np.ndarray, *, geglu: bool = False) -> np.ndarray:
    inner = linear(s, f"{name}.fc1", x)
    if geglu:
        half = len(inner) // 2
        return linear(s, f"{name}.fc2", inner[:half] * gelu(inner[half:]))
    return linear(s, f"{name}.fc2", gelu(inner))


def pre_norm(s: State, name: str, rows: list, heads: int, may_read: Callable = lambda q, k: True, **how: bool) -> list:
    """A pre-norm layer of rows that read the rows they may."""
    ready = [layer_norm(s, f"{name}.norm1", row) for row in rows]
    after = []
    for q, row in enumerate(rows):
        keys = [ready[k] for k in range(len(rows)) if may_read(q, k)]
        row = row + attend(s, f"{name}.attention", [ready[q]], keys, heads)[0]
        after.append(row + feed(s, f"{name}.feed", layer_norm(s, f"{name}.norm2", row), **how))
    return after


def rows_of(tokens: dict[str, Steps], video: int) -> dict[str, list[np.ndarray]]:
    """The present steps of each modality that a video has."""
    found = {}
    for name, steps in tokens.items():
        there = [r.double().numpy() for r, p in zip(steps.values[video], steps.present[video], strict=True) if p]
        if there:
            found[name] = there
    return found


def pooled_texts(model: RetrievalModel) -> np.ndarray:
    return model.text.pooled(TEXTS).double().numpy()


def words_of(model: RetrievalModel) -> list[list[np.ndarray]]:
    steps = model.text.words(TEXTS)
    return [[r.double().numpy() for r in steps.values[t][steps.present[t]]] for t in range(len(TEXTS))]


def _agree(
    model: RetrievalModel, videos: list[dict[int, np.ndarray]], texts: list[list[np.ndarray]], scores: np.ndarray
):
    """Slots of videos and texts, and similarities, are those of the loops."""
    tokens = tokens_of(model)
    with torch.inference_mode():
        found, said = model.encode_videos(tokens), model.encode_texts(TEXTS)
        similarity = model.similarity(said, found)
    for v, slots in enumerate(videos):
        assert found.present[v].nonzero()[:, 0].tolist() == sorted(slots)
        for slot, row in slots.items():
            np.testing.assert_allclose(found.values[v, slot, : len(row)], row, atol=2e-5)
    for t, slots in enumerate(texts):
        for slot, row in enumerate(slots):
            np.testing.assert_allclose(said.values[t, slot, : len(row)], row, atol=2e-5)
    np.testing.assert_allclose(similarity, scores, atol=5e-5)


def mean_cosine(videos: list[dict[int, np.ndarray]], texts: list[list[np.ndarray]]) -> np.ndarray:
    scores = np.zeros((len(texts), len(videos)))
    for t, said in enumerate(texts):
        for v, slots in enumerate(videos):
            if slots:
                scores[t, v] = sum(said[slot] @ row for slot, row in slots.items()) / len(slots)
    return scores


def test_late_fusion() -> None:
    model = small("late_fusion")
    s, tokens, names = _state(model), tokens_of(model), list(model.experts)
    videos = []
    for v in range(4):
        slots = {}
        for name, steps in rows_of(tokens, v).items():
            rows = [linear(s, f"project.{name}", row) for row in steps]
            for depth in range(2):
                rows = pre_norm(s, f"mix.{name}.layers.{depth}", rows, 2)
            slots[names.index(name)] = unit(linear(s, f"heads.{name}", sum(rows) / len(rows)))
        videos.append(slots)
    texts = [[unit(linear(s, f"text_heads.{name}", p)) for name in names] for p in pooled_texts(model)]
    _agree(model, videos, texts, mean_cosine(videos, texts))


def test_zorro() -> None:
    model = small("zorro")
    s, tokens, names = _state(model), tokens_of(model), list(model.experts)
    videos, streams = [], []
    for v in range(4):
        rows, stream = [], []
        for name, steps in rows_of(tokens, v).items():
            rows += [linear(s, f"project.{name}", row) for row in steps]
            stream += [name] * len(steps)
        rows += list(s["fusion"])
        stream += ["fusion"] * len(s["fusion"])
        for depth in range(2):
            # A modality reads itself; fusion reads everything.
            rows = pre_norm(
                s, f"mix.layers.{depth}", rows, 2,
                lambda q, k, stream=stream: stream[q] == "fusion" or stream[q] == stream[k], geglu=True,
            )  # fmt: skip
        rows = [layer_norm(s, "norm", row) for row in rows]
        found = {}
        for name in dict.fromkeys(stream):
            own = [layer_norm(s, f"pool.{name}.norm", r) for r, n in zip(rows, stream, strict=True) if n == name]
            read = attend(s, f"pool.{name}.attention", [s[f"pool.{name}.query"]], own, 2)[0]
            found[name] = unit(linear(s, f"heads.{name}", read))
        streams.append(found)
        videos.append({0: found["fusion"]})
    texts = [[unit(linear(s, "text_head", p))] for p in pooled_texts(model)]
    _agree(model, videos, texts, mean_cosine(videos, texts))
    with torch.inference_mode():
        ours = model.streams(model.inputs(tokens))  # type: ignore[operator]
    for v, found in enumerate(streams):
        for name in names:
            assert bool(ours[name][1][v]) == (name in found)
            if name in found:
                np.testing.assert_allclose(ours[name][0][v], found[name], atol=2e-5)


def test_mbt() -> None:
    model = small("mbt")
    s, tokens = _state(model), tokens_of(model)
    videos = []
    for v in range(4):
        steps = tokens
        rows = {}
        for name, each in steps.items():
            there = each.present[v].nonzero()[:, 0].tolist()
            if there:
                values = [each.values[v, i].double().numpy() for i in there]
                rows[name] = [
                    linear(s, f"project.{name}", x) + s[f"place.{name}"][i] for i, x in zip(there, values, strict=True)
                ]
        bottleneck = list(s["bottleneck"])
        for depth in range(2):
            if depth < 1:
                rows = {name: pre_norm(s, f"mix.{depth}.{name}", own, 2) for name, own in rows.items()}
                continue
            copies = []
            for name, own in rows.items():
                after = pre_norm(s, f"mix.{depth}.{name}", [*own, *bottleneck], 2)
                rows[name] = after[: len(own)]
                copies.append(after[len(own) :])
            bottleneck = [sum(copy[i] for copy in copies) / len(copies) for i in range(len(bottleneck))]
        means = [sum(layer_norm(s, f"norm.{name}", r) for r in own) / len(own) for name, own in rows.items()]
        videos.append({0: unit(linear(s, "head", sum(means) / len(means)))})
    texts = [[unit(linear(s, "text_head", p))] for p in pooled_texts(model)]
    _agree(model, videos, texts, mean_cosine(videos, texts))


def test_token_fusion() -> None:
    model = small("token_fusion", threshold=0.5)
    s, tokens, names, k = _state(model), tokens_of(model), list(model.experts), 4
    partner = model.partner.tolist()
    for stream, others in enumerate(partner):
        assert all(other != stream for other in others)
    swapped = kept = 0
    videos = []
    for v in range(4):
        rows = {}
        for name, steps in rows_of(tokens, v).items():
            resampled = []
            for place in range(k):
                at = place / (k - 1) * (len(steps) - 1)
                low = int(np.floor(at))
                high = min(low + 1, len(steps) - 1)
                resampled.append(steps[low] * (1 - (at - low)) + steps[high] * (at - low))
            rows[name] = [linear(s, f"project.{name}", x) + s["place"][i] for i, x in enumerate(resampled)]
        for depth in range(2):
            at = f"blocks.{depth}"
            reads, scores = {}, {}
            for name, own in rows.items():
                ready = [layer_norm(s, f"{at}.norm1.{name}", row) for row in own]
                scores[name] = []
                for row in own:
                    inner = gelu(linear(s, f"{at}.score.{name}.1", layer_norm(s, f"{at}.score.{name}.0", row)))
                    scores[name].append(softmax(linear(s, f"{at}.score.{name}.3", inner))[0])
                read = attend(s, f"{at}.attention", ready, ready, 2)
                reads[name] = [score * row for score, row in zip(scores[name], read, strict=True)]
            after = {}
            for name, own in rows.items():
                after[name] = []
                for place, row in enumerate(own):
                    other = names[partner[names.index(name)][place]]
                    low = scores[name][place] < 0.5 and other in rows
                    swapped, kept = swapped + low, kept + (not low)
                    row = row + reads[other if low else name][place]
                    after[name].append(row + feed(s, f"{at}.feed", layer_norm(s, f"{at}.norm2.{name}", row)))
            rows = after
        slots = {}
        for name, own in rows.items():
            mean = sum(layer_norm(s, f"norm.{name}", row) for row in own) / k
            slots[names.index(name)] = unit(linear(s, f"heads.{name}", mean))
        videos.append(slots)
    assert swapped > 5
    assert kept > 5
    texts = [[unit(linear(s, f"text_heads.{name}", p)) for name in names] for p in pooled_texts(model)]
    _agree(model, videos, texts, mean_cosine(videos, texts))


def _words_max(s: State, name: str, words: list[np.ndarray]) -> np.ndarray:
    return np.max([np.maximum(linear(s, f"{name}.fc", word), 0) for word in words], 0)


def test_avlnet_and_its_loss() -> None:
    model = small("avlnet", spectrogram=None)
    s, tokens = _state(model), tokens_of(model)
    videos, texts = [], []
    for v in range(4):
        own, slots = rows_of(tokens, v), {}
        if "object" in own:
            slots[0] = gated(s, "video_head", np.max(own["object"], 0))
        if "audio" in own:
            mean = sum(own["audio"]) / len(own["audio"])
            slots[1] = linear(s, "audio_head.1", gated(s, "audio_head.0", mean))
        videos.append(slots)
    for words in words_of(model):
        row = gated(s, "text_head", _words_max(s, "words", words))
        texts.append([row, row])
    scores = np.array([[sum(t[0] @ row for row in slots.values()) for slots in videos] for t in texts])
    _agree(model, videos, texts, scores)  # text with audio plus video, raw dots
    parts = [[slots.get(0) for slots in videos], [slots.get(1) for slots in videos], [t[0] for t in texts]]
    wanted = {}
    for one, two, name in ((0, 1, "video|audio"), (0, 2, "video|text"), (1, 2, "audio|text")):
        rows = [i for i in range(4) if parts[one][i] is not None and parts[two][i] is not None]
        dots = np.array([[parts[one][i] @ parts[two][j] - (0.001 if i == j else 0) for j in rows] for i in rows])
        total = 0.0
        for i in range(len(rows)):
            total -= np.log(softmax(dots[i])[i]) + np.log(softmax(dots[:, i])[i])
        wanted[name] = total / len(rows)
    found = model.loss(Batch(tokens, TEXTS, torch.arange(4)))
    assert {name: pytest.approx(float(value.detach()), abs=1e-4) for name, value in found.items()} == wanted


def test_avlnet_hears_through_its_network() -> None:
    model = small("avlnet")
    s, tokens = _state(model), tokens_of(model)
    with torch.inference_mode():
        found = model.encode_videos(tokens)
    for v in range(4):
        there = tokens["audio"].present[v].numpy()
        if not there.any():
            continue
        frames = tokens["audio"].values[v].double().numpy() * there[:, None]
        values = np.einsum("cb,tb->ct", s["audio_net.conv.weight"][:, 0, :, 0], frames)
        values = np.maximum(np.stack([batch_norm(s, "audio_net.norm", column) for column in values.T], 1), 0) * there
        for stage in range(2):
            there = there.reshape(-1, 2).any(1)
            at = f"audio_net.stages.{stage}.0"
            inner = _convolved(values, s[f"{at}.conv1.weight"][:, :, 0], 2)
            inner = np.maximum(np.stack([batch_norm(s, f"{at}.norm1", c) for c in inner.T], 1), 0) * there
            inner = _convolved(inner, s[f"{at}.conv2.weight"][:, :, 0], 1)
            inner = np.stack([batch_norm(s, f"{at}.norm2", c) for c in inner.T], 1)
            short = _convolved(values, s[f"{at}.shortcut.0.weight"][:, :, 0], 2)
            short = np.stack([batch_norm(s, f"{at}.shortcut.1", c) for c in short.T], 1)
            values = np.maximum(inner + short, 0) * there
        mean = values[:, there].mean(1)
        row = linear(s, "audio_head.1", gated(s, "audio_head.0", mean))
        np.testing.assert_allclose(found.values[v, 1], row, atol=2e-5)


def _convolved(values: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """A convolution over time with as much padding as keeps the length, then every `stride`-th place."""
    length = weight.shape[2]
    padded = np.pad(values, ((0, 0), (length // 2, length // 2)))
    places = range(0, values.shape[1], stride)
    return np.stack([np.einsum("oil,il->o", weight, padded[:, p : p + length]) for p in places], 1)


def _vision(s: State, name: str, x: np.ndarray) -> np.ndarray:
    inner = np.maximum(batch_norm(s, f"{name}.0.1", linear(s, f"{name}.0.0", x)), 0)
    return batch_norm(s, f"{name}.2.1", linear(s, f"{name}.2.0", inner))


@pytest.mark.parametrize("graph", ["fine_and_coarse", "shared", "disjoint"])
def test_mmv(graph: str) -> None:
    model = small("mmv", graph=graph)
    s, tokens = _state(model), tokens_of(model)
    videos, fines = [], []
    for v in range(4):
        own, slots, fine = rows_of(tokens, v), {}, {}
        if "object" in own:
            mean = sum(own["object"]) / len(own["object"])
            fine["vision"] = _vision(s, "vision", mean)
            coarse = {"shared": fine["vision"]}.get(graph)
            if graph == "disjoint":
                coarse = _vision(s, "vision_text", mean)
            if graph == "fine_and_coarse":
                coarse = batch_norm(s, "coarsen.1", linear(s, "coarsen.0", np.maximum(fine["vision"], 0)))
            slots[0] = unit(coarse)
        if "audio" in own:
            fine["audio"] = linear(s, "hear", sum(own["audio"]) / len(own["audio"]))
            if graph == "shared":
                slots[1] = unit(fine["audio"])
            if graph == "fine_and_coarse":
                slots[1] = unit(batch_norm(s, "coarsen.1", linear(s, "coarsen.0", np.maximum(fine["audio"], 0))))
        fines.append(fine)
        videos.append(slots)
    texts = []
    for words in words_of(model):
        row = unit(linear(s, "text_head", _words_max(s, "words", words)))
        texts.append([row] * len(model.slots))
    _agree(model, videos, texts, mean_cosine(videos, texts))
    with torch.inference_mode():
        ours = model.fine_space(model.inputs(tokens))  # type: ignore[operator]
        losses = model.loss(Batch(tokens, TEXTS, torch.arange(4)))
    for v, fine in enumerate(fines):
        for name, row in fine.items():
            np.testing.assert_allclose(ours[name][0][v], row, atol=5e-5)
    rows = [v for v in range(4) if len(fines[v]) == 2]
    cosines = np.array([[unit(fines[i]["vision"]) @ unit(fines[j]["audio"]) / 0.07 for j in rows] for i in rows])
    nce = -sum(np.log(softmax(cosines[i])[i]) + np.log(softmax(cosines[:, i])[i]) for i in range(len(rows)))
    assert float(losses["vision|audio"]) == pytest.approx(nce / 2 / len(rows), abs=1e-4)
    rows = [v for v in range(4) if 0 in videos[v]]
    dots = np.array([[texts[i][0] @ videos[j][0] / 0.07 for j in rows] for i in rows])
    total = 0.0
    for v in range(len(rows)):
        total -= dots[v, v] - np.log(np.exp(dots[:, v]).sum() + np.exp(dots[v]).sum())
    assert float(losses["vision|text"]) == pytest.approx(total / len(rows), abs=1e-4)


def test_clip_mean_and_middle() -> None:
    for frames in ("mean", "middle"):
        model = small("clip_mean", frames=frames)
        tokens = tokens_of(model)
        videos = []
        for v in range(4):
            own = rows_of(tokens, v).get("speech")
            slots = {}
            if own:
                chosen = own[len(own) // 2] if frames == "middle" else sum(unit(row) for row in own)
                slots[0] = unit(chosen)
            videos.append(slots)
        texts = [[unit(p)] for p in pooled_texts(model)]
        _agree(model, videos, texts, mean_cosine(videos, texts))


def test_streams_that_the_papers_keep_apart_stay_apart_in_value_and_gradient() -> None:
    """Another modality moves neither a stream's value nor, by that value, any gradient into itself."""

    def streams(name: str, model: RetrievalModel, tokens: dict[str, Steps]) -> dict[str, Tensor]:
        if name == "zorro":
            return {n: rows for n, (rows, _) in model.streams(model.inputs(tokens)).items() if n != "fusion"}
        if name == "eao+mask":
            parts = model.tokens(model.inputs(tokens))
            return dict(zip(parts, model.embed(parts, [[n] for n in parts]), strict=True))
        found = model.encode_videos(tokens).values
        return {n: found[:, slot] for slot, n in enumerate(model.slots)}

    for name in ("late_fusion", "mee", "zorro", "eao+mask"):
        model = small(name)
        tokens = tokens_of(model)
        base = streams(name, model, tokens)
        for kept in base:
            values = {n: s.values.clone().requires_grad_() for n, s in tokens.items()}
            other = {
                n: Steps(values[n] if n == kept else values[n] + 100, s.present, s.spans) for n, s in tokens.items()
            }
            moved = streams(name, model, other)[kept]
            assert torch.equal(moved.detach(), base[kept].detach()), (name, kept)
            moved.square().mul(torch.arange(moved.shape[1])).sum().backward()
            for n, leaf in values.items():
                reached = leaf.grad is not None and bool(leaf.grad.any())
                assert reached == (n == kept), (name, kept, n)


def test_umis_branches_read_their_own_half_of_the_slots() -> None:
    model = small("umi")
    features = {"object": torch.randn(3, 4, 32, requires_grad=True)}
    there = {"object": torch.ones(3, dtype=torch.bool)}
    for branch in (0, 1):
        (gradient,) = torch.autograd.grad(model.predict(features, there)[:, branch].square().sum(), features["object"])
        assert gradient[:, 2 * branch : 2 * branch + 2].abs().sum() > 0
        assert not gradient[:, 2 - 2 * branch : 4 - 2 * branch].any()


def test_cliplike_pseudo_labels_are_chosen_among_present_modalities() -> None:
    from reelseek.models.systems.umi import choose_pseudo_labels

    truth = torch.eye(3)
    candidates = {"a": torch.eye(3), "b": torch.eye(3).roll(1, 0) + 0.5 * torch.eye(3)}
    there = {"a": torch.tensor([True, False, False]), "b": torch.tensor([True, True, False])}
    rows, names = choose_pseudo_labels(candidates, there, truth)
    assert names == ["a", "b", None]
    assert torch.equal(rows[0], candidates["a"][0])
    assert torch.equal(rows[1], candidates["b"][1])
    assert torch.equal(rows[2], truth[2])
