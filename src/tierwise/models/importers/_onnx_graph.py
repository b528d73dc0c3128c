"""An ONNX graph as plain data: nodes, stored tensors, and the shape of every tensor at chosen sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.numerics import Format, fmt
from tierwise.models.importers import _onnx_wire
from tierwise.models.importers._onnx_dims import BATCH, IMAGE, TOKENS, dimensions, held_batch, misfit
from tierwise.models.importers._onnx_fold import SMALL, fold
from tierwise.models.importers._onnx_nodes import OnnxNode, Shape
from tierwise.models.importers._onnx_sizes import Grid, grid

# Element type: (number format, bits), from onnx.proto. Strings (8) are no numbers.
ELEMENT: Mapping[int, tuple[str, int]] = {
    1: ("fp32", 32), 2: ("int8", 8), 3: ("int8", 8), 4: ("int16", 16), 5: ("int16", 16),
    6: ("int32", 32), 7: ("int64", 64), 9: ("bool", 8), 10: ("fp16", 16), 11: ("fp64", 64), 12: ("int32", 32),
    13: ("int64", 64), 14: ("64bit", 64), 15: ("128bit", 128), 16: ("bf16", 16), 17: ("fp8", 8), 18: ("fp8", 8),
    19: ("fp8", 8), 20: ("fp8", 8), 21: ("4bit", 4), 22: ("4bit", 4), 23: ("fp4", 4), 24: ("8bit", 8), 25: ("2bit", 2),
    26: ("2bit", 2), 27: ("6bit", 6), 28: ("6bit", 6),
}  # fmt: skip
FLOATS = frozenset({1, 10, 11, 16})
_INDEXES = frozenset({6, 7, 8, 9, 12, 13})  # element types of shapes, indexes and masks, not of parameters
_STANDARD = frozenset({"", "ai.onnx"})
_ROUNDS = 16  # of inference and folding; usual graphs settle in two


@dataclass(frozen=True)
class Constant:
    """A stored tensor; ``parameter`` unless it holds shapes, indexes or masks."""

    name: str
    shape: Shape
    kind: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return -(-self.elements * ELEMENT.get(self.kind, ("", 8))[1] // 8)

    @property
    def format(self) -> Format:
        return fmt(ELEMENT.get(self.kind, ("8bit", 8))[0])

    @property
    def parameter(self) -> bool:
        return self.kind not in _INDEXES


@dataclass(frozen=True)
class Graph:
    """What a file describes.

    Attributes:
        name: of the graph.
        nodes: in order of execution; ``domains`` and ``captured`` (names its subgraphs may read, or None
            when it has no subgraphs) belong to each.
        constants: stored tensors by name.
        grid: the points at which shapes were inferred; ``shapes`` and ``kinds`` (element types) at each.
        fixed_batch: the batch where the file fixes it, by its input or by constants inside, else None.
        tokens: the number of tokens is symbolic.
        output_rank: of the first output.
    """

    name: str
    nodes: tuple[OnnxNode, ...]
    domains: tuple[str, ...]
    captured: tuple[frozenset[str] | None, ...]
    constants: Mapping[str, Constant]
    grid: Grid
    shapes: tuple[Mapping[str, Shape], ...]
    kinds: Mapping[str, int]
    fixed_batch: int | None
    tokens: bool
    output_rank: int


def read_graph(path: str, sizes: Mapping[str, int]) -> Graph:
    """The graph of an ONNX file, without external data.

    Args:
        sizes: as in :func:`tierwise.models.importers.onnx.read`.

    Raises:
        Truncated, TierwiseError: the file is damaged, or the package ``onnx`` is not installed.
        BadField: an input dimension that nothing gives a value.
    """
    onnx = _onnx()
    _onnx_wire.check(path)
    try:
        model = onnx.load(path, load_external_data=False)
        if model.functions:
            import onnx.inliner

            model = onnx.inliner.inline_local_functions(model)
    except Exception as error:  # the parser is another package's: whatever it raises, the file is at fault
        raise TierwiseError(f"{path}: not a readable ONNX file (onnx says: {_line(error)})") from None
    _check_text(model, path)
    return _described(onnx, model, path, sizes)


def _check_text(message: Any, path: str) -> None:
    """Refuse a file whose names are not UTF-8: the parser hands them on as bytes, or not at all."""
    try:
        for field, value in message.ListFields():
            if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
                continue
            single = isinstance(value, str | bytes) or hasattr(value, "ListFields")
            for v in [value] if single else list(value):
                if isinstance(v, bytes):
                    raise TierwiseError(f"{path}: damaged: {field.name} is not text")
                if not isinstance(v, str):
                    _check_text(v, path)
    except UnicodeDecodeError as error:
        raise TierwiseError(f"{path}: damaged: a name is not text ({error.reason})") from None


def _onnx() -> Any:
    try:
        import onnx
        import onnx.numpy_helper
        import onnx.shape_inference
    except ImportError:
        raise TierwiseError("reading ONNX files needs the package onnx: pip install 'tierwise[onnx]'") from None
    return onnx


def _described(onnx: Any, model: Any, path: str, sizes: Mapping[str, int]) -> Graph:
    g = model.graph
    constants = {c.name: c for c in _constants(g)}
    for c in constants.values():
        if bad := [d for d in c.shape if d < 0]:
            raise BadField(path, f"stored tensor {c.name}: dimension", bad[0], "sizes of 0 or more")
    inputs = [i for i in g.input if i.name not in constants]
    if not g.node or not inputs:
        raise BadField(path, "graph", f"{len(g.node)} nodes, {len(inputs)} inputs", "at least one of each")
    wanted, fixed = dimensions({i.name: _dims(i, path) for i in inputs}, path, sizes)
    light = _light(onnx, model, constants, inputs)
    nodes = tuple(_node(onnx, n) for n in g.node)
    foldable = [n for n, proto in zip(nodes, g.node, strict=True) if is_standard(proto.domain)]
    stored = {c.name: c.shape for c in constants.values()}

    def inferred(
        batch: int, tokens: int, at: Mapping[str, list[int | str]] | None = None
    ) -> tuple[dict[str, Shape], dict[str, int]]:
        value: dict[int | str, int | str] = {BATCH: batch, TOKENS: tokens}
        sized = {n: [value.get(d, d) for d in ds] for n, ds in (at or wanted).items()}
        shapes, kinds = _inferred(onnx, light, sized, foldable, path)
        return shapes | stored, kinds

    symbolic = {d for ds in wanted.values() for d in ds}
    if BATCH in symbolic and (found := held_batch(foldable, inferred(1, 1 if TOKENS not in symbolic else 32)[0],
                                                  inferred(2, 1 if TOKENS not in symbolic else 32)[0])):  # fmt: skip
        # Constants inside the graph fix the batch that its input leaves open.
        fixed = found
        wanted = {n: [found if d == BATCH else d for d in ds] for n, ds in wanted.items()}
        symbolic.discard(BATCH)
    points = grid(BATCH in symbolic, TOKENS in symbolic)
    shapes: list[Mapping[str, Shape]] = []
    kinds: dict[str, int] = {}
    for s, t in points.points:
        known, kinds = inferred(s, t)
        shapes.append(known)
    if IMAGE in sizes:
        usual = {n: [value if isinstance(value, int) else d for value, d in zip(_dims(i, path), wanted[n], strict=True)]
                 for n, i in ((i.name, i) for i in inputs)}  # fmt: skip
        whole = shapes[0] if usual == wanted else inferred(*points.points[0], usual)[0]
        if odd := misfit(foldable, shapes[0]) or next(iter(whole.keys() - shapes[0].keys()), None):
            raise BadField(path, f"image size (at {odd})", sizes[IMAGE], "the size it was exported with: constants of "
                           "the graph hold for no other")  # fmt: skip
    kinds |= {c.name: c.kind for c in constants.values()}
    return Graph(
        name=g.name,
        nodes=nodes,
        domains=tuple(n.domain for n in g.node),
        captured=tuple(_captured(n) for n in g.node),
        constants=constants,
        grid=points,
        shapes=tuple(shapes),
        kinds=kinds,
        fixed_batch=fixed,
        tokens=TOKENS in symbolic,
        output_rank=len(shapes[0].get(g.output[0].name, ())) if g.output else 0,
    )


def is_standard(domain: str) -> bool:
    """The domain of ONNX's own operators."""
    return domain in _STANDARD


