"""MMT's and MDMMT's video encoders against a plain padded implementation: the same weights and outputs.

Run: python benchmarks/encoder.py [BATCH] [ROUNDS]   (default 16, 7; published sizes, 30 places an expert, half filled)
Forward alone and forward with backward. Half of the places are filled, at random: a uniform count of steps for each
expert and video, and an expert is absent altogether in one video of ten.
"""

import sys

import torch

from reelseek.library.tokens import Steps
from reelseek.models import SYSTEMS
from timing import medians, padded_layer

EXPERTS = {
    "mmt": {"face": 512, "ocr": 300, "rgb": 2048, "s3d": 1024, "scene": 2208, "speech": 300, "vggish": 128},
    "mdmmt": {"VIDEO": 2048, "CLIP": 512, "tf_vggish": 128},
}


def tokens(experts: dict[str, int], batch: int) -> dict[str, Steps]:
    generator = torch.Generator().manual_seed(0)
    inputs = {}
    for name, dim in experts.items():
        counts = torch.randint(1, 34, (batch,), generator=generator).clamp(max=30)
        counts[torch.rand(batch, generator=generator) < 0.1] = 0
        present = torch.arange(30)[None] < counts[:, None]
        spans = torch.arange(30.0)[None, :, None].expand(batch, 30, 2).clone()
        inputs[name] = Steps(torch.randn(batch, 30, dim, generator=generator), present, spans)
    return inputs


def main(batch: int, rounds: int) -> None:
    for system, experts in EXPERTS.items():
        torch.manual_seed(0)
        model = SYSTEMS[system].build({"experts": experts, "dropout": 0.0, "text": {"dim": 768}}).eval()
        inputs = model.inputs(tokens(experts, batch))

        def ours(model: torch.nn.Module = model, inputs: dict[str, Steps] = inputs) -> torch.Tensor:
            row, positions = model.arrange(inputs)
            return model.encode_tokens(row, positions)[:, model.aggregates(row)]

        def padded(model: torch.nn.Module = model, inputs: dict[str, Steps] = inputs) -> torch.Tensor:
            row, positions = model.arrange(inputs)
            values = model.norm(row.values + model.position(positions) + model.expert(row.group))
            for layer in model.mix.layers:
                values = padded_layer(layer, values, row.present)
            return values[:, model.aggregates(row)]

        def learn(run: object, model: torch.nn.Module = model) -> None:
            run().square().sum().backward()  # type: ignore[operator]
            model.zero_grad()

        row, _ = model.arrange(inputs)
        with torch.inference_mode():
            present = row.present[:, model.aggregates(row)]
            torch.testing.assert_close(ours()[present], padded()[present], atol=1e-4, rtol=1e-4)
        fill = float(row.present.float().mean())
        with torch.inference_mode():
            forward = medians({"ours": ours, "padded": padded}, rounds)
        both = medians({"ours": lambda: learn(ours), "padded": lambda: learn(padded)}, max(3, rounds // 2))
        for what, seconds in (("forward", forward), ("forward and backward", both)):
            print(
                f"{system:5} fill {fill:.2f}, {what}: ours {seconds['ours']:.3f} s, padded {seconds['padded']:.3f} s, "
                f"ratio {seconds['padded'] / seconds['ours']:.2f}"
            )


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    main(*(arguments + [16, 7][len(arguments) :]))
