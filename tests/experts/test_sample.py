"""Every default expert finds something in the clip that comes with the package."""

import pytest

from reelseek.experts import DEFAULT_EXPERTS
from reelseek.experts.sample import run_on_sample


@pytest.mark.parametrize("name", DEFAULT_EXPERTS)
def test_an_expert_runs_on_the_packaged_clip(name: str) -> None:
    run = run_on_sample(name)
    assert not run.error
    assert run.steps > 0
    assert run.seconds > 0


def test_what_an_expert_raises_is_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> None:
        raise ModuleNotFoundError("No module named 'onnxruntime'")

    monkeypatch.setattr("reelseek.experts.speech._detector", silent)
    assert "onnxruntime" in run_on_sample("speech").error
