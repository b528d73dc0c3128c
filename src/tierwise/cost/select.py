"""The largest k of many values in each row: a radix selection over digits of 8 bits, and a gathering pass.

Every digit is a pass over all values (counts of each block), a sum over blocks, and a cut; then come a fill, the
counts of ties, two scans of two kernels, and the gathering of what is left: the kernels of torch.topk on long rows
(``mbtopk`` in PyTorch's aten/src/ATen/native/cuda/TensorTopK.cu, 2.1 and later).
"""

from __future__ import annotations

from tierwise.core.num import ceil_div, where
from tierwise.cost.constants import constant
from tierwise.cost.types import Cost, Target
from tierwise.program.types import Op

_DIGIT = constant("select.digit")
_A_DIGIT, _AROUND = constant("select.kernels_a_digit"), constant("select.kernels_around")


def price(op: Op, on: Target) -> Cost:
    """All passes from the last cache where the values fit there, else from memory."""
    values = op.reads[0]
    digits = ceil_div(values.format.bits, _DIGIT)
    moved = values.bytes * (digits + 1.0) + sum((o.bytes for o in op.writes), 0.0)
    far = where(values.bytes <= on.cache_capacity, 0.0 * moved, moved)
    rate, _ = on.rate("fp32", "vector")
    parts = {
        "compute": op.flops * digits / (rate * on.efficiency.of("compute", "vector")),
        on.memory.name: on.memory_time(far, op.kind),
        on.cache_name: on.cache_time(moved, op.kind),
    }
    return on.cost(op.kind, parts, op.flops * digits, {on.memory.name: far, on.cache_name: moved},
                   kernels=_A_DIGIT * digits + _AROUND)  # fmt: skip
