"""Search for a training layout: layouts, seconds, rate and memory, and the answer beside layouts that were published.

    python benchmarks/training_search.py [--runs N]

The model is Turing-530B on 2,520 A100 80 GB at a global batch of 2,520 (arXiv:2104.04473, table 1, has this run). Of
the framework's own space, and of all that is modelled (``Space(wide=True)``: every schedule, a divided vocabulary,
collectives beside products, gradients averaged after the backward pass too). Ranking prices and ranks every legal
layout; the whole also plays the finalists' pipelines. Wall time counts what else the machine does; processor time does
not.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tierwise.machines import system
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.types import Layer, Model, Stack
from tierwise.search.train import Space, plan_training
from tierwise.training import Layout, framework, train_step
from tierwise.training.layout import pipelines

GPUS, BATCH, SEQ = 2520.0, 2520.0, 2048.0
# The goal: layouts a second, and seconds of the whole.
FLOOR, LIMIT = 100_000, 10.0
_THEIRS = Layout(tp=8.0, pp=35.0, dp=9.0, micro_batch=1.0, global_batch=BATCH, seq=SEQ)
# Layouts that were published for this model, on as many data-parallel replicas as 2,520 GPUs hold.
PUBLISHED = {
    "Narayanan et al. 2021: full recomputation (arXiv:2104.04473, table 1)": replace(
        _THEIRS, interleave=1.0, recompute=2.0
    ),
    "the same, interleaved (figure 12)": replace(_THEIRS, interleave=3.0, recompute=2.0),
    "Smith et al. 2022: MT-NLG, ZeRO-1 (arXiv:2201.11990, section 2.3)": replace(_THEIRS, recompute=2.0, zero=1.0),
    "Korthikanti et al. 2022: selective, sequence parallel (arXiv:2205.05198, table 3)": replace(
        _THEIRS, interleave=3.0, recompute=1.0, sequence_parallel=1.0
    ),
    "the same, ZeRO-1": replace(_THEIRS, interleave=3.0, recompute=1.0, sequence_parallel=1.0, zero=1.0),
}


def turing() -> Model:
    """Turing-530B: 105 layers of 20,480, 128 heads."""
    hidden = 20480.0
    blocks = (Norm(hidden, bias=True), Attention(hidden, 128.0, 128.0, 160.0), Norm(hidden, bias=True),
              MLP(hidden, 4.0 * hidden, gated=False))  # fmt: skip
    ends = (Norm(hidden, bias=True, name="final_norm"), Head(hidden, 51200.0, tied=True))
    stack = Stack("decoder", (Layer("decoder", blocks),), (0,) * 105, (Embedding(51200.0, hidden),), ends)
    return Model("turing-530b", "gpt", hidden, 51200.0, (stack,))


def timed(run: Callable[[], Any], runs: int) -> tuple[Any, float, float]:
    """(what came out, median seconds, median seconds of processor time); the first run is not counted."""
    wall, work, out = [], [], None
    for _ in range(runs + 1):
        start, before = time.perf_counter(), time.process_time()
        out = run()
        wall.append(time.perf_counter() - start)
        work.append(time.process_time() - before)
    return out, statistics.median(wall[1:]), statistics.median(work[1:])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    model, machine, how = turing(), system("2520xa100-sxm-80gb"), framework("megatron")
    head = ("layouts", "fit", "seconds", "work", "a second", "of work")
    print(f"{'ranking':24}" + "".join(f"{h:>12}" for h in head))
    spaces = {"the framework's": Space({}), "all that is modelled": Space({}, wide=True)}
    for name, space in spaces.items():
        found, wall, work = timed(
            lambda space=space: plan_training(model, machine, how, GPUS, BATCH, SEQ, space, confirm=False), runs
        )
        n = found.legal
        print(f"{name:24}{n:12,}{found.fitting:12,}{wall:12.3f}{work:12.3f}{n / wall:12,.0f}{n / work:12,.0f}"
              + ("" if n / work >= FLOOR else f"  below {FLOOR:,}"))  # fmt: skip
    print(f"\n{'with finalists played':24}{'seconds':>12}{'work':>12}")
    best = {}
    for name, space in spaces.items():
        found, wall, work = timed(
            lambda space=space: plan_training(model, machine, how, GPUS, BATCH, SEQ, space), max(runs // 3, 1)
        )
        best[name] = found.candidates
        print(f"{name:24}{wall:12.2f}{work:12.2f}" + ("" if work <= LIMIT else f"  above {LIMIT:.0f}"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    print(f"\npeak memory of this process: {peak / 1e6:.0f} MB\n")
    print(f"{'published layout':84}{'step':>8}{'MFU':>8}{'memory':>10}")
    for name, layout in PUBLISHED.items():
        step = train_step(model, machine, layout, how)
        fits = "" if bool(step.memory.fits) else "  does not fit"
        print(f"{name:84}{float(step.time):6.2f} s{float(step.mfu):8.1%}{float(step.memory.peak) / 1e9:7.1f} GB{fits}")
    for name, candidates in best.items():
        print(f"\nanswer, {name}")
        for c in candidates:
            x = c.step.layout
            said = [f"{k} {float(getattr(x, k)):.0f}" for k in ("tp", "pp", "dp", "micro_batch", "interleave", "zero")]
            said.append(pipelines()[int(x.schedule)])
            said += [k for k in ("sequence_parallel", "asynchronous", "overlap", "vocabulary") if getattr(x, k)]
            said.append(f"recompute {int(x.recompute)}")
            print(f"{', '.join(said):128}{c.seconds:6.2f} s{float(c.step.mfu):8.1%}, played {c.played:.4f} of the sum")


if __name__ == "__main__":
    main()
