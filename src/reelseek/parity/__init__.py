"""Our models, losses and metrics compared with recorded numbers of the systems they re-implement.

A fixture is a folder with config.json, inputs.safetensors, outputs.safetensors and, for models, weights.safetensors,
recorded by running a released system on small random weights. `python -m reelseek.parity FOLDER...` builds our model,
maps the weights and compares every recorded output.
"""

from reelseek.parity.check import SYSTEMS, Difference, check, find_fixtures, read_fixture

__all__ = ["SYSTEMS", "Difference", "check", "find_fixtures", "read_fixture"]
