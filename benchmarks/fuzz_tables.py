"""Tables of measurements for the fuzzer: small valid CSV and Parquet files of every kind, and ways to spoil a cell.

Columns are those that the readers name; the values are made up.
"""

from __future__ import annotations

import copy
import csv
import io
import random
from typing import Any

from fuzz_inputs import HOSTILE

Columns = dict[str, list[Any]]
KINDS = ("ops", "edge", "pixels", "training", "serving", "buffers")


def columns(kind: str) -> list[Columns]:
    """Valid tables of a kind, as columns."""
    return [{name: list(values) for name, values in table.items()} for table in _TABLES[kind]]


_SOURCE: dict[str, tuple[Any, ...]] = {
    "system": ("h100_sxm", "a100_sxm", "l40s"), "engine": ("vllm", "vllm", "trtllm"),
    "version": ("0.14.0", "0.24.0", "1.0.0"), "latency": (0.01, 0.2, 3.5),
}  # fmt: skip
_ATTENTION: dict[str, tuple[Any, ...]] = {
    "batch_size": (1, 32, 4), "isl": (1, 1, 1), "num_heads": (32, 64, 8), "num_key_value_heads": (8, 1, 8),
    "head_dim": (128, 128, 64), "attn_dtype": ("bfloat16", "fp8", "bfloat16"),
    "kv_cache_dtype": ("bfloat16", "fp8", "bfloat16"), "step": (15, 1023, 4095), "window_size": (0, 128, 0),
}  # fmt: skip
_TABLES: dict[str, list[dict[str, tuple[Any, ...]]]] = {
    "ops": [
        _SOURCE | {"kernel_source": ("vllm_default",) * 3, "gemm_dtype": ("bfloat16", "fp8", "nvfp4"),
                   "m": (1, 80, 4096), "n": (768, 4096, 14336), "k": (1024, 4096, 4096)},
        _SOURCE | _ATTENTION | {"kernel_source": ("vllm_flash_attn",) * 3, "beam_width": (1, 1, 1)},
        _SOURCE | {"kernel_source": ("vllm_fused_moe",) * 3, "moe_dtype": ("bfloat16", "fp8", "fp8_block"),
                   "num_tokens": (1, 512, 4096), "hidden_size": (2048, 4096, 7168), "inter_size": (768, 1536, 2048),
                   "topk": (8, 8, 2), "num_experts": (128, 128, 8), "moe_tp_size": (1, 2, 1),
                   "moe_ep_size": (1, 4, 8), "distribution": ("power_law_1.2", "balanced", "power_law_1.01")},
        _SOURCE | {"kernel_source": ("NCCL",) * 3, "op_name": ("all_gather", "all_reduce", "alltoall"),
                   "nccl_dtype": ("half",) * 3, "num_gpus": (2, 4, 8), "message_size": (2048, 1 << 20, 1 << 28)},
        _SOURCE | {"kernel_source": ("x",) * 3, "allreduce_dtype": ("bfloat16",) * 3, "num_gpus": (2, 4, 8),
                   "message_size": (256, 1 << 20, 1 << 24), "backend": ("vllm_eager",) * 3},
        _SOURCE | {"kernel_source": ("FLASH_ATTN_MLA",) * 3, "model": ("deepseek-ai/DeepSeek-V3",) * 3,
                   "mla_dtype": ("bfloat16", "fp8", "bfloat16"), "kv_cache_dtype": ("bfloat16", "fp8", "bfloat16"),
                   "gemm_type": ("fp8_block", "bfloat16", "bfloat16"), "num_heads": (64, 128, 16),
                   "batch_size": (1, 8, 64), "isl": (1, 1, 1), "tp_size": (1, 2, 8), "step": (0, 8192, 100)},
    ],
    "edge": [{"kind": ("llm",) * 3, "device": ("RTX 4090", "Apple M1 Max", "Raspberry Pi 5"),
              "tierwise_device": ("rtx-4090", "", ""), "ndev": (1, 1, 1), "backend": ("CUDA", "Metal", "CPU"),
              "engine": ("llama.cpp b4000", "llama.cpp", "mlx-lm"), "model": ("llama 7B", "Llama 3.1 8B", "qwen2 1.5B"),
              "tierwise_model": ("llama-2-7b", "llama-3.1-8b", ""), "quant": ("Q4_0", "Q4_K_M", "4bit"),
              "bpw": (4.5, 0.0, 4.5), "phase": ("decode", "prefill", "decode"), "value": (150.0, 500.0, 9.0),
              "prompt": (0, 512, 0), "gen": (128, 0, 128), "depth": (0, 0, 4096), "batch": (1, 1, 1),
              "ubatch": (512, 512, 512), "fa": (1, 0, 1), "kv_type": ("", "q8_0", "f16"),
              "power_w": (400.0, 40.0, 8.0)}],
    "pixels": [{"model": ("resnet-50", "vit-base", "resnet-50.a1"), "family": ("resnet", "vit", "resnet"),
                "machine": ("rtx-3090", "a100-sxm-80gb", ""), "framework": ("pytorch-113 cu117", "tensorrt 8", "onnx"),
                "compiler": ("eager", "", "inductor"), "precision": ("amp-fp16", "int8", "fp32"),
                "layout": ("nchw", "nhwc", ""), "phase": ("infer", "infer", "train"), "n_devices": (1, 1, 1),
                "batch": (1024, 1, 8), "img_h": (224, 224, 224), "img_w": (224, 224, 224),
                "throughput_per_s": (3000.0, 0.0, 9.0), "latency_ms": (300.0, 1.5, 0.0)}],
    "training": [
        {"source": ("a",) * 3, "framework": ("nanotron", "megatron", "torchtitan"), "model": ("1B", "gpt", "llama"),
         "gpu": ("h100_sxm", "a100_sxm", "h100_sxm"), "n_gpus": (8, 64, 8), "hidden": (2048, 4096, 4096),
         "layers": (16, 32, 32), "heads": (32, 32, 32), "kv_heads": (32, 32, 8), "ffn": (8192, 16384, 14336),
         "vocab": (131072, 51200, 128256), "experts": (0, 0, 8), "topk": (0, 0, 2), "tied": (1, 1, 0), "tp": (1, 8, 1),
         "pp": (2, 4, 1), "vp": (1, 2, 1), "cp": (1, 1, 1), "ep": (1, 1, 1), "dp": (4, 2, 8), "zero_stage": (1, 0, 3),
         "gbs": (256, 64, 8), "mbs": (4, 1, 1), "seq": (4096, 2048, 8192), "precision": ("bf16", "fp16", "fp8"),
         "recompute": ("none", "full", "selective"), "flags": ("flash-attn 2", "", ""), "status": ("ok", "ok", "oom"),
         "iter_s": (3.4, 9.0, 0.0), "tokens_s_gpu": (38895.0, 0.0, 0.0), "peak_mem_gb": (41.8, 0.0, 0.0),
         "mem_kind": ("allocated, first stage", "reserved", "")},
        {"# GPUs": (2, 8), "global batch": (16, 4), "micro batch": (8, 1), "hidden size": (1024, 1024),
         "attention heads": (16, 16), "# layers": (24, 16), "sequence length": (1024, 1024),
         "tensor parallelism": (1, 1), "data parallelism": (1, 2), "pipeline parallelism": (2, 4),
         "iteration time (ms)": (372.16, 77.2)},
    ],
    "serving": [{"id": ("a", "b"), "silicon_data_source": ("x; silicon_concurrency=4; measured=2026-04-18",) * 2,
                 "backend": ("vllm", "trtllm"), "backend_version": ("0.14.0", "1.1.0"),
                 "model_path": ("meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-V3"),
                 "system": ("h100_sxm", "h200_sxm"), "precision": ("bf16", "fp8"), "mode": ("agg", "disagg"),
                 "isl": (1024, 1000), "osl": (1024, 100), "gemm_quant_mode": ("bfloat16", "fp8_block"),
                 "moe_quant_mode": ("", "fp8_block"), "concurrency": (4, 64), "batch_size": (4, ""),
                 "tp_size": (1, ""), "pp_size": (1, ""), "attention_dp_size": (1, ""), "moe_tp_size": (1, ""),
                 "moe_ep_size": (1, ""), "prefill_batch_size": ("", 1), "prefill_num_workers": ("", 1),
                 "prefill_tp_size": ("", 8), "prefill_pp_size": ("", 1), "prefill_attention_dp_size": ("", 1),
                 "prefill_moe_tp_size": ("", 1), "prefill_moe_ep_size": ("", 8), "decode_batch_size": ("", 8),
                 "decode_num_workers": ("", 1), "decode_tp_size": ("", 1), "decode_pp_size": ("", 1),
                 "decode_attention_dp_size": ("", 8), "decode_moe_tp_size": ("", 1), "decode_moe_ep_size": ("", 8),
                 "silicon_ttft_ms": (195.5, 300.0), "silicon_tpot_ms": (5.3, 20.0)}],
    "buffers": [{"id": ("a", "b", "c", "d"), "lower": (0, 0, 2, 1), "upper": (3, 2, 5, 4), "size": (4, 8, 4, 2)}],
}  # fmt: skip


