"""Routers, one a file: which replica a request goes to."""

NAME = "router"
FUNCTIONS = {"route": "int(cluster, request, engines, among)"}
