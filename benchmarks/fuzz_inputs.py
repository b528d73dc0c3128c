"""What the fuzzer feeds: small valid inputs of every kind that is read, and ways to spoil them.

An input is the bytes of one file (or the words of one command line, as JSON); a *target* says how it is read. Seeds are
made here from public schemas; the catalog's own configurations and machines are seeds too.
"""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
for folder in (ROOT, ROOT / "tests" / "importers"):
    sys.path.insert(0, str(folder))

CATALOG = ROOT / "src" / "tierwise"
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 0.5, -0.0, 3.7, 1e-300, 1e15, 1e99, 1e308, 2**31, 2**53, 2**63, 2**64, -(2**63),
    10**30, 10**400, float("nan"), float("inf"), float("-inf"), "", " ", "x", "0", "-1", "1e99", "nan", "ü\ud800\x00",
    "a" * 5000, "../../etc", "llama", "float16", [], {}, [[]], [None], [1, 2, 3], ["a"], {"a": 1}, {"": None},
)  # fmt: skip
WORDS = ("0", "-1", "1", "3", "1e99", "1e-99", "nan", "inf", "-inf", "2k", "1M", "999999999999", "9" * 400, "", " ",
         "x", "max", "auto", "fp8", "int4-g" + "9" * 300, "nvfp4", "500", "40ms", "1h", "4/s", "0/s", "1e99/s", "-",
         "/", ".",
         "lognormal:mean=1e300,cv=1", "uniform:low=0,high=1e300", "closed:concurrency=1e300", "gamma:cv=0", "a=b,c",
         "ü", "\x00", "tp=0", "tp=2,pp=1e9", "quantize_kv:bits=0,group=0", "quantize_kv:bits=1e9", "prune:fraction=2",
         "0xh100-sxm", "9" * 30 + "xh100-sxm", "cpu", "h100-sxm", "8xh100-sxm", "llama-3.1-8b", "poisson", "--",
         "-h")  # fmt: skip


YAML = ("machine", "chip", "scenario", "saved", "played", "corrections")

# ------------------------------------------------------------------ seeds


@cache
def seeds(target: str) -> tuple[bytes, ...]:
    """Valid inputs of a target."""
    from fuzz_tables import KINDS, tables

    made: dict[str, Callable[[], list[bytes]]] = {
        **{f"table-{kind}": partial(tables, kind) for kind in KINDS},
        "config": _configs, "gguf": _gguf, "safetensors": _safetensors, "index": _index, "onnx": _onnx,
        "machine": _machines, "scenario": _scenarios, "trace": _traces, "run": _traces, "meta": _metas,
        "recording": _recordings, "command": _commands, "explain": _configs, "chip": _machines,
        "saved": _saved, "played": _saved, "corrections": _corrections,
    }  # fmt: skip
    return tuple(made[target]())


def _configs() -> list[bytes]:
    entries = [json.loads(p.read_text()) for p in sorted((CATALOG / "models" / "catalog").glob("*.json"))]
    quantized = {"quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"],
                 "config_groups": {"group_0": {"targets": ["Linear"],
                                               "weights": {"num_bits": 4, "group_size": 128}}}}  # fmt: skip
    llama = next(e["config"] for e in entries if e["config"].get("model_type") == "llama")
    more = [llama | {"quantization_config": q} for q in (
        quantized, {"quant_method": "fp8", "weight_block_size": [128, 128]}, {"quant_method": "awq", "bits": 4},
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"-:.*mlp.*": {}}})]  # fmt: skip
    return [json.dumps(x).encode() for x in (*(e["config"] for e in entries), *more)]


def _gguf() -> list[bytes]:
    from gguf_writer import DENSE, ends, experts, ffn, gguf, gqa, layers, llama, meta

    metadata, tensors = llama()
    small = metadata | {"tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.scores": [0.5]}
    moe = meta("qwen3moe", **DENSE, expert_count=4, expert_used_count=2, expert_feed_forward_length=256)
    return [gguf(small, tensors), gguf(meta("qwen2", **DENSE), ends() | layers(gqa(bias=True) | ffn())),
            gguf(moe, ends() | layers(gqa() | experts(4, 256)))]  # fmt: skip


