"""Launch files of a training layout, a module a framework. Nothing here runs anything.

A module has ``files(step, shape, name)``: file name to text, or nothing where the framework cannot run the layout. What
each may set is in ``options.yaml``, with the version it was read from.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.files import write as write_file
from tierwise.core.units import gb, seconds
from tierwise.models.types import Model
from tierwise.training.step import TrainStep
from tierwise.training.work import decoder


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of a decoder that frameworks are told."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    gated: bool
    vocab: int
    experts: int
    top_k: int
    expert_inner: int
    tied: bool
    context: int


def shape_of(model: Model) -> DecoderShape:
    """The sizes of a model's decoder."""
    text = decoder(model)
    blocks = [b for k in text.kinds for b in k.blocks]
    facts = [b.facts() for b in blocks]
    weights = [w for b in blocks for w in b.weights()]

    def first(values: Any, otherwise: float = 0.0) -> int:
        return int(float(np.asarray(next((v for v in values if v is not None), otherwise))))

    hidden = int(float(np.asarray(model.hidden)))
    inner = next((float(np.asarray(w.elements)) / hidden for w in weights if w.name == "down_proj"), 0.0)
    heads = first(f.heads for f in facts)
    return DecoderShape(
        layers=text.depth,
        hidden=hidden,
        heads=heads,
        kv_heads=first((f.kv_heads for f in facts), heads),
        head_dim=first((f.head_dim for f in facts), hidden / max(heads, 1)),
        inner=round(inner),
        gated=any(w.name == "gate_proj" for w in weights) or any(f.experts for f in facts),
        vocab=int(float(np.asarray(model.vocab))),
        experts=first(f.experts for f in facts),
        top_k=first(f.top_k for f in facts),
        expert_inner=first(f.expert_shape[1] for f in facts if f.expert_shape is not None),
        tied=any(float(np.asarray(b.facts().tied)) > 0 for b in text.after),
        context=int(model.max_context) if np.isfinite(model.max_context) else 0,
    )


def targets() -> tuple[str, ...]:
    """Frameworks that files are written for."""
    return tuple(sorted(i.name for i in pkgutil.iter_modules(__path__)))


def files(step: TrainStep, model: Model, name: str) -> dict[str, str]:
    """Every file, by its path inside the folder; none where no framework here has the way to train (zeroth-order, an
    optimizer that projects gradients, slices, a prefix or some maps alone, modules computed again one by one,
    replicas that average otherwise than all together), or names what it launches as graphs anew with every release."""
    recipe, x = step.how.recipe, step.layout
    apart = x.again_norm or x.again_act or x.again_mlp or x.again_up or x.averaging or x.late
    own = recipe.projection > 0 or recipe.optimizer in ("microadam", "frugal")
    own = own or recipe.grouped > 0 or recipe.graphs != "none"
    if recipe.forwards > 0 or own or recipe.slices or recipe.adapted or recipe.prefix or apart:
        return {}
    shape = shape_of(model)
    out: dict[str, str] = {}
    for target in targets():
        made: Mapping[str, str] = importlib.import_module(f"{__name__}.{target}").files(step, shape, name)
        out |= {f"{target}/{file}": text for file, text in made.items()}
    return out


def write(step: TrainStep, model: Model, name: str, folder: str) -> list[str]:
    """Write the files, with a README that says what was predicted.

    Returns:
        The paths inside the folder.
    """
    made = files(step, model, name)
    m = step.memory
    low, high = (seconds(float(np.asarray(x))) for x in step.interval)
    made["README.md"] = (
        f"# Training {name}\n\n"
        f"Predicted: {seconds(float(np.asarray(step.time)))} a step (80 %: {low} to {high}), "
        f"{float(np.asarray(step.tokens)):,.0f} tokens/s, MFU {float(np.asarray(step.mfu)):.0%}; "
        f"{gb(float(np.asarray(m.peak)))} of {gb(float(np.asarray(m.capacity)))} on the fullest device.\n\n"
        f"Rests on: {step.how.source}.\n\n" + "".join(f"- `{path}`\n" for path in sorted(made))
    )
    for path, text in made.items():
        try:
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TierwiseError(f"{folder}: cannot be written: {error.strerror}") from None
        write_file(str(Path(folder) / path), text)
    return sorted(made)
