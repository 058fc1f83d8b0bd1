"""Collections: moments that somebody keeps, with notes and tags, shared by a link and exported as files."""
