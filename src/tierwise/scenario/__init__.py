"""What is asked: a model on a machine under a plan, with the work it gets."""

from tierwise.scenario.types import KV, Applied, Batch, Plan, Resolved, Scenario

__all__ = ["KV", "Applied", "Batch", "Plan", "Resolved", "Scenario"]
