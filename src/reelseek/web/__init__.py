"""The search page over HTTP; nothing here computes."""

__all__ = ["DEFAULT_COPIES_GB"]

DEFAULT_COPIES_GB = 10.0  # what copies of videos for browsers may take on the disk, in 10^9 bytes
