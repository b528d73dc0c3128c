"""Requests over time: traces read from files, and traffic made up by rule."""

from tierwise.serving.traffic.arriving import arriving
from tierwise.serving.traffic.load import load
from tierwise.serving.traffic.search import Search, searching
from tierwise.serving.traffic.synthetic import synthetic
from tierwise.serving.traffic.trace import Trace, trace

__all__ = ["Search", "Trace", "arriving", "load", "searching", "synthetic", "trace"]
