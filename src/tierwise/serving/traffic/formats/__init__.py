"""Formats of traces, one file each, found by place: ``NEEDS``, ``sniff(path, head) -> bool``, ``read(path) -> Trace``.

``CSV = True`` where it is one. Those that hold times of tokens have ``bench(path) -> Bench`` too.

Files whose name begins with an underscore are shared by the others.
"""