def _dims(value: Any, path: str) -> list[int | str]:
    """Dimensions of an input: numbers, or names (``""`` when it has none)."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        raise BadField(path, f"graph.input {value.name}", "no shape", "a tensor with a shape")
    out: list[int | str] = []
    for axis, d in enumerate(kind.shape.dim):
        if d.HasField("dim_value") and not 0 < d.dim_value < 1 << 32:
            if d.dim_value in (0, -1):  # how some exporters write "any"
                out.append("")
                continue
            raise BadField(path, f"graph.input {value.name}: dimension {axis}", d.dim_value, "1 to 2^32")
        out.append(int(d.dim_value) if d.HasField("dim_value") else d.dim_param)
    return out


def _constants(g: Any) -> Iterator[Constant]:
    """Initializers, and the tensors of Constant nodes that are more than a number."""
    for t in g.initializer:
        yield Constant(t.name, tuple(t.dims), t.data_type)
    for sparse in g.sparse_initializer:
        yield Constant(sparse.values.name, tuple(sparse.values.dims), sparse.values.data_type)
    for node in g.node:
        if node.op_type == "Constant":
            for a in node.attribute:
                if a.name == "value" and len(node.output) == 1 and len(a.t.dims) > 0:
                    yield Constant(node.output[0], tuple(a.t.dims), a.t.data_type)


def _node(onnx: Any, n: Any) -> OnnxNode:
    simple = (1, 2, 3, 4, 6, 7, 8)  # FLOAT, INT, STRING, TENSOR, FLOATS, INTS, STRINGS
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in n.attribute if a.type in simple}
    if isinstance(attributes.get("equation"), bytes):
        attributes["equation"] = attributes["equation"].decode(errors="replace")
    return OnnxNode(n.name, n.op_type, tuple(n.input), tuple(n.output), attributes)


def _captured(n: Any) -> frozenset[str] | None:
    """Names a node's subgraphs read or hold; None when it has none."""
    graphs = [g for a in n.attribute for g in ([a.g] if a.type == 5 else list(a.graphs))]
    if not graphs:
        return None
    names: set[str] = set()
    for g in graphs:
        for inner in g.node:
            names |= {*inner.input, *(_captured(inner) or ())}
    return frozenset(names)


