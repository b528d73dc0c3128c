"""What modules that are lines of PyTorch keep for the backward pass beyond what one kernel for each keeps.

`transformers` writes norms and gated activations as several operators (models/llama/modeling_llama.py): a norm keeps
its input in fp32, in which it works, and what it has normalised before the weight; a gated activation keeps the
activated gate beside both of its inputs and their product.
"""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, where
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.training.layout import Layout
from tierwise.training.work import INPUT, OUTPUT, decoder, plan_of


def kept_by_lines(model: Model, layout: Layout, casts: float = 1.0) -> Num:
    """Bytes that one layer keeps more of one micro-batch on a device (mean over the layers).

    Args:
        casts: as in the recipe: norms that work in 16 bits keep the stream and what they have normalised.
    """
    divided = where(np.asarray(layout.sequence_parallel) > 0, layout.tp, 1.0)
    total: Num = 0.0
    # Neither norms nor activations ask what came before.
    step = Step(model, plan_of(layout), layout.micro_batch, layout.seq / layout.cp, 0.0, "prefill", ranks=layout.cp)
    for s in lower(step).segments:
        if s.name.endswith((INPUT, OUTPUT)):
            continue
        for op in s.ops:
            if op.kind == "norm":
                stream = next((o for o in op.writes if o.name == "x"), op.reads[0])
                # The copy in fp32 stands in place of the stream.
                total = total + s.repeat * (2.0 + 2.0 * casts) * stream.elements / divided
            elif op.kind == "elementwise" and op.name.endswith(".act"):
                gated = np.asarray(op.reads[0].elements) > np.asarray(op.writes[0].elements)
                total = total + where(gated, s.repeat * op.writes[0].bytes, 0.0)
    return total / decoder(model).depth
