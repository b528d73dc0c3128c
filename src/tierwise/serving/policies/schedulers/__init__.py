"""Schedulers, one a file: which requests get tokens in the next step."""

NAME = "scheduler"
FUNCTIONS = {"tokens": "int(engine, request, tenant)", "order": "float(engine, request, tenant)"}
