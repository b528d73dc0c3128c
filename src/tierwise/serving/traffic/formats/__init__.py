"""Formats of traces, one file each, found by place: ``NEEDS``, ``sniff(path, head) -> bool``, ``read(path) -> Trace``.

Files whose name begins with an underscore are shared by the others.
"""