def _safetensors() -> list[bytes]:
    shape = {"q_proj": [64, 64], "k_proj": [32, 64], "v_proj": [32, 64], "o_proj": [64, 64]}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    names = {f"model.layers.0.self_attn.{n}.weight": s for n, s in shape.items()}
    names |= {"model.embed_tokens.weight": [320, 64], "lm_head.weight": [320, 64], "model.norm.weight": [64],
              "model.layers.0.mlp.gate_proj.weight": [192, 64], "model.layers.0.mlp.up_proj.weight": [192, 64],
              "model.layers.0.mlp.down_proj.weight": [64, 192]}  # fmt: skip
    for name, dims in names.items():
        size = 2 * (dims[0] * dims[1] if len(dims) == 2 else dims[0])
        header[name] = {"dtype": "BF16", "shape": dims, "data_offsets": [at, at + size]}
        at += size
    return [packed(header) + bytes(at)]


def packed(header: Any) -> bytes:
    """A safetensors file's beginning."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def _index() -> list[bytes]:
    return [json.dumps({"metadata": {"total_size": 10}, "weight_map": {"model.norm.weight": "a.safetensors"}}).encode()]


def _onnx() -> list[bytes]:
    try:
        import numpy as np
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return []
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    weights = {"w": (4, 3, 3, 3), "b": (4,), "fc": (4, 4), "shape": None}
    held = [numpy_helper.from_array(np.zeros(s, np.float32), n) for n, s in weights.items() if s]
    held.append(numpy_helper.from_array(np.array([0, -1], np.int64), "shape"))
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
             helper.make_node("Relu", ["c"], ["r"]), helper.make_node("GlobalAveragePool", ["r"], ["g"]),
             helper.make_node("Reshape", ["g", "shape"], ["f"]), helper.make_node("MatMul", ["f", "fc"], ["m"]),
             helper.make_node("Softmax", ["m"], ["y"])]  # fmt: skip
    model = helper.make_model(helper.make_graph(nodes, "g", [image], [out], held))
    return [model.SerializeToString()]


def _machines() -> list[bytes]:
    files = sorted((CATALOG / "machines" / "catalog").glob("*.yaml"))
    return [p.read_bytes() for p in files]


def _scenarios() -> list[bytes]:
    import yaml

    base = {"schema": "tierwise.scenario/1", "model": "llama-3.2-1b", "machine": "h100-sxm",
            "traffic": {"prompt": 512, "output": 16, "batch": 4}, "plan": {"tp": 1, "weights": "fp8"},
            "techniques": ["quantize_kv:bits=4,group=64"], "serving": {"max_seqs": 64},
            "targets": {"ttft": 0.5}}  # fmt: skip
    return [yaml.safe_dump(base).encode(), json.dumps(base).encode()]


def _saved() -> list[bytes]:
    """Scenarios as ``--save`` of simulate, explain and plan writes them."""
    import yaml

    base = {"schema": "tierwise.scenario/1", "model": "llama-3.2-1b", "machine": "2xl4"}
    forms = (
        {"traffic": {"prompt": 512, "output": 16, "batch": 4}, "plan": {"tp": 2, "weights": "fp8"}, "engine": "vllm"},
        {"traffic": {"prompt": 100.0, "output": 8.0, "rate": 2.0, "requests": 20, "batch": 64},
         "plan": {"tp": 1}, "engine": "vllm",
         "serving": {"router": "round_robin", "max_seqs": 64, "tokens": 2048, "max_len": 4096, "memory": 0.9,
                     "prefix_cache": True, "replicas": 2, "draft": 3, "accept": 0.7},
         "targets": {"ttft": 0.5, "tpot": 0.05}},
        {"traffic": {"prompt": 100, "output": 8, "concurrency": 4, "requests": 20}, "plan": {"tp": 1},
         "serving": {"prefill_replicas": 1, "decode_replicas": 1, "prefill_plan": "tp=1,pp=1,dp=1,ep=1"}},
    )  # fmt: skip
    return [yaml.safe_dump(base | form, sort_keys=False).encode() for form in forms]


def _corrections() -> list[bytes]:
    """What ``calibrate --from-run`` writes."""
    import yaml

    numbers = {"arithmetic": 0.9, "bandwidth": 0.95, "gap": 0.001, "request": 0.002, "ops": 1.1, "link": 0.8,
               "basis": "calibrated", "source": "a run", "interval": [0.9, 1.2]}  # fmt: skip
    return [yaml.safe_dump({"about": {"run": "a"}, "adjustment": numbers}).encode()]


def _rows(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def _traces() -> list[bytes]:
    from tests.measure.test_load_generators import FILES, aiperf, sglang

    two = range(2)
    return [
        *(json.dumps(data).encode() for data in FILES.values()), _rows(aiperf()), _rows(sglang()),
        _rows([{"timestamp": i, "input_length": 700, "output_length": 5, "hash_ids": [0, i]} for i in two]),
        _rows([{"session_id": "a", "delay": 5, "input_length": 7, "output_length": 5} for i in two]),
        _rows([{"chat_id": i, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 32, "output_length": 5, "turn": 1,
                "hash_ids": [1, 2]} for i in two]),
        _rows([{"arrival_time_ns": 5, "input_toks": 3, "output_toks": 2, "input_tok_ids": [1, 2, 3]} for i in two]),
        _rows([{"arrival_time_ns": 5,
                "sub_requests": [{"input_toks": 3, "output_toks": 2, "tool_duration_ns": 9}] * 2}]),
        _rows([{"arrival_time": 5, "input_toks": 3, "output_toks": 2} for i in two]),
        _rows([{"arrival": i, "prompt": 3, "output": 2, "session": "a", "think": 1, "tenant": "t"} for i in two]),
        json.dumps([{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]}]).encode(),
        json.dumps([{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]},
                                  {"role": "assistant", "content": "b"}]}]).encode(),
        _rows([{"prompt": "hello", "output_tokens": 5} for i in two]),
        b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n2024-05-10 00:00:00+00:00,8,5\n",
        b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type,Session ID,Elapsed time\n"
        b"5,ChatGPT,472,18,490,Conversation log,a,3\n45,GPT-4,1087,230,1317,API log,,4\n",
        b"arrival,prompt,output,tenant,priority,after,think,samples,adapter,blocks_16\n0,32,2,a,1,-1,0,1,-1,1 2\n"
        b"1,64,2,b,0,0,3.5,2,0,1 2 3 4\n",
        b"arrived_at;num_prefill_tokens;num_decode_tokens\n0.5;10;5\n1.5;20;6\n",
    ]  # fmt: skip


def _metas() -> list[bytes]:
    kwargs = {"tensor_parallel_size": 2, "max_num_seqs": 16, "block_size": 16, "gpu_memory_utilization": 0.9,
              "max_model_len": 4096, "kv_cache_dtype": "fp8", "enable_expert_parallel": False,
              "data_parallel_size": 1}  # fmt: skip
    return [json.dumps({"model": "llama-3.1-8b", "engine": "vllm", "closed_loop": 0, "engine_kwargs": kwargs,
                        "hardware": {"gpus": [{"name": "NVIDIA H100 80GB HBM3"}], "count": 2}}).encode()]  # fmt: skip


def _recordings() -> list[bytes]:
    return [_rows([{"arrival_time": 1.7e9 + i, "input_toks": 10, "output_toks": 5, "queued_ts": 3600.0 + i,
                    "scheduled_ts": 3600.0 + i, "first_token_ts": 3601.0 + i, "last_token_ts": 3602.0 + i}
                   for i in range(3)])]  # fmt: skip


def _commands() -> list[bytes]:
    lines = (
        "explain llama-3.2-1b --on h100-sxm --batch 4 --prompt 512 --output 16 --tp 1 --kv fp8 --weights int4-g128",
        "explain whisper-large-v3 --on l4 --batch 2", "explain qwen3-30b-a3b --on 4xh100-sxm --ep 4 --chunk 512",
        "explain resnet-50 --on raspberry-pi-5 --batch 8 --images 0 --image-size 224",
        "explain llama-3.2-1b --on rtx-4090 --engine vllm --technique quantize_kv:bits=2,group=32 --ops 3 --json -",
        "traffic --requests 50 --arrivals poisson:rate=3 --prompt lognormal:mean=1000,cv=1 --output 20 --turns 2",
        "traffic --requests 20 --search width=4,keep=2,depth=3,step=64 --seed 3 --rate-scale 2 --limit 10",
        "machines h100-sxm", "models", "models llama-3.1-8b --json", "papers run kivi --jobs 1", "papers --json",
        "calibrate -o m.yaml --quick --threads 1 --clock cpu --engine numpy --no-disk",
        "techniques quantize_kv", "validate run nowhere --on l4",
        "observe --url http://127.0.0.1:1 --rate 0/s",
        "fit llama-3.2-1b --vram 8GB --quant q4_k_m --context 4096",
        "fit llama-3.1-8b --on raspberry-pi-5 --quant iq4_xs --json -",
        "plan serve llama-3.2-1b --on 2xl4 --rate 1/s --prompt 512 --output 16 --ttft 500ms --tpot 40ms --no-confirm",
        "plan serve llama-3.2-1b --on l4 --concurrency 8 --statistic p99 --no-confirm --out files --save s.yaml",
        "plan serve llama-3.2-1b --on l4 --engine sglang --objective latency --budget 4/h --no-confirm --html p.html",
        "plan train llama-3.2-1b --on 8xh100-sxm --global-batch 64 --seq 2048 --zero 1 --recompute full --out files",
        "plan finetune llama-3.2-1b --on rtx-4090 --method qlora:r=16 --seq 512 --trainer fsdp --json -",
        "explain llama-3.2-1b --on 8xh100-sxm --train --tp 2 --pp 2 --micro-batch 1 --global-batch 16 --seq 1024",
        "explain llama-3.2-1b --on h100-sxm --save s.yaml --html r.html --trace-out t.json",
        "simulate llama-3.2-1b --on l4 --rate 2/s --requests 10 --prompt 100 --output 4 --ttft 1s --save s.yaml",
        "simulate llama-3.2-1b --on 2xl4 --concurrency 4 --requests 10 --output 4 --scheduler chunked --replicas 2",
        "allocate buffers.csv --capacity 16 --time 1s --out offsets.csv --json -",
        "validate ops nowhere.parquet", "validate training nowhere.csv --json -", "traffic --json x",
    )  # fmt: skip
    words = [line.split() for line in lines]
    words.append(["compare", "llama-3.2-1b --on l4 --batch 2", "... --kv fp8", "--json", "-"])
    return [json.dumps(line).encode() for line in words]


# ------------------------------------------------------------------ mutations


def mutate(target: str, data: bytes, rng: random.Random) -> bytes:
    """A spoiled copy: one to three changes, of the text's tree where there is one, else of its bytes."""
    try:
        return _mutated(target, data, rng)
    except (RecursionError, OverflowError):  # what came out cannot be written down
        return _bytes(data, rng)


