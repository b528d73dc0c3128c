"""Kernels of llama.cpp and MLX: what block-quantized products cost, and what others have measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tierwise import Batch, Scenario, evaluate
from tierwise.core.numerics import Format, fmt
from tierwise.cost import Target, efficiency
from tierwise.cost.kits import kit
from tierwise.cost.ondevice import class_of, peak, price, reading, reading_at, started, with_kit
from tierwise.cost.ondevice import product as by_rows
from tierwise.cost.ondevice_tiles import read_again, tiled
from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.program.types import Op, Operand
from tierwise.scenario.types import Plan


def on(machine: str, engine: str = "llama.cpp") -> Target:
    found = system(machine)
    return Target(found, efficiency(found.device, engine))


def product(rows: Any, weights: str, n: float = 4096.0, k: float = 4096.0) -> Op:
    return Op("matmul", "mlp.up", "mlp", {"m": rows, "n": n, "k": k}, 2.0 * rows * n * k,
              (Operand("x", "act", rows * k, fmt("bf16")), Operand("w", "weight", n * k, fmt(weights))),
              (Operand("y", "act", rows * n, fmt("bf16")),), "bf16")  # fmt: skip


def seconds(op: Op, target: Target) -> Any:
    cost = price(op, target)
    assert cost is not None
    return cost.time


def rate(model: str, machine: str, bits: float, name: str = "q4_k", engine: str = "llama.cpp") -> tuple[float, float]:
    """(tokens/s while decoding, tokens/s of a prompt of 512) of a file with so many bits a weight."""
    form = Format(name, bits, 0.0, "")
    stored = replace(load_model(model), formats={"*": form})
    plan = Plan(weights=form)
    r = evaluate(Scenario(stored, machine, Batch(512, 128), plan=plan, engine=engine))
    prefill, decode = r.phases[0], r.phases[-1]
    return 1.0 / float(decode.cost.time), 512.0 / float(prefill.cost.time * prefill.passes)


@pytest.mark.parametrize("machine", ["rtx-4090", "m1-max", "ryzen-ai-max-395", "ryzen-9-7950x"])
def test_no_product_beats_its_machine(machine: str) -> None:
    """Neither more bytes a second than memory carries nor more arithmetic than the fastest unit does."""
    target = on(machine)
    rows = np.array([1.0, 2.0, 7.0, 8.0, 9.0, 64.0, 512.0])
    for weights in ("fp16", "q8_0", "q4_0", "q4_k", "iq2_xxs"):
        time = seconds(product(rows, weights), target)
        peak = max(float(v) for e in target.device.engines for v in e.rates.values())
        assert np.all(2.0 * rows * 4096.0**2 / time <= peak)
        assert np.all(4096.0**2 * fmt(weights).bytes / time <= target.memory.bandwidth)
        assert np.all(np.diff(time) >= -1e-12)


@pytest.mark.parametrize("machine", ["rtx-4090", "m1-max", "raspberry-pi-5"])
def test_fewer_bits_are_faster_but_not_by_all_their_bits(machine: str) -> None:
    """Weights have to be expanded: a file of a quarter of the bytes is not four times as fast."""
    target = on(machine)
    wide, narrow = (seconds(product(1.0, f), target) for f in ("fp16", "q4_k"))
    assert narrow < wide < narrow * fmt("fp16").bytes / fmt("q4_k").bytes


def test_experts_of_one_token_cost_their_bytes() -> None:
    """Each is a matrix-vector product: no tile of 64 rows is filled for one."""
    target = on("rtx-4090")
    hidden, inner, touched = 2880.0, 2880.0, 4.0
    weights = 3.0 * hidden * inner * touched
    op = Op("moe", "moe.experts", "moe", {"tokens": 4.0, "hidden": hidden, "inner": inner, "experts": 32.0,
            "touched": touched, "up": 2.0}, 2.0 * weights, (Operand("x", "act", 4 * hidden, fmt("bf16")),
            Operand("w", "weight", weights, fmt("mxfp4"))),
            (Operand("y", "act", 4 * hidden, fmt("bf16")),), "bf16")  # fmt: skip
    least = weights * fmt("mxfp4").bytes / target.memory.bandwidth
    assert least < seconds(op, target) < 3.0 * least


def test_formats_may_be_an_array() -> None:
    """A sweep over formats is what each format costs alone."""
    target = on("rtx-4090")
    names = ["fp16", "q4_0", "q4_k", "iq2_xxs"]
    many = product(1.0, "fp16")
    together = seconds(Op(many.kind, many.name, many.role, many.dims, many.flops, (many.reads[0], Operand(
        "w", "weight", 4096.0**2, fmt(np.array(names)))), many.writes, many.arithmetic), target)  # fmt: skip
    assert together == pytest.approx([seconds(product(1.0, n), target) for n in names])


def test_an_engine_of_another_kind_prices_as_before() -> None:
    assert kit("vllm", system("rtx-4090").device) is None
    assert price(product(1.0, "q4_k"), on("rtx-4090", "vllm")) is None
    assert kit("mlx", system("rtx-4090").device) is None


def test_a_backend_by_vendor() -> None:
    backends = {"rtx-4090": "cuda", "rx-7600": "rocm", "m2-pro": "metal", "arc-b580": "vulkan",
                "raspberry-pi-5": "processors"}  # fmt: skip
    for machine, name in backends.items():
        found = kit("llama.cpp", system(machine).device)
        assert found is not None and found.name == name


def test_classes_of_kernels() -> None:
    names = ("fp16", "bf16", "q8_0", "q5_0", "q4_0", "mxfp4", "q6_k", "q8_k", "iq4_xs", "iq3_s", "int4-g64")
    found = {n: class_of(fmt(n)) for n in names}
    assert found == {"fp16": "f16", "bf16": "bf16", "q8_0": "q8", "q5_0": "q5", "q4_0": "q4", "mxfp4": "q4",
                     "q6_k": "k", "q8_k": "q8", "iq4_xs": "k", "iq3_s": "iq", "int4-g64": "q4"}  # fmt: skip


def test_what_products_are_counted_against() -> None:
    """16-bit matrix instructions where there are any, int8 dot products on the vector units where there are none."""
    ada, rdna2, rdna3 = (on(m, "llama.cpp-vulkan") for m in ("rtx-4090", "rx-6800-xt", "rx-7900-xtx"))
    assert peak(ada, "matrix") == pytest.approx(ada.rate("int8")[0] / 2.0)
    assert peak(rdna3, "matrix") == pytest.approx(rdna3.rate("fp16")[0])
    assert peak(rdna2, "matrix") == peak(rdna2, "dot") == pytest.approx(4.0 * rdna2.rate("fp32", "vector")[0], rel=1e-3)
    # Processors with AMX have a vector unit beside it, which forks without kernels for AMX use.
    amx = on("xeon-8480", "ik_llama.cpp")
    assert peak(amx, "dot") < peak(amx, "int8")
    # Kernels of 256 bits get half of what vectors of 512 do, and all of what narrower ones do.
    assert peak(amx, "dot256") == pytest.approx(peak(amx, "dot") / 2.0)
    zen = on("ryzen-9-7950x")
    assert peak(zen, "dot256") == peak(zen, "dot")


def test_experts_are_started_one_after_the_other_where_nothing_starts_them_together() -> None:
    """By a library in six kernels, on processors in three products each, elsewhere all at once; none without rows."""
    assert started(512.0, 4.0, 0.3, 0.0, 0.0) == 6.0
    assert started(512.0, 4.0, 0.0, 0.0, 0.0) == started(8.0, 1.0, 0.3, 0.0, 0.0) == 0.0
    assert started(8.0, 1.0, 0.0, 1.0, 1.0) == started(512.0, 4.0, 0.0, 1.0, 1.0) == 3.0
    # A token's own kernel came before that for all tokens of a step.
    assert started(8.0, 1.0, 0.0, 5.0, 0.0) == 0.0
    assert started(512.0, 4.0, 0.0, 5.0, 0.0) == 15.0


def test_an_expert_of_few_rows_is_not_the_library_s() -> None:
    """Where experts are multiplied one by one, the kernel follows from an expert's own rows."""
    c = {"memory": 0.9, "work": 8.0, "mac": 4.0, "rate": 0.4, "pad": 16.0}
    memory, issue, rate, elements = 2.5e11, 3e13, 6e13, 4096.0**2

    def seconds_of(rows: float, library: float) -> float:
        return float(sum(by_rows(c, memory, issue, rate, rows, elements, elements * 0.6, 512.0, library)))

    assert seconds_of(32.0, 0.05) == seconds_of(32.0, 0.0)
    assert seconds_of(128.0, 0.05) > seconds_of(128.0, 0.0)


