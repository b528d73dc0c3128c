"""Autoscalers, one a file: how many replicas should be up."""
