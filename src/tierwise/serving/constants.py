"""Numbers of the closed loop's form that are neither derived nor fitted: those of ``constants.yaml``."""

from __future__ import annotations

from pathlib import Path

from tierwise.core.constants import constants

CONSTANTS = constants(Path(__file__).with_suffix(".yaml"))
