"""Launch files: what starts a deployment on a real engine. Nothing here runs anything.

A new engine is ``NAME.py`` (``command``, ``missing``, ``router``, ``routing``, ``benchmark``) and ``flags/NAME.yaml``,
which holds what the engine's own argument list accepts; both are found by their place.
"""

from tierwise.launch.files import engines
from tierwise.launch.folder import write

__all__ = ["engines", "write"]
