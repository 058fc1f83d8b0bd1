"""Writes the vectors of labels and background queries by the packaged sentence encoder, which searches begin with:
src/reelseek/models/shipped_vectors.npz. Run: OMP_NUM_THREADS=1 python benchmarks/packaged/shipped_vectors.py
"""

import numpy as np

from reelseek.experts.efficientnet import imagenet_labels
from reelseek.experts.sentence import packaged_encoder
from reelseek.models.shipped import SHIPPED, shipped_vectors
from reelseek.models.systems.concepts import background_queries


def main() -> None:
    vectors = shipped_vectors(packaged_encoder(), background_queries(), imagenet_labels())
    np.savez(SHIPPED, **vectors)
    print(SHIPPED, SHIPPED.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
