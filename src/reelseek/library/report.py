"""What one call of `add` did, and how its progress is told."""

from collections.abc import Callable
from dataclasses import dataclass, field

from reelseek.media.notice import Notice

__all__ = ["STAGES_IN_BYTES", "STAGES_IN_SECONDS", "AddReport", "Progress"]

Progress = Callable[[str, int, int, str], None]
"""Called with stage, done, total and what was just finished."""
STAGES_IN_SECONDS = ("extracting",)
"""Stages of `Progress` whose work is counted in seconds of video."""
STAGES_IN_BYTES = ("reading",)
"""Stages of `Progress` whose work is counted in bytes of files."""


@dataclass
class AddReport:
    """What one call of `add` did. `failed` holds (video, expert or '', reason) of this run only.

    `remade` holds (video, expert) of tracks whose bytes were lost or damaged, and are whole again; those that could not
    be made again are among `failed`. `unmatched` are names in a captions table that are no video here, nor a file that
    could become one. `notices` say of which video what was guessed or mended; of a table or folder the video is ''.
    `rows` of tables and lists were read, `lost_rows` were not.
    """

    videos_seen: int = 0
    videos_new: int = 0
    captions: int = 0
    extracted: int = 0
    skipped_experts: dict[str, str] = field(default_factory=dict)
    experts: list[str] = field(default_factory=list)
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    remade: list[tuple[str, str]] = field(default_factory=list)
    known_failures: int = 0
    unmatched: list[str] = field(default_factory=list)
    rows: int = 0
    lost_rows: int = 0
    notices: list[tuple[str, Notice]] = field(default_factory=list)

    @property
    def nothing_new(self) -> bool:
        """Whether the library is as it was, and nothing failed."""
        return not (self.videos_new or self.captions or self.extracted or self.failed)