def test_experts_multiplied_apart_take_the_kernel_for_few_rows() -> None:
    """Of a prompt that a library multiplies, an expert's four rows are a matrix-vector product as four rows alone."""
    c = {"memory": 0.9, "work": 8.0, "mac": 4.0, "rate": 0.05, "pad": 64.0}
    args = (c, 2.5e11, 3e13, 6e13, 4.0, 4096.0**2, 4096.0**2 * 0.6)
    assert by_rows(*args, 512.0, 0.3) == by_rows(*args, 4.0, 0.3)
    assert sum(by_rows(*args, 512.0, 0.3)) < sum(by_rows(*args, 512.0, 0.0))


def test_units_beyond_the_tiles_of_a_product_are_idle() -> None:
    """A wave of tiles fills a chip of few units, and leaves most of one of many idle; wide matrices fill both."""
    few, many = on("ryzen-ai-max-395"), on("rx-7900-xtx")
    narrow, wide, gated = (
        Op("matmul", "up", "mlp", {"m": 512.0, "n": n, "k": 4096.0}, 0.0, (), (), "fp16", options={"parts": parts})
        for n, parts in ((4096.0, 1), (131072.0, 1), (8192.0, 2))
    )
    assert tiled(narrow, few) == pytest.approx(40.0 * 128.0 / 4096.0)
    assert tiled(narrow, many) / tiled(narrow, few) == pytest.approx(96.0 / 40.0)
    assert tiled(narrow, many) / tiled(wide, many) == pytest.approx(32.0)
    # Gate and up of a block are one op and two kernels.
    assert tiled(gated, few) == tiled(narrow, few)


