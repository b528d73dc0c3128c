"""MLX on Apple silicon."""

from __future__ import annotations

from tierwise.core.numerics import MIXTURES, fmt
from tierwise.launch.fit import Divided, script

TITLE = "mlx-lm's server"
SOURCE = "mlx-lm 0.28, README.md (large models: iogpu.wired_limit_mb, macOS 15)"
CANNOT = "it runs on Apple silicon, whole models in memory"
GROUP = 64  # of its default quantization


def files(d: Divided) -> dict[str, str]:
    """A script that converts the model and serves it."""
    if d.vendor != "Apple" or not d.whole or d.streams:
        return {}
    form = fmt(MIXTURES.get(d.weights, d.weights)) if d.weights else None
    bits = 16 if form is None else int(float(form.bits + form.meta))
    out = f"{d.model.rsplit('/', 1)[-1]}-{bits}bit"
    quantize = f"-q --q-bits {bits} --q-group-size {GROUP} " if bits < 16 else ""
    before = (f"[ -d {out} ] || mlx_lm.convert --hf-path {d.model} {quantize}--mlx-path {out}",
              "# Should macOS keep too much back: sudo sysctl iogpu.wired_limit_mb=MEGABYTES")  # fmt: skip
    return {"mlx.sh": script(d, ["mlx_lm.server", "--model", out], before)}
