"""What one step of an engine costs: the one function that `explain`, the simulator's tables and the planner ask."""

from tierwise.steps.state import Chunk, StepState

__all__ = ["Chunk", "StepState"]
