"""The search page over HTTP; nothing here computes."""
