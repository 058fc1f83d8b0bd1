"""Blocks that systems are composed of: project, arrange, mix, pool, heads."""
