"""A library for assistants, over the Model Context Protocol; `reelseek mcp` starts it."""
