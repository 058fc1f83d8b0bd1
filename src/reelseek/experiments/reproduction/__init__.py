"""Tables of the papers, trained again on the features that somebody has: `reelseek reproduce`."""