def tables(kind: str) -> list[bytes]:
    """Valid files of a kind: every table as CSV, and as Parquet where such files are read."""
    return [write(table, parquet) for table in columns(kind)
            for parquet in ((False,) if kind in ("serving", "buffers") else (False, True))]  # fmt: skip


def write(table: Columns, parquet: bool) -> bytes:
    """The columns as a file; those of mixed types are text in Parquet."""
    if not parquet:
        text = io.StringIO()
        out = csv.writer(text, lineterminator="\n")
        out.writerow(table)
        out.writerows(zip(*table.values(), strict=True))
        return text.getvalue().encode("utf-8", "surrogatepass")
    import pyarrow
    import pyarrow.parquet

    held = {}
    for name, values in table.items():
        try:
            held[name] = pyarrow.array(values)
        except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
            held[name] = pyarrow.array([repr(v).encode("ascii", "replace").decode() for v in values])
    sink = io.BytesIO()
    try:
        pyarrow.parquet.write_table(pyarrow.table(held), sink)
    except pyarrow.ArrowException:  # such as a struct without a field
        sink = io.BytesIO()
        text = {name: [repr(v).encode("ascii", "replace").decode() for v in values] for name, values in table.items()}
        pyarrow.parquet.write_table(pyarrow.table(text), sink)
    return sink.getvalue()


