"""The conversation with a model: an HTTP client of any OpenAI-compatible API, and a REPL on top of it."""
