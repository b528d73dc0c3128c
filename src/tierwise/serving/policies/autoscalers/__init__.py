"""Autoscalers, one a file: how many replicas should be up."""

NAME = "autoscaler"
FUNCTIONS = {"replicas": "int(cluster, engines)"}
