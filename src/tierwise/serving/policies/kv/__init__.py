"""KV managers, one a file: blocks that hold a request's tokens."""
