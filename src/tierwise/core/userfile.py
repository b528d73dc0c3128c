"""Python files of a user's own: policies, rules of traffic, techniques, papers."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from tierwise.core.errors import TierwiseError


class _AsItIs(SourceFileLoader):
    """Compiles a file each time and leaves no compiled copy beside it: Python takes one for current that is as long
    and was written in the same second."""

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.get_data(self.path), self.path, "exec", dont_inherit=True)


def executed(path: str | Path, name: str) -> ModuleType:
    """The module of a file, run anew. ``name``: in ``sys.modules``, where dataclasses and compiled code look it up.

    Raises:
        TierwiseError: whatever the file raises, with its name and line.
    """
    file = str(path)
    spec = importlib.util.spec_from_file_location(name, file, loader=_AsItIs(name, file))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except TierwiseError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == Path(file).resolve()]
        if isinstance(error, SyntaxError) and error.filename == file:
            lines.append(error.lineno)
        at = f", line {lines[-1]}" if lines else ""
        raise TierwiseError(f"{path}{at}: {type(error).__name__}: {error}") from error
    return module
