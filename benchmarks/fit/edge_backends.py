"""What each file of cost/own_kernels is fitted to: engines, devices, and where coefficients start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from benchmarks.fit.edge_table import CLASSES

from tierwise.cost.kits import Kit
from tierwise.measure.edge import GroupWork

# Kernels of an op, counted in llama.cpp's graphs (src/llama-graph.cpp) and backends: a product also quantizes its
# input; a norm is two kernels, with the addition of the residual three; rope and cache four; experts three products,
# their activation, weighting and sum; of DeepSeek-V4 (src/models/deepseek4.cpp, with its fused ops) a mix of
# hyper-connections twelve, a pooled entry twenty.
KERNELS = {"matmul": 1.5, "moe": 8.0, "norm": 3.0, "rope_cache": 4.0, "attention": 4.0, "flash": 1.5, "act": 1.0,
           "topk": 5.0, "scan": 3.0, "embedding": 1.0, "elementwise": 1.0, "sample": 1.0,
           "mix": 12.0, "pool": 20.0}  # fmt: skip
CLASS = {"memory": 0.9, "work": 8.0, "mac": 4.0, "rate": 0.2, "pad": 16.0}
VALUES = {"gap": 3e-6, "step": 2e-4, "acts": 0.5, "experts": 1.2, "grouped": 1.2, "kv_flash": 0.6, "kv_plain": 0.5,
          "kv_work_flash": 2.0, "kv_work_plain": 2.0, "attn_flash": 0.3, "attn_plain": 0.2, "scan": 0.1,
          "sync": 3e-5, "link": 0.25, "stages": 0.75, "acts_work": 5.0, "kv_tile": 64.0,
          "flight": 3.2e3, "scores": 0.5, "wide": 1.0, "library": 0.0, "fill": 0.5, "unpack": 0.0, "apart": 0.0,
          "alone": 0.0, "again": 0.0, "streamed": 0.0, "serial": 0.0}  # fmt: skip
# Not fitted: copies between cards without peer access pass the host's memory, so two of them share the link, each at
# half of its rate.
# Nor kernels of each product of an expert that is multiplied by itself: on GPUs now one kernel multiplies all.
# How tiles are walked is read off the kernels, too.
FIXED = ("link", "apart", "alone", "again", "streamed", "serial")
MOST = {"memory": 0.97, "rate": 0.95, "kv_flash": 0.95, "kv_plain": 0.95, "attn_flash": 0.9, "attn_plain": 0.9,
        "library": 0.95}


# What a change may be fitted in.
RATES = ("shared/rate", "classes/f16/rate", "classes/bf16/rate")
OLDER = ("values/gap", "values/attn_plain", "shared/memory", *RATES)


@dataclass(frozen=True)
class Change:
    """What is different in builds before one, on some families of devices, or with an option of the build; all that
    match apply, in order.

    Attributes:
        fitted: coefficients with a factor of their own: ``values/NAME``, ``classes/CLASS/NAME``, ``shared/NAME`` (all
            quantized formats).
        values: in place of the usual. ``times``: a factor on the share of the peak that products reach, from elsewhere.
    """

    before: float = np.inf
    families: tuple[str, ...] = ()
    option: str = ""
    fitted: tuple[str, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    times: float = 1.0

    def applies(self, build: float, family: str, options: frozenset[str]) -> bool:
        # A build that is not stated is the newest, which is before nothing, and has what all builds have.
        in_time = build < self.before or np.isinf(self.before)
        return bool(in_time) and (not self.families or family in self.families) and self.option in ("", *options)


@dataclass(frozen=True)
class Backend:
    """What one file is fitted to.

    Attributes:
        engines, runs_on, peaks: as in the file. ``keep``: its rows.
        values, classes: where coefficients start that differ from the usual. ``like``: the backend whose fit they start
            from instead.
        still: coefficients that are not fitted: processors' prompts are too few to tell moving from multiplying.
        changes: what is different by build, family and option.
        reads: what the backend's own bandwidth test reads of the memory's bandwidth, by family, where that is known.
    """

    engines: tuple[str, ...]
    runs_on: dict[str, list[str]]
    keep: Callable[[GroupWork], bool]
    peaks: dict[str, str]
    values: dict[str, float] = field(default_factory=dict)
    classes: dict[str, dict[str, float]] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    like: str = ""
    still: tuple[str, ...] = ()
    reads: Mapping[str, float] = field(default_factory=dict)


def _engine(w: GroupWork) -> str:
    return w.group.engine.partition("@")[0]


def _kind(w: GroupWork) -> str:
    return w.group.machine.device.kind


def _vendor(w: GroupWork) -> str:
    return w.group.machine.device.vendor


# Half-precision products accumulate in half precision (cublasGemmEx, COMPUTE_16F), which cards that halve the rate of
# fp32 accumulation run at half of int8, as the others do. Those in bf16 have no such kernels.
INT8 = {**dict.fromkeys(CLASSES, "int8"), "bf16": "fp16"}
# ROCm and Vulkan multiply on 16-bit matrix instructions (rocBLAS, cooperative matrices; int8 ones reach no more), and
# by int8 dot products where a device has none.
MATRIX = dict.fromkeys(CLASSES, "matrix")
FP16 = dict.fromkeys(CLASSES, "fp16")
# Not on matrix units (AMX): llama.cpp multiplies experts and repacked weights on vector units (ggml-cpu/amx has no
# MUL_MAT_ID), ik_llama.cpp all; both on vectors of 256 bits (ggml-cpu/arch/x86/quants.c: AVX2; ik_llama.cpp pull
# request 710: AVX-512 since August 2025).
CPU = {**dict.fromkeys(CLASSES, "dot256"), "f16": "fp32", "bf16": "fp32"}
MOVES = ("acts", "acts_work", "scores", "flight", "fill")
SLOW = {c: {"memory": 0.7, "work": 0.5, "mac": 1.0, "pad": 1.0} for c in CLASSES}
# mma instructions, which these kernels use, reach 62.9 % of the peak of Hopper: luo2024.
HOPPER = Change(families=("hopper",), times=0.629)
# Cards with tensor cores for fp16.
TENSOR = ("volta", "turing", "ampere", "ampere-gx", "ada", "hopper")
# Intel's cards before Xe2: neither cooperative matrices nor, under Windows, int8 dot products (pull requests 14001 and
# 24404).
ALCHEMIST = Change(families=("xe-hpg",), fitted=("shared/rate", "shared/work", "shared/memory", "values/experts"))

# Before one kernel multiplied all experts of a step (pull request 13199, opened the day before build 5228 was current:
# issue 13211), each expert's part of a product was five commands: a counter set to zero, its rows gathered, quantized,
# multiplied and scattered (pull request 6505); of a single token, which has its own kernel since pull request 13014,
# two.
ONE_BY_ONE = (Change(before=5230, values={"apart": 5.0}), Change(before=5170, values={"alone": 2.0}))

BACKENDS = {
    "cuda": Backend(
        ("llama.cpp",),
        {"kinds": ["gpu", "soc"], "vendors": ["nvidia"]},
        lambda w: _engine(w) == "llama.cpp" and _vendor(w) == "NVIDIA",
        INT8,
        classes={"f16": {"rate": 0.4}, "bf16": {"rate": 0.4}},
        # Integer products (ggml-cuda/mmq.cuh) load a tile, wait for all threads, multiply and wait, with room for one
        # block on a unit; each walks along the tiles of its own columns (stream-k), until the depth they share is done.
        values={"fill": 0.0, "again": 1.0, "streamed": 1.0, "serial": 1.0},
        still=("fill",),
        # Norms with what scales and adds to them became one kernel from July to September 2025 (pull requests 14800,
        # 15631, 15715), choosing experts, gates and biases with products by the end of October (16130, 16715).
        changes=(HOPPER, Change(before=6860, fitted=("values/gap",)), Change(before=6341, fitted=("values/gap",)),
                 # With the depth cut, a kernel more sums the parts of tiles (ggml-cuda/mmq.cuh, stream_k_fixup).
                 *ONE_BY_ONE, Change(before=5230, values={"apart": 6.0}),
                 # Until products of quantized weights had kernels for int8 tensor cores (pull requests 7676 and 7860)
                 # and these were the default (8075, of 23 June 2024), those of more rows than 32 were expanded to fp16
                 # for cuBLAS on Volta and later (3776).
                 # Tiles are cut along the depth to fill the last wave since then too (stream-k: 8018).
                 Change(before=3210, values={"fill": 0.5, "streamed": 0.0, "apart": 5.0}, fitted=("values/fill",)),
                 Change(before=3210, families=TENSOR, values={"library": 0.3}, fitted=("values/library",)),
                 # Expanding read and wrote every weight twice, of one thread each, until January 2024 (4809; 4938).
                 Change(before=2000, values={"unpack": 200.0}, fitted=(*OLDER, "values/unpack"))),
    ),
    "metal": Backend(
        ("llama.cpp",),
        {"kinds": ["gpu", "soc"], "vendors": ["apple"]},
        lambda w: _engine(w) == "llama.cpp" and _vendor(w) == "Apple" and _kind(w) != "cpu",
        FP16,
        classes={c: {"work": 8.0, "rate": 0.65} for c in CLASSES},
        changes=(Change(families=("apple-gpu-9",), fitted=("shared/work", *RATES)), Change(before=1200, fitted=OLDER)),
        values={"flight": 1e5},
        still=("flight",),
    ),
    "rocm": Backend(
        ("llama.cpp",),
        {"kinds": ["gpu", "soc"], "vendors": ["amd"]},
        lambda w: _engine(w) == "llama.cpp" and _vendor(w) == "AMD" and _kind(w) != "cpu",
        MATRIX,
        # Flash attention of heads wider than 128 is left to the vector units (pull requests 24562 and 26419).
        # Tiles are not cut along the depth to fill the last wave (stream-k), and steps are not replayed as graphs
        # (GGML_HIP_GRAPHS is off by default), as they are on NVIDIA's, whose flash attention is another one.
        values={"streamed": 0.0, "wide": 0.5, "fill": 0.5, "gap": VALUES["gap"], "attn_flash": VALUES["attn_flash"]},
        changes=(
            *ONE_BY_ONE,
            Change(families=("rdna4",), fitted=("shared/work", *RATES)),
            # Tiles of products are chosen by generation (pull requests 26284, 28935).
            Change(families=("rdna3-5",), fitted=RATES),
            # Until there were kernels for WMMA (pull requests 17156 and 17576, December 2025), products of more than 64
            # rows were expanded to fp16 for rocBLAS on RDNA 3 and later, and flash attention was left to vector units,
            # but for builds with rocWMMA (pull request 12032). Flash attention reached 1.5 and 1.6 % of a gfx1100's
            # peak (issue 10439: prompts of 8 and 16 sequences of 72B, over those of one).
            Change(before=7200, fitted=(*OLDER, "values/grouped", "values/attn_flash"), values={"attn_flash": 0.016}),
            Change(before=7200, families=("rdna3", "rdna3-5", "rdna4"), fitted=("values/library",),
                   values={"library": 0.3}),
            Change(before=7200, option="rocwmma", fitted=("values/attn_flash",), values={"attn_flash": 0.2}),
            # What its kernels for gfx1151 reach of 36.9 TFLOP/s at 2,048, which is as many FLOP as a usual product of a
            # micro-batch: 6.07 by rocBLAS's own (ROCm issue 4748), 32.1 by those of hipBLASLt (ROCm issue 4566).
            Change(before=7200, families=("rdna3-5",), values={"library": 0.164}, fitted=("values/library",)),
            Change(before=7200, families=("rdna3-5",), option="hipblaslt", values={"library": 0.87},
                   fitted=("values/library",)),
        ),
        like="cuda",
        still=("flight",),
        # 212 of 256 GB/s by rocm_bandwidth_test on a Ryzen AI Max+ 395 (r/LocalLLaMA, Strix Halo LLM GPU benchmarks).
        reads={"rdna3-5": 0.828},
    ),
    "vulkan": Backend(
        # Intel's cards, for whose own backend (SYCL) there are no rows, are taken to run on Vulkan.
        ("llama.cpp-vulkan", "llama.cpp"),
        {"kinds": ["gpu", "soc"]},
        lambda w: _engine(w) == "llama.cpp-vulkan" and _kind(w) != "cpu",
        # Few drivers have cooperative matrices in bf16; without them it is fp32 on the vector units.
        {**MATRIX, "bf16": "fp32"},
        # Matrix products were tuned for AMD (pull request 18749), experts' preprocessed (18352), end of 2025.
        # Cooperative matrices are one kernel for all, tuned on NVIDIA's first.
        changes=(ALCHEMIST, Change(families=("rdna3", "rdna3-5", "rdna4"), fitted=("shared/rate", "values/attn_flash")),
                 Change(before=7500, fitted=(*OLDER, "values/attn_flash")),
                 # Experts on NVIDIA's own matrices were reworked then (pull requests 15546, 18332).
                 Change(before=7500, families=("turing", "ampere-gx", "ada", "blackwell-gx"),
                        fitted=("values/grouped",))),
        # By matrices of fp16 on vector units: 921 tokens a second of 8B on an RX 6800 XT (pull request 12135).
        classes={"bf16": {"rate": 0.7}},
        # Commands are recorded anew for every step; flash attention is a shader of its own.
        # Its tiles are smaller, so that several groups on a unit hide each other's reading (ggml-vulkan.cpp), and all
        # columns come first.
        values={"gap": VALUES["gap"], "attn_flash": VALUES["attn_flash"], "fill": VALUES["fill"], "streamed": 0.0,
                "serial": 0.0},
        like="cuda",
        still=("flight",),
    ),
    "processors": Backend(
        ("llama.cpp",),
        {"kinds": ["cpu", "soc", "mcu"]},
        lambda w: _engine(w) == "llama.cpp" and _kind(w) == "cpu",
        CPU,
        # Threads meet once before all experts of a product (ggml-cpu.c, ggml_compute_forward_mul_mat_id), so those of
        # one token do not start one after the other; of a prompt each is multiplied by its own rows.
        {"gap": 4e-6, "flight": 1e6, "acts": 0.5, "kv_work_flash": 0.5, "kv_work_plain": 0.5, "apart": 1.0,
         "fill": 0.0},
        SLOW,
        # On macOS prompts were multiplied by Apple's library on the matrix coprocessor, of weights expanded to fp32
        # (Makefile: Accelerate, unless turned off).
        changes=(Change(before=2700, fitted=OLDER),
                 Change(before=2700, families=("apple-cpu",), values={"library": 0.25}, fitted=("values/library",))),
        still=MOVES,
    ),
    "ik-processors": Backend(
        ("ik_llama.cpp",),
        {"kinds": ["cpu", "soc", "mcu"]},
        lambda w: _engine(w) == "ik_llama.cpp" and _kind(w) == "cpu",
        CPU,
        like="processors",
        still=MOVES,
    ),
    "neural": Backend(
        # Integer products of whole layers at once: no kernels for few rows, no weights expanded by vector units.
        ("qairt", "rkllm"),
        {"kinds": ["npu"]},
        lambda w: _engine(w) in ("qairt", "rkllm"),
        dict.fromkeys(CLASSES, "int8"),
        {"gap": 1e-5, "step": 2e-3, "acts": 0.5, "flight": 1e9, "acts_work": 0.0, "fill": 0.0},
        {c: {"memory": 0.7, "work": 0.0, "mac": 0.0, "rate": 0.5, "pad": 1.0} for c in CLASSES},
        changes=(Change(option="float", fitted=("values/step", "shared/memory", "shared/rate")),),
        still=("acts", "acts_work", "scores", "flight", "kv_work_flash", "kv_work_plain", "kv_plain", "attn_plain",
               "scan", "experts", "grouped", "sync", "stages", "kv_tile", "fill"),
    ),
    "mlx": Backend(
        ("mlx",),
        {"kinds": ["gpu", "soc"], "vendors": ["apple"]},
        lambda w: _engine(w) == "mlx",
        FP16,
        values={"flight": 1e5},
        still=("flight",),
    ),
}


def first(name: str, b: Backend, known: Mapping[str, Kit] | None = None) -> Kit:
    """Coefficients before any fit: those of the backend it is like, where that was fitted."""
    if known and b.like in known:
        start = known[b.like]
        # A share of what int8 instructions do is twice that share of 16-bit ones.
        classes = {c: {**v, "rate": v["rate"] * (2.0 if (start.peaks[c], b.peaks[c]) == ("int8", "matrix") else 1.0)}
                   for c, v in start.classes.items()}  # fmt: skip
        for c, own in b.classes.items():
            classes[c] |= own
        return replace(start, name=name, peaks=b.peaks, values={**VALUES, **start.values, **b.values}, classes=classes)
    classes = {c: {**CLASS, **b.classes.get(c, {})} for c in CLASSES}
    return Kit(name, {**VALUES, **b.values}, classes, b.peaks, KERNELS, {}, frozenset(), "")