def test_idle_units_cost_a_share_of_a_tile() -> None:
    c = {"memory": 0.9, "work": 8.0, "mac": 4.0, "rate": 0.4, "pad": 0.0}

    def seconds_of(rows: float, spare: float) -> float:
        return sum(by_rows(c, 2.5e12, 3e13, 6e13, rows, 4096.0**2, 1.0, spare=spare))

    assert seconds_of(512.0, 0.5) == pytest.approx(seconds_of(512.0, 0.0) * (512.0 + 64.0) / 512.0)
    assert seconds_of(32.0, 0.5) == pytest.approx(seconds_of(32.0, 0.0) * 1.5)


@pytest.mark.parametrize("streamed", [True, False])
def test_what_no_cache_holds_is_read_by_every_tile_of_rows(streamed: bool) -> None:
    """2,048 rows are 16 tiles of 128; a matrix of 72 MB and its 148 columns of tiles are more than 24 MiB of cache and
    48 units hold."""
    target = on("dgx-spark")
    once = product(128.0, "q8_0", n=18944.0, k=3584.0)
    often = product(2048.0, "q8_0", n=18944.0, k=3584.0)
    assert read_again(once, target, streamed) == 0.0
    assert read_again(often, target, streamed) == pytest.approx(15.0 * 18944.0 * 3584.0 * fmt("q8_0").bytes)
    # A matrix of 1 MB stays; and so do the parts that units walk along, where the format has half of the bits.
    assert read_again(product(2048.0, "q8_0", n=1024.0, k=1024.0), target, streamed) == 0.0
    assert read_again(product(2048.0, "q4_0", n=18944.0, k=3584.0), target, True) == 0.0