def _mutated(target: str, data: bytes, rng: random.Random) -> bytes:
    if target == "command":
        return json.dumps(_words(json.loads(data), rng)).encode()
    if target == "safetensors" and rng.random() < 0.7:
        length = int.from_bytes(data[:8], "little")
        text = _dumped(_tree(json.loads(data[8 : 8 + length]), rng), rng)
        return len(text).to_bytes(8, "little") + text + data[8 + length :]
    if target.startswith("table-") and rng.random() < 0.8:
        from fuzz_tables import spoiled

        table = spoiled(data, rng)
        return _bytes(data, rng) if table is None else table
    if target in YAML and rng.random() < 0.7:
        import yaml

        try:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            return _dumped(_tree(yaml.load(data, Loader=loader), rng), rng, plain=True)
        except yaml.YAMLError:
            return _bytes(data, rng)
    if target not in ("gguf", "onnx") and rng.random() < 0.75:
        changed = _json(data, rng)
        if changed is not None:
            return changed
    return _bytes(data, rng)


def _json(data: bytes, rng: random.Random) -> bytes | None:
    """Of a JSON text, or of one of its lines; None where it is neither."""
    try:
        return _dumped(_tree(json.loads(data), rng), rng)
    except ValueError:
        lines = data.split(b"\n")
    i = rng.randrange(len(lines))
    try:
        lines[i] = _dumped(_tree(json.loads(lines[i]), rng), rng)
    except ValueError:
        return None
    return b"\n".join(lines)


