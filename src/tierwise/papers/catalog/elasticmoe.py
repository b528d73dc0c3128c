"""ElasticMoE (arXiv:2510.02613): an instance grows by a few devices while it serves: weights and caches are mapped, not
copied, new devices get theirs from their peers, and experts move by remapping virtual memory."""

from __future__ import annotations

from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

PAPER = Paper(
    slug="elasticmoe",
    title="ElasticMoE: An Efficient Auto Scaling Method for Mixture-of-Experts Models",
    source="arXiv:2510.02613",
    mechanism="Scaling moves only the weights that new devices lack, from device to device, beside serving.",
    claims=(
        Claim("time to scale up, over other ways", 9.0, "x", "up-to", "abstract", missing=NEEDS_SETUP,
              why="Starting processes and communication decides it: of 62.8 s from three to four replicas without a "
                  "started standby 52.4 s go to it, 7.3 s to reading weights from disk in place of peers, and 2.4 s "
                  "are left with all (ablation). Those times are not given for the baselines of the best point, nor "
                  "its model and devices."),
        Claim("throughput while scaling, over other ways", 2.0, "x", "up-to", "abstract", missing=NEEDS_SETUP,
              why="rates, lengths and moments of scaling are not stated, nor how long each baseline stands still"),
    ),
    assumptions=("Ascend 910C of 64 GB in a CloudMatrix384; the ablation as a public summary of its table gives it.",),
)  # fmt: skip