def test_units_that_share_columns_of_tiles_read_them_together() -> None:
    """28 columns of tiles on 48 units: each goes through 28 / 48 of the rows."""
    target = on("dgx-spark")
    op = product(2048.0, "q8_0", n=3584.0, k=18944.0)
    times = 16.0 * 28.0 / 48.0 - 1.0
    assert read_again(op, target, True) == pytest.approx(times * op.bytes_of("weight"))
    assert read_again(op, target, True) < read_again(op, target, False)


def test_many_rows_of_wide_weights_cost_what_they_read_again() -> None:
    """On little bandwidth, eight bits cost more than four by at least what tiles read again of them, though both
    multiply alike."""
    target = on("dgx-spark")
    wide, narrow = (seconds(product(2048.0, f, n=18944.0, k=3584.0), target) for f in ("q8_0", "q4_0"))
    again = read_again(product(2048.0, "q8_0", n=18944.0, k=3584.0), target, True) / target.memory.bandwidth
    assert wide > again and wide - narrow > 0.5 * again


def test_reading_and_multiplying_take_turns_where_a_unit_waits_for_both() -> None:
    c = {"memory": 1.0, "work": 1.0, "mac": 1.0, "rate": 1.0, "pad": 0.0}
    read, multiply = 1.0, 2.0 * 512.0 * 1e6 / 1e9
    times = [sum(by_rows(c, 1e6, 1e12, 1e9, 512.0, 1e6, 1e6, again=again, serial=serial))
             for again, serial in ((0.0, 0.0), (0.0, 1.0), (1e6, 1.0), (5e6, 0.0))]  # fmt: skip
    assert times == pytest.approx([multiply, read + multiply, 2.0 * read + multiply, 6.0 * read])
    # A library's own kernels wait for nothing.
    assert sum(by_rows(c, 1e6, 1e12, 1e9, 512.0, 1e6, 1e6, library=1.0, again=1e6, serial=1.0)) == pytest.approx(
        sum(by_rows(c, 1e6, 1e12, 1e9, 512.0, 1e6, 1e6, library=1.0)))  # fmt: skip


def test_a_library_s_inputs_and_results_are_converted() -> None:
    c = {"memory": 0.5, "work": 8.0, "mac": 4.0, "rate": 0.4, "pad": 16.0}
    args = (c, 2.5e11, 3e13, 6e13, 512.0, 4096.0**2, 4096.0**2 * 0.6, 512.0)
    more = sum(by_rows(*args, 0.3, 1e6)) - sum(by_rows(*args, 0.3, 0.0))
    assert more == pytest.approx(2.0 * 1e6 / (2.5e11 * 0.5))
    assert by_rows(*args, 0.0, 1e6) == by_rows(*args, 0.0, 0.0)


def test_a_library_multiplies_many_rows_after_expanding_the_weights() -> None:
    c = {"memory": 0.9, "work": 8.0, "mac": 4.0, "rate": 0.4, "pad": 16.0}
    memory, issue, rate, elements = 2.5e11, 3e13, 6e13, 4096.0**2

    def seconds_of(rows: float, library: float) -> float:
        return float(sum(by_rows(c, memory, issue, rate, rows, elements, elements * 0.6, library=library)))

    assert seconds_of(64.0, 0.1) == seconds_of(64.0, 0.0)
    least = elements * 4.0 / memory
    slow, fast = (seconds_of(512.0, share) - 2.0 * 528.0 * elements / (rate * share) for share in (0.1, 0.5))
    assert slow == pytest.approx(fast)
    assert slow > least


