"""What the dimensions of an ONNX graph's inputs stand for: the batch, tokens, an image's sides, or plain numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from tierwise.core.errors import BadField
from tierwise.models.importers._onnx_nodes import OnnxNode, Shape

BATCH, TOKENS = "batch", "tokens"
# The key under which ``sizes`` gives both sides of an image, whatever the file calls them.
IMAGE = "image"
Dims = Sequence[int | str]

_BATCH = re.compile(r"batch|^(n|b|bs)$", re.IGNORECASE)
_TOKENS = re.compile(r"seq|len|token|time", re.IGNORECASE)
_PAST = re.compile(r"past|total|cache", re.IGNORECASE)


def dimensions(
    inputs: Mapping[str, Dims], path: str, sizes: Mapping[str, int]
) -> tuple[dict[str, list[int | str]], int | None]:
    """(each input's dimensions as numbers, :data:`BATCH` or :data:`TOKENS`; the batch that the file fixes, if it does).

    The batch is the dimension called so, wherever it stands; where none is, the leading one of the first input.

    Raises:
        BadField: a dimension that nothing gives a value, or a size for one that no input has.
    """
    names = {d for ds in inputs.values() for d in ds if isinstance(d, str)}
    sides = {n: _sides(ds) for n, ds in inputs.items()}
    if IMAGE in sizes and not any(sides.values()):
        raise BadField(path, "image size", sizes[IMAGE], "nothing: no input of the graph is an image (of rank 4)")
    for name in sizes.keys() - names - {IMAGE}:
        known = ", ".join(sorted(n for n in names if n)) or "none: all are fixed"
        raise BadField(path, "size", f"{name}={sizes[name]}", f"a symbolic dimension of an input ({known})")
    first = next(iter(inputs.values()))
    named = next((d for ds in inputs.values() for d in ds if isinstance(d, str) and _BATCH.search(d)), None)
    leading = first[0] if first else 1
    batch = named if named is not None else leading if isinstance(leading, str) else None
    fixed = None if batch is not None else leading if isinstance(leading, int) else 1

    def of(name: str, axis: int, dim: int | str) -> int | str:
        if IMAGE in sizes and axis in sides[name]:
            return sizes[IMAGE]
        if isinstance(dim, int):
            return dim
        if dim in sizes:
            return sizes[dim]
        if batch is not None and (dim == batch if dim else axis == 0):
            return BATCH
        if (_TOKENS.search(dim) and not _PAST.search(dim)) or (not dim and axis == 1 and len(inputs[name]) == 2):
            return TOKENS
        image = f"--image-size PIXELS or {path}:{IMAGE}=PIXELS, or " if axis in sides[name] else ""
        allowed = f"a size: {image}{path}:{dim}=SIZE" if dim else f"{image}a file exported with a fixed size"
        raise BadField(path, f"graph.input {name}: dimension {axis}", dim or "unknown", allowed)

    return {name: [of(name, axis, d) for axis, d in enumerate(ds)] for name, ds in inputs.items()}, fixed


def held_batch(nodes: Iterable[OnnxNode], one: Mapping[str, Shape], two: Mapping[str, Shape]) -> int | None:
    """The batch that constants inside the graph fix, though its input leaves it open; None where they do not.

    A reshape keeps its elements. One to a constant shape keeps them at a single batch only, which follows from what
    it takes at a batch of ``one`` and of ``two``.
    """
    for node in nodes:
        if (at := misfit([node], two)) is not None:
            before, after = math.prod(one[node.inputs[0]]), math.prod(two[at])
            return max(after // before, 1) if before else 1
    return None


def misfit(nodes: Iterable[OnnxNode], shapes: Mapping[str, Shape]) -> str | None:
    """The first output of a reshape that does not hold as many elements as go into it."""
    for node in nodes:
        source, target = node.inputs[:1], node.outputs[:1]
        if node.op != "Reshape" or not all(n in shapes for n in (*source, *target)):
            continue
        if math.prod(shapes[source[0]]) != math.prod(shapes[target[0]]):
            return target[0]
    return None


def _sides(dims: Dims) -> tuple[int, ...]:
    """The axes of an image's height and width: the last two of four, or the middle two where channels are last."""
    if len(dims) != 4:
        return ()
    last = isinstance(dims[3], int) and dims[3] in (1, 3, 4) and not (isinstance(dims[1], int) and dims[1] in (1, 3, 4))
    return (1, 2) if last else (2, 3)
