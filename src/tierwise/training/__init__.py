"""Training: what one optimizer step of a layout takes, in time and memory.

A layout says how the work is divided (:mod:`~tierwise.training.layout`); a framework says how it is done (a file of
``frameworks/``). The ops of a micro-batch are those of a forward pass and of its backward pass
(:mod:`tierwise.program.backward`), priced like any others.
"""

from tierwise.training.layout import Layout
from tierwise.training.memory import TrainMemory
from tierwise.training.recipe import Recipe, TrainingFramework, framework, frameworks
from tierwise.training.step import TrainStep, train_step

__all__ = ["Layout", "Recipe", "TrainMemory", "TrainStep", "TrainingFramework", "framework", "frameworks", "train_step"]
