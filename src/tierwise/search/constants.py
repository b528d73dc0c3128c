"""How hard a plan looks, and what a run can tell: numbers of ``constants.yaml``, each with what it rests on."""

from __future__ import annotations

from pathlib import Path

from tierwise.core.constants import constants

CONSTANTS = constants(Path(__file__).with_suffix(".yaml"))

# Standard deviations of the number in flight that an engine has seats for.
DEVIATIONS = CONSTANTS["seats.deviations"]
