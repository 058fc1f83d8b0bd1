"""Films whose truth is known, encoded as real video files: for the demonstration, tests and experiments."""

from reelseek.studio.films import Film, plan_films, shoot, write_archive

__all__ = ["Film", "plan_films", "shoot", "write_archive"]