def test_older_builds_on_radeons_had_a_library_and_options() -> None:
    """Before int8 kernels for WMMA, a Ryzen AI Max+'s prompts were rocBLAS's, or three times as fast hipBLASLt's."""

    def seconds_of(machine: str, build: str) -> float:
        target = on(machine)
        found = kit(f"llama.cpp{build}", target.device)
        assert found is not None
        return float(np.asarray(with_kit(product(512.0, "q4_0"), target, found).time))

    now, tuned, plain = (seconds_of("ryzen-ai-max-395", b) for b in ("", "@6077+hipblaslt", "@6077"))
    assert now < tuned < plain
    # RDNA 2 multiplies by its own kernels in all builds.
    assert seconds_of("rx-6800-xt", "@6077") < 2.0 * seconds_of("rx-6800-xt", "")


def test_wide_heads_reach_less_where_matrix_instructions_do_not_take_them() -> None:
    found = kit("llama.cpp", system("rx-7900-xtx").device)
    assert found is not None

    def seconds_of(head: float, fused: bool) -> float:
        return float(reading(found.values, 9e11, 1e14, np.asarray(fused), 1e12, 0.0, 1e6, 512.0, head))

    assert seconds_of(256.0, True) > 1.2 * seconds_of(128.0, True)
    assert seconds_of(256.0, False) == seconds_of(128.0, False)


def test_a_chip_in_the_developers_own_table() -> None:
    """LLaMA 2 7B Q4_0 on an M1 Max decodes 61 tokens a second (ggml-org, llama.cpp discussion 4167)."""
    assert rate("llama-2-7b", "m1-max", 4.54, "q4_0")[0] == pytest.approx(61.0, rel=0.25)


@pytest.mark.parametrize(
    ("machine", "published"),
    [("rtx-4090", 131.0), ("rtx-5090", 222.0), ("m3-max-64gb", 49.0), ("raspberry-pi-5", 2.05)],
)
def test_published_decode_rates_of_8b_in_4_bits(machine: str, published: float) -> None:
    """Reported for Llama 3 and Qwen3 8B in Q4_K_M by users of each machine."""
    assert rate("llama-3.1-8b", machine, 4.9)[0] == pytest.approx(published, rel=0.25)


def test_people_run_llama_cpp_on_their_own_machines() -> None:
    for machine, engine in (("m1-max", "llama.cpp"), ("raspberry-pi-5", "llama.cpp"), ("rx-9070-xt", "llama.cpp"),
                            ("ryzen-9-7950x", "llama.cpp"), ("h100-sxm", "vllm"), ("rtx-4090", "vllm")):  # fmt: skip
        assert Scenario("llama-3.1-8b", machine).resolved().engine == engine
    # Prompts are cut into its micro-batches.
    assert Scenario("llama-3.1-8b", "m1-max").resolved().plan.chunk == 512.0


def test_no_build_reaches_more_than_a_device_has() -> None:
    """Shares are capped after what a build changes, as in the fit, whatever the file's own coefficients are."""
    device = system("ryzen-ai-max-395").device
    for engine in ("llama.cpp", "llama.cpp@5863", "llama.cpp@6077+hipblaslt+rocwmma", "llama.cpp-vulkan@6000"):
        found = kit(engine, device)
        assert found is not None
        assert all(c["memory"] <= 1.0 and c["rate"] <= 1.0 for c in found.classes.values())
        assert found.values["library"] <= 1.0


def test_a_backend_reads_what_its_bandwidth_test_does() -> None:
    """212 GB/s by rocm_bandwidth_test on a chip whose memory carries 256; Vulkan is not held to it."""
    device = system("ryzen-ai-max-395").device
    rocm, vulkan = kit("llama.cpp", device), kit("llama.cpp-vulkan", device)
    assert rocm is not None and vulkan is not None
    assert device.memory.bandwidth * rocm.reads == pytest.approx(212e9, rel=0.005)
    assert vulkan.reads == 1.0
    target = on("ryzen-ai-max-395", "llama.cpp")
    assert reading_at(target, 0.5).memory.bandwidth == target.memory.bandwidth / 2.0
    assert reading_at(target, 0.5).device.cache == target.device.cache
