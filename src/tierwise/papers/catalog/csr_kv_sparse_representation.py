"""CSR: a cached vector becomes a few atoms of a learned dictionary, each an index and a coefficient.

The dictionary is shared by all tokens of a layer, so its size fades with the context.
"""

from tierwise import Batch, Scenario, evaluate, techniques
from tierwise.papers.base import scenario
from tierwise.papers.types import Claim, Paper

BASE = scenario("llama-2-7b", "a100-sxm-80gb", Batch(prompt=30000, output=2, batch=1))
ATOMS = 8192.0 + 4096.0


def csr(nonzeros: float) -> Scenario:
    return BASE.apply(techniques.sparse_code_kv(nonzeros, atoms=ATOMS))


def bits(nonzeros: float) -> float:
    """Bits of the cache per element of a plain one (which has 16)."""
    return 16.0 * float(evaluate(csr(nonzeros)).memory.per_sequence / evaluate(BASE).memory.per_sequence)


def share(nonzeros: float) -> float:
    """Cache and dictionary over the plain cache."""
    after = evaluate(csr(nonzeros)).memory
    return float((after.kv + after.weights["kv_dictionary"]) / evaluate(BASE).memory.kv)


PAPER = Paper(
    slug="csr-kv-sparse-representation",
    title="CSR: Achieving 1 Bit Key-Value Cache via Sparse Representation",
    source="arXiv:2412.11741",
    mechanism="Sparse codes over a neural dictionary in place of dense keys and values.",
    claims=(
        Claim("bits an element, four atoms a vector", 1.0, "bits", "count", "title", lambda: bits(4), identity=True,
              why="four pairs of 32 bits for the 128 channels of a head: inputs all"),
        Claim("bits an element, eight atoms a vector", 2.0, "bits", "count", "analysis section", lambda: bits(8),
              extra=True, identity=True),
        Claim("cache and dictionary over the fp16 cache, 30000 tokens", 0.1, "", "at-most",
              "section on sparsity below two bits", lambda: share(4), extra=True, metric="memory",
              identity=True),
    ),
    assumptions=(
        "fp16 coefficients and 16-bit indexes, heads of 128 (analysis section)",
        "Llama2-7B; online dictionary of 8192 + 4096 atoms a layer (setup section), separate for keys and values",
    ),
)  # fmt: skip
