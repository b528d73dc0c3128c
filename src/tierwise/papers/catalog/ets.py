"""ETS (arXiv:2502.13575): a tree search keeps branches that share their past and mean different things."""

from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

PAPER = Paper(
    slug="ets",
    title="ETS: Efficient Tree Search for Inference-Time Scaling",
    source="arXiv:2502.13575",
    mechanism="Fewer nodes of the tree are kept, so that more trajectories fit beside each other.",
    claims=(
        Claim("KV cache of the search, mean over its steps, against REBASE", 1.8, "x", "ratio", "abstract",
              missing=NEEDS_SETUP,
              why="Which branches are kept follows from the reward model's scores and from how many sentences mean the "
                  "same; neither trees nor scores are published."),
        Claim("throughput over REBASE", 1.4, "x", "ratio", "abstract", missing=NEEDS_SETUP,
              why="Depends on how many tokens of a trajectory are its own. Llemma-34B on an H100 NVL with 1.8 times as "
                  "many trajectories in the room beside its weights: 1.05x at 200 tokens of their own, 1.20x at 800; "
                  "prefixes computed again because they were evicted between steps come on top."),
    ),
    assumptions=(
        "Steps of at most 256 tokens, 1024 in all, widths of 16 to 256, one server each for model and rewards (README "
        "and hype-parameters of the authors' repository); H100 NVL (public summaries).",
    ),
)  # fmt: skip
