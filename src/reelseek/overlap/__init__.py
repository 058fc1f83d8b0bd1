"""The same footage twice: candidates and where they match."""