def _tree(value: Any, rng: random.Random) -> Any:
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _one(value, rng)
    return value


def _one(value: Any, rng: random.Random) -> Any:
    """One node replaced, removed, doubled, renamed or buried."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.04:
        return _leaf(value, rng)
    key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
    held = value[key]
    if isinstance(held, (dict, list)) and held and rng.random() < 0.75:
        value[key] = _one(held, rng)
        return value
    what = rng.random()
    if what < 0.70:
        value[key] = _leaf(held, rng)
    elif what < 0.82:
        del value[key]
    elif isinstance(value, dict):
        name = rng.choice([*value, "", "model_type", "x" * 300])
        value[name] = value.pop(key)
    else:
        value.extend(copy.deepcopy(held) for _ in range(rng.choice((1, 50))))
    return value


def _leaf(held: Any, rng: random.Random) -> Any:
    what = rng.random()
    if what < 0.15 and isinstance(held, (int, float)) and not isinstance(held, bool):
        return held * rng.choice((-1, 0.5, 2, 1000, 10**9, 1e-9)) + rng.choice((0, 0, 1, 0.5))
    if what < 0.25:
        return rng.choice(([held], {"a": held}, str(held), [held, copy.deepcopy(held)]))
    if what < 0.28:
        for _ in range(rng.choice((10, 70, 2000))):
            held = [held]
        return held
    return hostile(rng)


def hostile(rng: random.Random) -> Any:
    """One of the hostile values, of its own: later changes go into it, and must not reach the inputs after this one."""
    return copy.deepcopy(rng.choice(HOSTILE))


def _dumped(value: Any, rng: random.Random, plain: bool = False) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=rng.random() < 0.9, indent=1 if plain else None)
    except (RecursionError, ValueError):
        text = "[" * 3000
    if plain:
        text = text.replace("NaN", ".nan").replace("-Infinity", "-.inf").replace("Infinity", ".inf")
    if rng.random() < 0.02 and text.startswith("{"):
        text = text[0] + text[1 : text.find(",") + 1] + text[1:]  # the first field twice
    return text.encode("utf-8", "surrogatepass")


def _bytes(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        # What says how the rest is read stands in front; behind it are weights.
        at = rng.randrange(min(len(out), rng.choice((256, 4096, 4096, 1 << 40))) + 1)
        what = rng.randrange(9)
        if what == 0:
            out = out[:at]
        elif what <= 3 and at < len(out):
            out[at] = rng.choice((out[at] ^ (1 << rng.randrange(8)), 0, 255, 0x7F, rng.randrange(256)))
        elif what == 4:
            out[at : at + 8] = rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)).to_bytes(8, "little")
        elif what == 5:
            put = (b"\n", b"\x00", b",", b'"', b"{", b"[", b"-", b"e999", b"\xff\xfe", b"null\n", b"1" * 5000)
            out[at:at] = rng.choice(put)
        elif what == 6:
            out[at:at] = out[at : at + rng.randrange(1, 40)]
        elif what == 7:
            del out[at : at + rng.randrange(1, 40)]
        elif rng.random() < 0.05:
            out = bytearray(rng.choice((b"", b"\x00", b"null", b"[]", b"{}", b"\x1f\x8b", b"\n\n", b"[" * 100000)))
    return bytes(out)


def _words(words: list[str], rng: random.Random) -> list[str]:
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(1, len(words) + 1)
        what = rng.random()
        if what < 0.7 and at < len(words) and not words[at].startswith("--"):
            words[at] = rng.choice(WORDS)
        elif what < 0.8 and at < len(words):
            del words[at]
        elif what < 0.9:
            words[at:at] = [rng.choice(("--batch", "--kv", "--tp", "--json", "--chunk", "--prompt", "--seed", "--zzz")),
                            rng.choice(WORDS)]  # fmt: skip
        else:
            words[at:at] = [rng.choice(WORDS)]
    return words
