"""ONNX files: one stack whose blocks are the nodes of the graph. Needs the package ``onnx``.

A symbolic leading dimension becomes the step's sequences, a symbolic token dimension its new tokens. A graph
exported with a fixed batch is scaled per item.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from tierwise.core.errors import TierwiseError
from tierwise.core.numerics import Format, fmt
from tierwise.models.blocks.fixed import Fixed, Size, Tensor
from tierwise.models.importers._onnx_graph import ELEMENT, FLOATS, Constant, Graph, is_standard, read_graph
from tierwise.models.importers._onnx_nodes import STATIC, VIEWS, NodeWork, OnnxNode, known, work_of
from tierwise.models.importers._stored import NOT_WEIGHTS, Stored, with_stored
from tierwise.models.types import Layer, Model, Stack, Weight

_MATRIX = ("conv", "matmul")


def read(path: str, sizes: Mapping[str, int] | None = None) -> Model:
    """The model in an ONNX file.

    Nodes that only rename data (reshapes) cost nothing; nodes computed from constants and shapes alone are
    done before the pass; nodes that cannot be priced are listed in the notes. Parameters are the stored
    tensors except those of shapes, indexes and masks.

    Args:
        sizes: values of symbolic input dimensions other than batch and tokens, by name; ``image``: both sides of the
            images that go in, also where the file fixes them.

    Raises:
        Truncated, BadField, TierwiseError: the file is damaged or leaves sizes open, or ``onnx`` is missing.
    """
    graph = read_graph(path, sizes or {})
    builder = _Builder(graph)
    blocks = tuple(builder.blocks())
    if not any(b.kind for b in blocks):
        raise TierwiseError(f"{path}: nothing in the graph can be priced ({'; '.join(builder.notes())})")
    name = Path(path).stem
    stream = "encode" if graph.tokens else "vision"
    stack = Stack("graph", (Layer("graph", blocks),), (0,), stream=stream, tokens=0.0 if graph.tokens else 1.0)
    model = Model(
        name=name,
        family="onnx",
        hidden=0.0,
        vocab=0.0,
        stacks=(stack,),
        activations=fmt(ELEMENT[builder.float_kind][0]),
        task="classify" if graph.output_rank == 2 and not graph.tokens else "encode",
        source=path,
        notes=tuple(builder.notes()),
    )
    return with_stored(model, (builder.stored(c) for c in graph.constants.values()))


class _Builder:
    """Walks the nodes in order, remembering which tensors are constants or other names of earlier ones."""

    def __init__(self, graph: Graph) -> None:
        self.g = graph
        self.linear = "mlp" if graph.tokens else "vision"
        self.origins: dict[str, tuple[str, ...]] = {n: (n,) for n in graph.constants}
        self.root: dict[str, str] = {}
        self.producer: dict[str, str] = {}
        self.owner: dict[str, str] = {}  # constant: weight role under which a node took it
        self.unpriced: Counter[str] = Counter()
        self.shapeless: Counter[str] = Counter()
        self.empty: Counter[str] = Counter()
        self.names: Counter[str] = Counter()
        self.taken: set[str] = set()
        self.bent: set[str] = set()
        kinds = Counter(graph.kinds.get(o, 0) for n in graph.nodes for o in n.outputs)
        floats = [k for k, _ in kinds.most_common() if k in FLOATS]
        self.float_kind = floats[0] if floats else 1

    def blocks(self) -> Iterator[Fixed]:
        for node, domain, captured in zip(self.g.nodes, self.g.domains, self.g.captured, strict=True):
            standard = is_standard(domain)
            if standard and captured is None and self._settled(node):
                continue
            if standard and node.op in VIEWS and node.inputs:
                self.root[node.outputs[0]] = self._root(node.inputs[0])
                continue
            yield self._block(node, standard, captured or frozenset())
        left = [c for c in self.g.constants.values() if c.parameter and c.name not in self.owner]
        if left:
            yield Fixed("unused", "", "norm", params=tuple(self._claim(c, "norm") for c in left))

    def notes(self) -> Iterator[str]:
        if self.unpriced:
            yield "not priced: " + _listed(self.unpriced)
        if self.shapeless:
            yield "not priced, as their shapes could not be inferred: " + _listed(self.shapeless)
        if self.empty:
            yield "without work, as a dimension comes out as 0 (is the image too small?): " + _listed(self.empty)
        if self.g.fixed_batch is not None:
            yield f"exported with a fixed batch of {self.g.fixed_batch}; work is scaled per item"
        if self.bent:
            sample = ", ".join(sorted(self.bent)[:3])
            yield f"{len(self.bent)} nodes grow with batch or tokens in another way than assumed: {sample}"

    def stored(self, c: Constant) -> Stored:
        return Stored(c.name, self.owner.get(c.name, NOT_WEIGHTS), c.elements, c.bytes, c.format)

    def _settled(self, node: OnnxNode) -> bool:
        """Known before the pass: made of constants and shapes alone."""
        inputs = [n for n in node.inputs if n]
        if node.op not in STATIC and not (inputs and all(n in self.origins for n in inputs)):
            return False
        from_inputs = () if node.op in ("Shape", "Size") else tuple(o for n in inputs for o in self.origins[n])
        for out in node.outputs:
            if out:
                self.origins.setdefault(out, from_inputs)
        return True

    def _block(self, node: OnnxNode, standard: bool, captured: frozenset[str]) -> Fixed:
        works = [work_of(node, shapes, self.origins.__contains__) if standard else None for shapes in self.g.shapes]
        work = works[0]
        name = self._name(node)
        role = self._weight_role(work)
        held = [c for n in (*node.inputs, *sorted(captured)) for c in self.origins.get(n, ())]
        params = tuple(
            self._claim(self.g.constants[c], role)
            for c in dict.fromkeys(held)
            if c not in self.owner and self.g.constants[c].parameter
        )
        same = [w for w in works if w is not None and work is not None and w.dims.keys() == work.dims.keys()]
        if work is None or len(same) < len(works):
            (self.shapeless if standard and known(node.op) else self.unpriced)[node.op] += 1
            return Fixed(name, "", "norm", params=params)
        if any(size <= 0 for w in same for size in w.dims.values()):
            self.empty[node.op] += 1
            return Fixed(name, "", "norm", params=params)
        block = self._priced(node, name, same, params, role)
        for out in node.outputs:
            self.producer[out] = name
        return block

    def _name(self, node: OnnxNode) -> str:
        """The node's own name, made unique."""
        self.names[node.op] += 1
        name = node.name or f"{node.op}_{self.names[node.op]}"
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def _priced(self, node: OnnxNode, name: str, works: list[NodeWork], params: tuple[Weight, ...], role: str) -> Fixed:
        work = works[0]
        dims = {k: self._size(name, [w.dims[k] for w in works], k == work.carrier) for k in work.dims}
        reads = [t for i, n in enumerate(node.inputs) if n and (t := self._read(name, n, i, works, role))]
        writes = [Tensor(out, "act", self._elements(name, out, True), self._format(out))
                  for out in node.outputs if out]  # fmt: skip
        sources = (self.producer.get(self._root(n)) for n in node.inputs if n)
        return Fixed(
            name=name,
            kind=work.kind,
            role={"conv": "conv", "norm": "norm", "embedding": "embed"}.get(work.kind, self.linear),
            dims=dims,
            factor=work.factor,
            work=work.product,
            reads=tuple(reads),
            writes=tuple(writes),
            params=params,
            after=tuple(dict.fromkeys(s for s in sources if s)),
            options={**work.options, "node": node.op, **({"merged": True} if self._merged(node) else {})},
        )

    def _merged(self, node: OnnxNode) -> bool:
        """Whether an exporter merged a batch norm into a convolution: the weights it computed then are parameters of
        no module, whose names have dots (torch.onnx; the shifts of equal norms become copies of one)."""
        if node.op != "Conv" or len(node.inputs) < 3 or not node.inputs[2]:
            return False
        weight = node.inputs[1]
        return weight.startswith("onnx::") or not weight.endswith((".weight", ".kernel"))

    def _read(self, op: str, name: str, at: int, works: list[NodeWork], role: str) -> Tensor | None:
        """An operand; None for shapes and indexes that a kernel takes as arguments."""
        constant = name in self.origins
        if constant and not any(self.g.constants[c].parameter for c in self.origins[name]):
            return None
        part = works[0].reads.get(at)
        whole = part is None
        elements = (
            self._elements(op, name, not constant) if whole else self._size(op, [w.reads[at] for w in works], True)
        )
        if not constant:
            return Tensor(self._root(name), "act", elements, self._format(name))
        kind = "table" if works[0].table == at else "weight"
        return Tensor(name, kind, elements, None, role)

    def _elements(self, op: str, tensor: str, moving: bool) -> Size:
        values = []
        for shapes in self.g.shapes:
            n = 1
            for width in shapes[tensor]:
                n *= width
            values.append(n)
        return self._size(op, values, moving)

    def _size(self, op: str, values: list[int], carries: bool) -> Size:
        """The size as a function of the step; in a graph of fixed batch, what carries the batch is scaled."""
        size, good = self.g.grid.size(tuple(values))
        if not good:
            self.bent.add(op)
        if self.g.fixed_batch is not None and carries:
            return Size(tuple((c / self.g.fixed_batch, 1, j) for c, _, j in size.terms))
        return size

    def _format(self, tensor: str) -> Format | None:
        kind = self.g.kinds.get(tensor, self.float_kind)
        return None if kind == self.float_kind or kind not in ELEMENT else fmt(ELEMENT[kind][0])

    def _root(self, name: str) -> str:
        return self.root.get(name, name)

    def _weight_role(self, work: NodeWork | None) -> str:
        if work is None:
            return "norm"
        return {"conv": "conv", "matmul": self.linear, "embedding": "embed"}.get(work.kind, "norm")

    def _claim(self, c: Constant, role: str) -> Weight:
        self.owner[c.name] = role
        return Weight(c.name, float(c.elements), role)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{op} ×{n}" for op, n in sorted(counts.items()))
