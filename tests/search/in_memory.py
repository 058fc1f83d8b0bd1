"""Vectors that are at hand, where a search takes those of a segment."""

from collections.abc import Iterator

from reelseek.search.vectors import Matrix, Rows


class InMemory:
    def __init__(self, vectors: Matrix) -> None:
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self._vectors)

    def take(self, places: Rows) -> Matrix:
        return self._vectors[places]

    def blocks(self, size: int) -> Iterator[Matrix]:
        return (self._vectors[start : start + size] for start in range(0, len(self), size))

    def whole(self) -> Matrix:
        return self._vectors
