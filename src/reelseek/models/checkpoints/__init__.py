"""Checkpoints that other projects published, read as tensors only."""
