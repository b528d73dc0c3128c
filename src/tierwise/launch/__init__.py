"""Launch files: what starts a deployment on a real engine. Nothing here runs anything.

An engine's folder in :mod:`tierwise.engines` has ``launch.py`` (``command``, ``missing``, ``router``, ``routing``,
``benchmark``) and ``flags.yaml``, which holds what the engine's own argument list accepts; both are found there.
"""

from tierwise.launch.files import engines
from tierwise.launch.folder import write

__all__ = ["engines", "write"]
