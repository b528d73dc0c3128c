"""GPPerf GEMM Ada (arXiv:2411.16954): tile sizes of matrix products on an RTX 4070, and a predictor of their time and
power."""

from __future__ import annotations

from tierwise.cost import efficiency
from tierwise.machines import system
from tierwise.papers.types import NEEDS_FEATURE, NEEDS_SETUP, Claim, Paper


def error() -> float:
    """Mean error, per cent, of predicted GEMM times on the GPU of this architecture that was measured, on shapes left
    out of the fit."""
    fit = efficiency(system("l40s").device).fit("matmul", "bf16")
    return 100.0 * fit.errors["unseen_mean"] if fit is not None else float("nan")


_TILES = (
    "A thread for each output, tiles of 1 to 32 a side: how many such blocks a multiprocessor holds, and what an "
    "access to its scratchpad costs them, is below the engine, which prices tiles that fill a unit."
)

PAPER = Paper(
    slug="gpperf-gemm-ada",
    title="Understanding GEMM Performance and Energy on NVIDIA Ada Lovelace: A Machine Learning-Based Analytical "
    "Approach",
    source="arXiv:2411.16954",
    mechanism="Time, power and energy of a product from its shape and tiles, learned from 16,128 runs.",
    claims=(
        Claim("gain of the best tile over a baseline", 3.2, "x", "up-to", "abstract", missing=NEEDS_SETUP,
              why="Which tile is the baseline, and the shapes, are not known."),
        Claim("power saved by the best tile", 22.0, "%", "ratio", "abstract", missing=NEEDS_SETUP,
              why="As above."),
        Claim("best side of a tile", 16.0, "", "count", "abstract", missing=NEEDS_FEATURE, why=_TILES),
        Claim("mean error of predicted times", 15.57, "%", "at-most", "abstract", error,
              why="Of this engine on the L40S, the same architecture: a fit of some fifteen coefficients to 10,759 "
                  "kernels of three libraries, on shapes it has not seen; the paper's is a random forest on one card."),
        Claim("median error of predicted power", 5.42, "%", "at-most", "abstract", missing=NEEDS_FEATURE,
              why="No measured power in the data at hand to hold a prediction against."),
    ),
    assumptions=("The error is the one kept with the calibration (cost/calibration/ada/matmul.yaml).",),
)  # fmt: skip
