"""Routers, one a file: which replica a request goes to."""
