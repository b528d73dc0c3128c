"""Schedulers, one a file: which requests get tokens in the next step."""
