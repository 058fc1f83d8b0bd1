"""What every system and every expert has to keep, as test classes that pytest runs in any package.

    from reelseek.testing import ExpertContract, SystemContract

    class TestMySystem(SystemContract):
        system = "my_system"

    class TestMyExpert(ExpertContract):
        expert = "my_expert"

Reelseek's own systems and experts are held to the same classes. Needs pytest, as nothing else here does.
"""

import pytest

pytest.register_assert_rewrite("reelseek.testing.experts", "reelseek.testing.systems")

from reelseek.testing.experts import ExpertContract  # noqa: E402 - after assertions are rewritten
from reelseek.testing.films import write_film  # noqa: E402
from reelseek.testing.inputs import TEXTS, random_batch, random_tokens  # noqa: E402
from reelseek.testing.systems import SystemContract  # noqa: E402

__all__ = ["TEXTS", "ExpertContract", "SystemContract", "random_batch", "random_tokens", "write_film"]
