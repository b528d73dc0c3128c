"""What recorded rows hold beside their operation, or leave out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tierwise.cost import Target, efficiency, flash
from tierwise.cost.types import Fit
from tierwise.machines import system
from tierwise.measure.recordings import recorded
from tierwise.measure.rows import attention, gemm, mla
from tierwise.program.types import Op


def rows(version: str, tokens: float = 1.0, step: float = 1024.0) -> dict[str, np.ndarray]:
    """One sequence of a grouped-query model on a B200, as vLLM's kernels were recorded."""
    numbers = {"batch_size": 8.0, "isl": tokens, "step": step, "num_heads": 32.0, "num_key_value_heads": 8.0,
               "head_dim": 128.0, "window_size": 0.0}  # fmt: skip
    words = {"engine": "vllm", "version": version, "system": "b200_sxm", "kv_cache_dtype": "bfloat16"}
    return {k: np.asarray([v]) for k, v in {**numbers, **words}.items()}


def test_which_rows_lack_the_write_of_the_cache() -> None:
    assert recorded(rows("0.22.0"), "attention", "unwritten").all()
    assert not recorded(rows("0.24.0"), "attention", "unwritten").any()
    assert not recorded({"step": np.ones(3)}, "attention", "unwritten").any()


def test_a_row_with_the_write_takes_longer_by_a_kernel_and_its_elements() -> None:
    """Whichever way the class was recorded, whose coefficients price the rows."""
    machine = system("b200-sxm")
    found = efficiency(machine.device, "vllm")
    plain = found.fits["attention_prefill", "bf16", "vllm"]
    assert plain.values["write"] == 0.0
    for write in (0.0, 150.0):
        fit: Fit = replace(plain, values={**plain.values, "write": write})
        on = Target(machine, replace(found, fits={("attention_prefill", "bf16", "vllm"): fit}, engine="vllm"))
        short, long = (
            [float(attention.cost(rows(v, tokens, 0.0), on).time[0]) for v in ("0.22.0", "0.24.0")]
            for tokens in (2.0, 4096.0)
        )
        assert 1e-6 < short[1] - short[0] < 4e-6
        assert long[1] - long[0] > 2.0 * (short[1] - short[0])


def test_the_write_takes_time_by_the_element() -> None:
    chip = flash.Chip(1e15, 1e13, 100.0, 1e12, 1e13, 1e7, 2e13)
    assert flash.cache_write(chip, {"write": 100.0}, 1e6) == 100.0 * 1e6 / 2e13
    assert flash.cache_write(chip, {}, 1e6) == 0.0


def test_norms_and_rotary_embeddings_as_chains_cost_their_kernels_and_bytes() -> None:
    """The same module under the same class: recorded on the B200 with fused kernels, on the B300 without."""
    numbers = {"batch_size": 1.0, "isl": 1.0, "step": 8192.0, "num_heads": 64.0}
    words = {"engine": "vllm", "version": "0.24.0", "kernel_source": "FLASHINFER_MLA", "mla_dtype": "bfloat16",
             "kv_cache_dtype": "bfloat16", "gemm_type": "bfloat16", "model": ""}  # fmt: skip
    machine = system("b300-sxm")
    on = Target(machine, efficiency(machine.device, "vllm"))
    fused, chained = (
        {k: np.asarray([v]) for k, v in {**numbers, **words, "system": name}.items()}
        for name in ("b200_sxm", "b300_sxm")
    )
    assert recorded(chained, "mla", "unfused").all() and not recorded(fused, "mla", "unfused").any()
    more = float(mla.cost(chained, on).time[0] - mla.cost(fused, on).time[0])
    launch = machine.device.dispatch.graph + 2.0 * machine.device.memory.latency
    # Thirty kernels in place of three, each with a load and a store that the next waits for; a token's bytes are
    # nothing beside that.
    assert 27 * launch <= more < 30 * launch


def test_plain_kernels_reach_what_their_threads_have_on_the_way_or_the_memory() -> None:
    """Seconds of a long prompt's chains over those of their bytes at the memory's bandwidth: one where the memory is
    slower than all threads with 4 bytes each on the way, more where it is faster, and never faster than either."""
    for name, least, most in (("l40s", 1.0, 1.05), ("h100-sxm", 1.05, 1.3), ("b300-sxm", 2.0, 2.6)):
        machine = system(name)
        on = Target(machine, efficiency(machine.device, "vllm"))
        chip = mla.chip(Op("attention", "core", "attn", {}, 0.0, (), (), "bf16"), on)
        short, long = (float(mla.chains(on, chip, tokens, 128.0)) for tokens in (1e6, 2e6))
        bytes_a_token = 36.0 * (mla.Q_RANK + mla.RANK) + 24.0 * mla.ROPE * 129.0
        plain = 1e6 * bytes_a_token / machine.device.memory.bandwidth
        assert least <= (long - short) / plain <= most, name


def test_products_of_tensorrt_hold_the_search_for_a_scale_and_engines_do_not() -> None:
    """By seconds that the same collectors measured of it alone: a few microseconds, or a pass over the inputs."""
    on = Target(system("b200-sxm"), efficiency(system("b200-sxm").device, "trtllm"))

    def row(m: float, dtype: str, version: str) -> dict[str, np.ndarray]:
        cells = {"m": m, "n": 1024.0, "k": 8192.0, "gemm_dtype": dtype, "engine": "trtllm", "version": version,
                 "system": "b200_sxm"}  # fmt: skip
        return {k: np.asarray([v]) for k, v in cells.items()}

    def more(m: float, dtype: str = "fp8") -> float:
        with_it, without = (float(np.ravel(gemm.cost(row(m, dtype, v), on).time)[0]) for v in ("1.3.0rc20", "0"))
        return with_it - without

    # AIConfigurator's computescale_perf of the B200: 8.2 us at 8 by 8192, 174 us at 16384 by 16384, twice as many.
    assert 7e-6 < more(8.0) < 10e-6
    assert 70e-6 < more(16384.0) < 105e-6
    assert more(8.0, "fp8_block") == 0.0 and more(8.0, "bfloat16") == 0.0
    # Three engines multiply eight rows in 8 bits by the same devices' units: none takes twice as long as another.
    seconds = [float(np.ravel(gemm.cost({**row(8.0, "fp8", "0"), "engine": np.asarray([e])},
                                        replace(on, efficiency=efficiency(on.device, e))).time)[0])
               for e in ("trtllm", "vllm", "sglang")]  # fmt: skip
    assert max(seconds) < 1.5 * min(seconds)
