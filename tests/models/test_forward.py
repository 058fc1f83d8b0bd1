"""A model is called with a batch: under DistributedDataParallel and torch.compile it learns what it learns alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_SHARED = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tests.models.worlds import batch_of, small

model = small("vse").train()
batch = batch_of(model)
dist.init_process_group("gloo")
part = batch.rows(torch.arange(2) + 2 * dist.get_rank())
shared = DistributedDataParallel(model)
sum(shared(part).values()).backward()
if dist.get_rank() == 0:
    torch.save({name: p.grad for name, p in model.named_parameters()}, sys.argv[1])
dist.destroy_process_group()
"""
_COMPARE = """
import sys
import torch
from tests.models.worlds import batch_of, small

alone = small("vse").train()
sum(alone(batch_of(alone)).values()).backward()
shared = torch.load(sys.argv[1], weights_only=True)
assert shared.keys() == {name for name, _ in alone.named_parameters()}
for name, parameter in alone.named_parameters():
    torch.testing.assert_close(shared[name], parameter.grad, atol=1e-6, rtol=1e-4)
"""
_COMPILED = """
import torch
from tests.models.worlds import batch_of, small

for name in ("vse",):
    plain, model = small(name).train(), small(name).train()
    torch.manual_seed(0)
    expected = plain(batch_of(plain))
    torch.manual_seed(0)
    terms = torch.compile(model, backend="eager")(batch_of(model))
    assert terms.keys() == expected.keys()
    for term in terms:
        torch.testing.assert_close(terms[term], expected[term])
    sum(terms.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
"""


def _run(*command: str) -> None:
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000, env=environment, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr[-4000:]


@pytest.mark.long
def test_gradients_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    for name, source in (("shared.py", _SHARED), ("compare.py", _COMPARE)):
        (tmp_path / name).write_text(source)
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    _run(*launcher, str(tmp_path / "shared.py"), str(tmp_path / "gradients.pt"))
    _run(sys.executable, str(tmp_path / "compare.py"), str(tmp_path / "gradients.pt"))


@pytest.mark.long
def test_a_compiled_model_has_the_same_loss_and_gradients() -> None:
    _run(sys.executable, "-c", _COMPILED)
