"""Learning from frames and samples instead of features: the settings, and the reading of windows."""
