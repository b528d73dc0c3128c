"""A block that is one op of a given graph (an ONNX node); its sizes come from a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tierwise.core.num import Num
from tierwise.core.numerics import Format, Names, multiply_in
from tierwise.models.blocks.common import Plain
from tierwise.models.step import Step
from tierwise.models.types import Weight
from tierwise.program.types import Op, Operand


@dataclass(frozen=True)
class Size:
    """A size that depends on the step: the sum over ``terms`` ``(c, i, j)`` of ``c * seqs**i * new**j``."""

    terms: tuple[tuple[float, int, int], ...]

    def at(self, step: Step) -> Num:
        """Its value, one or many."""
        total: Num = 0.0
        for c, i, j in self.terms:
            total = total + c * (step.seqs**i if i else 1.0) * (step.new**j if j else 1.0)
        return total


@dataclass(frozen=True)
class Tensor:
    """An operand.

    Attributes:
        name: of the tensor in the file.
        role: ``act``, ``weight`` or ``table``.
        elements: how many move.
        format: stored format; None for the step's activations, or for a weight the format of ``weight_role``.
        weight_role: role of a weight.
    """

    name: str
    role: str
    elements: Size
    format: Format | None = None
    weight_role: str = ""

    def operand(self, step: Step) -> Operand:
        form, elements = self.format, self.elements.at(step)
        if form is None:
            form = step.weight(self.weight_role) if self.weight_role else step.act
        if self.role == "weight":
            elements = elements * step.density(self.weight_role)
        return Operand(self.name, self.role, elements, form)


@dataclass(frozen=True)
class Fixed(Plain):
    """One op. It runs whole on one device: tensor parallelism does not divide it.

    Attributes:
        name: of the node.
        kind: op class as the cost room knows it; ``""`` for a node that is stored but not priced.
        role: report group.
        dims: iteration dims.
        factor: FLOPs are ``factor`` times the product of the dims in ``work``.
        params: weights that belong to this node.
        after: names of the nodes whose results it reads.
        options: further facts for the price.
    """

    name: str
    kind: str
    role: str
    dims: Mapping[str, Size] = field(default_factory=dict)
    factor: float = 0.0
    work: tuple[str, ...] = ()
    reads: tuple[Tensor, ...] = ()
    writes: tuple[Tensor, ...] = ()
    params: tuple[Weight, ...] = ()
    after: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)

    def weights(self) -> Iterable[Weight]:
        return self.params

    def ops(self, step: Step) -> Iterator[Op]:
        if not self.kind:
            return
        dims = {k: v.at(step) for k, v in self.dims.items()}
        flops: Num = self.factor
        for name in self.work:
            flops = flops * dims[name]
        role = next((t.weight_role for t in self.reads if t.role == "weight"), "")
        matrix = self.kind in ("matmul", "conv")
        yield Op(
            kind=self.kind,
            name=self.name,
            role=self.role,
            dims=dims,
            flops=flops,
            reads=tuple(t.operand(step) for t in self.reads),
            writes=tuple(t.operand(step) for t in self.writes),
            arithmetic=self._arithmetic(step) if matrix else "fp32",
            after=self.after,
            options={**self.options, "structured": step.plan.structured, "density": step.density(role)}
            if matrix
            else self.options,
        )

    def _arithmetic(self, step: Step) -> Names:
        """The dtype in which the two inputs of a matrix product meet."""
        first = next((t.operand(step).format for t in self.reads if t.role == "act"), step.act)
        weight = next((t.operand(step).format for t in self.reads if t.role == "weight"), first)
        return multiply_in(weight, first)
