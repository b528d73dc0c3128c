"""KV managers, one a file: blocks that hold a request's tokens."""

NAME = "KV manager"
FUNCTIONS = {"blocks": "int(engine, request, tokens)"}