def spoiled(data: bytes, rng: random.Random) -> bytes | None:
    """The table with cells and columns changed; None for what is no valid table any more."""
    parquet = data[:4] == b"PAR1"
    try:
        table = _read(data, parquet)
    except Exception:
        return None
    if not table or not all(len(v) == len(next(iter(table.values()))) for v in table.values()):
        return None
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(list(table))
        what, values = rng.random(), table[name]
        if what < 0.70 and values:
            values[rng.randrange(len(values))] = _cell(rng)
        elif what < 0.80:
            table[name] = [_cell(rng)] * len(values)
        elif what < 0.86 and len(table) > 1:
            del table[name]
        elif what < 0.92:
            table[rng.choice(("", "x" * 300, *table))] = table.pop(name)
        else:
            again = rng.choice((1, 30))
            for held in table.values():
                held.extend(held[-1:] * again)
    return write(table, parquet)


def _cell(rng: random.Random) -> Any:
    usual = ("h100_sxm", "fp8", "8", "1e5", "nan", "inf", "-inf", '"', "agg", "decode", 7, 64, 1e6)
    return copy.deepcopy(rng.choice((*HOSTILE, *usual)))


def _read(data: bytes, parquet: bool) -> Columns:
    if parquet:
        import pyarrow.parquet

        found: Columns = pyarrow.parquet.read_table(io.BytesIO(data)).to_pydict()
        return found
    head, *rows = list(csv.reader(io.StringIO(data.decode("utf-8", "surrogatepass"))))
    return {name: [row[i] for row in rows] for i, name in enumerate(head)}
