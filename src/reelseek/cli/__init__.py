"""The command line: each command parses, calls and prints; nothing here computes."""
