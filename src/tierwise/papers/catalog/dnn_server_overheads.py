"""DNN server overheads (arXiv:2403.12981): what a vision server does around its network, from a compressed image to an
answer: decoding, resizing, normalising, copying, and brokers between networks."""

from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

_RATES = (
    "Decoding and resizing rates of the server's CPU and of its GPU, image sizes and the network behind them are not "
    "in the abstract, and the engine has no measured rate of an image codec to derive them from."
)

PAPER = Paper(
    slug="dnn-server-overheads",
    title="Beyond Inference: Performance Analysis of DNN Server Overheads for Computer Vision",
    source="arXiv:2403.12981",
    mechanism="Stages before and after the network, each with a rate of its own; the slowest sets the throughput.",
    claims=(
        Claim("share of the latency in processing and moving data, medium image", 56.0, "%", "up-to", "abstract",
              missing=NEEDS_SETUP, why=_RATES),
        Claim("throughput lost to them, large image", 80.0, "%", "up-to", "abstract", missing=NEEDS_SETUP, why=_RATES),
        Claim("throughput over prior work", 2.25, "x", "ratio", "abstract", missing=NEEDS_SETUP,
              why="Between two message brokers, one in memory: their rates must be measured."),
    ),
    assumptions=("An RTX 4090, TensorRT and the Triton server (public summaries).",),
)  # fmt: skip
