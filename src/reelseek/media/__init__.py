"""Bytes of a media file -> frames, sound, subtitles and shots, each with its own time."""
