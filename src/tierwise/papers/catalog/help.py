"""HELP (arXiv:2106.08630): a latency model learned on many devices is adapted to an unseen one by ten measurements."""

from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

PAPER = Paper(
    slug="help",
    title="HELP: Hardware-Adaptive Efficient Latency Prediction for NAS via Meta-Learning",
    source="arXiv:2106.08630",
    mechanism="Ten measured latencies place a new device among those already known.",
    claims=(
        Claim("measurements an unseen device needs", 10.0, "", "count", "abstract", missing=NEEDS_SETUP,
              why="The latency tables of its search spaces and devices are not at hand. What ten measurements do for "
                  "this engine on a GPU left out of the fit is a benchmark: benchmarks/accuracy/few_samples.py; "
                  "docs/accuracy.md has its table."),
    ),
)  # fmt: skip