def _light(onnx: Any, model: Any, constants: Mapping[str, Constant], inputs: list[Any]) -> Any:
    """The model for shape inference: large constants become inputs, so that no weights are copied around."""
    light = onnx.ModelProto()
    light.ir_version = max(model.ir_version, 4)
    light.opset_import.extend(model.opset_import)
    light.graph.name = "g"
    light.graph.node.extend(model.graph.node)
    light.graph.output.extend(onnx.ValueInfoProto(name=o.name) for o in model.graph.output)
    for t in model.graph.initializer:
        if constants[t.name].elements <= SMALL and t.data_location != onnx.TensorProto.EXTERNAL:
            light.graph.initializer.append(t)
        else:
            light.graph.input.append(onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)))
    # Of operators of other domains, inference knows only what the exporter wrote about their results.
    custom = {o for n in model.graph.node if not is_standard(n.domain) for o in n.output}
    light.graph.value_info.extend(v for v in model.graph.value_info if v.name in custom)
    light.graph.input.extend(inputs)
    return light


def _inferred(
    onnx: Any, light: Any, dims: Mapping[str, list[Any]], nodes: list[OnnxNode], path: str
) -> tuple[dict[str, Shape], dict[str, int]]:
    """(shapes, element types) of all tensors with the inputs at the given sizes.

    Inference and the folding of shape arithmetic take turns until neither finds more.
    """
    work = onnx.ModelProto()
    work.CopyFrom(light)
    for value in work.graph.input:
        for d, wanted in zip(value.type.tensor_type.shape.dim, dims.get(value.name, ()), strict=False):
            d.Clear()
            d.dim_value = wanted

    def number(tensor: Any) -> Any:
        small = math.prod(tensor.dims) <= SMALL and tensor.data_location != onnx.TensorProto.EXTERNAL
        return onnx.numpy_helper.to_array(tensor) if small else None

    try:
        known = {t.name: number(t) for t in work.graph.initializer}
        for _ in range(_ROUNDS):
            shapes, kinds = _once(onnx, work)
            wanted_shapes = {o for n in work.graph.node for o in n.output} - shapes.keys()
            new = fold(nodes, known, shapes, number) if wanted_shapes else {}
            if not new:
                break
            known |= new
            left = [n for n in work.graph.node if not new.keys() & set(n.output)]
            del work.graph.node[:]
            work.graph.node.extend(left)
            work.graph.initializer.extend(onnx.numpy_helper.from_array(v, name) for name, v in new.items())
    except Exception as error:  # as in read_graph
        raise TierwiseError(f"{path}: shape inference refused the graph (onnx says: {_line(error)})") from None
    return shapes, kinds


def _once(onnx: Any, model: Any) -> tuple[dict[str, Shape], dict[str, int]]:
    """One run of ONNX's shape inference."""
    done = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes: dict[str, Shape] = {t.name: tuple(t.dims) for t in done.initializer}
    kinds: dict[str, int] = {t.name: t.data_type for t in done.initializer}
    for value in (*done.input, *done.value_info, *done.output):
        kind = value.type.tensor_type
        if kind.elem_type:
            kinds[value.name] = kind.elem_type
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            shapes[value.name] = tuple(d.dim_value for d in kind.shape.dim)
    return shapes, kinds


def _line(error: Exception) -> str:
    """The first line of another package's message, cut."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
