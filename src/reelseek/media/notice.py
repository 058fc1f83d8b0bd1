"""What a user should know of one input: guessed, mended or left out."""

from dataclasses import dataclass

__all__ = ["Notice"]


@dataclass(frozen=True)
class Notice:
    """One line on one input.

    Args:
        place: the file, and the place in it where one is known (`film.srt, line 12`).
        message: what was wanted, what came, and what was done instead.
        lost: whether something that a user would miss was left out; the command then exits with status 1.
    """

    place: str
    message: str
    lost: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message
