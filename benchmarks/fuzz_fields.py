"""Every number of every input, one after the other, replaced by each that a reader could stumble over.

    python benchmarks/fuzz_fields.py [TARGET …] [--every 1] [--out /tmp/faults]

Where :mod:`fuzz` spoils at random, this goes through: fields of configurations (one of each family), machines,
scenarios, traces and recordings, headers of tensors, columns of tables, and the numbers in the words of a command,
those inside of rules (``lognormal:mean=1000,cv=1``) included.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import fuzz
from fuzz_inputs import CATALOG, YAML, _dumped, packed, seeds

__all__ = ["CATALOG", "LINES", "NUMBER", "TEXTS", "VALUES", "each"]
# Of every kind that was a fault once, or could be one.
VALUES: tuple[Any, ...] = (0, -1, 0.5, 1e-308, 1e30, 1e308, 10**400, 2**63, float("nan"), float("inf"), float("-inf"),
                           None, "", [], {}, True, "x")  # fmt: skip
TEXTS = ("0", "-1", "0.5", "1", "1e-308", "1e15", "1e30", "1e308", "1" + "0" * 400, str(2**63), "nan", "inf", "", "x")
NUMBER = re.compile(r"(?<![A-Za-z_.\d-])\d+(?:\.\d+)?")
# Lines that name every setting with a number; what a command does with one is seen where it is answered.
EXPLAIN = "explain llama-3.2-1b --on 8xh100-sxm"
SIMULATE = "simulate llama-3.2-1b --on 2xl4 --requests 10 --prompt 100 --output 4 --rate 2/s"
TRAIN = EXPLAIN + " --train --global-batch 16 --seq 1024"
LINES = (
    "explain llama-3.2-1b --on h100-sxm --clock 0.9 --power-cap 500W --link-share 0.5 --rent 2.50/h --batch 4 "
    "--prompt 512 --output 16 --chunk 512 --kv int4-g64 --weights int4-g128",
    EXPLAIN + " --tp 2 --pp 2 --dp 2 --technique offload_weights --schedule prefetch:ahead=2",
    "explain qwen3-30b-a3b --on 4xh100-sxm --ep 4",
    "explain llama-3.2-11b-vision --on h100-sxm --images 1 --image-size 560",
    "explain vit-base-patch16-224 --on l4 --batch 2 --image-size 224",
    "explain whisper-large-v3 --on l4 --batch 2 --prompt 4 --output 4",
    TRAIN + " --tp 2 --pp 2 --micro-batch 1 --interleave 2 --schedule interleaved:2",
    TRAIN + " --cp 2 --zero 1 --shard 2 --first-layers 8 --last-layers 8 --pp 2",
    TRAIN + " --pp 2 --stage-layers 9,7", TRAIN + " --offload optimizer --offload-share 0.5 --device-update 0.25",
    "explain llama-3.2-1b --on rtx4090~+~64GB~ddr5~+~nvme-gen4 --train --global-batch 8 --seq 512 --offload optimizer "
    "--offload-disk --offload-share 0.5", "explain qwen3-30b-a3b --on 8xh100-sxm --train --ep 8 --global-batch 16 "
    "--seq 1024 --imbalance 1.5 --capacity 2", "explain deepseek-v3 --on 256xh100-sxm --train --mtp-num-layers 1",
    TRAIN + " --lengths lognormal:mean=600,cv=1.2 --straggler 0.02 --islands 2 --local-steps 10 --averaging gossip:2",
    TRAIN + " --zero 0 --compress topk:0.01 --mtbf 50000h --restart 600s --storage 500GB --spares 2 --repair 3600s "
    "--train-tokens 15T", TRAIN + " --zero 0 --compress powersgd:4", TRAIN + " --optimizer cosmos:r=64",
    TRAIN + " --optimizer galore:r=64", TRAIN + " --optimizer grass:r=64", TRAIN + " --optimizer frugal:density=0.25",
    TRAIN + " --optimizer spam:density=0.25", TRAIN + " --method lora:r=16", TRAIN + " --method qlora:r=16",
    SIMULATE + " --clock 0.9 --power-cap 60W --link-share 0.5 --rent 2/h --replicas 2 --max-seqs 64 --tokens 2048 "
    "--max-len 4096 --block 16 --memory 0.9 --ttft 1s --tpot 50ms --shared 10 --seed 3",
    SIMULATE + " --host-cache 8GB --disk-cache 8GB --draft 3 --accept 0.7 --adapters 4 --lora-rank 16",
    SIMULATE + " --turns 2 --think 3 --fail 1:0:2", SIMULATE + " --prefill-share 0.5 --tp 1 --dp 1",
    SIMULATE + " --prefill-replicas 1 --decode-replicas 1 --prefill-plan tp=1,pp=1",
    SIMULATE + " --autoscaler queue_length --startup 60s", SIMULATE + " --search width=4,keep=2,depth=3,step=64",
    "simulate qwen3-30b-a3b --on 4xh100-sxm --requests 8 --rate 2/s --prompt 64 --output 4 --ep 2 --dp 2",
    "simulate llama-3.2-1b --on l4 --trace t.csv --rate-scale 2 --limit 10",
    "goodput llama-3.2-1b --on l4 --rate 2/s --requests 10 --output 4 --ttft 1s --tpot 50ms --attainment 0.9",
    "plan serve llama-3.2-1b --on l4 --rate 1/s --prompt 64 --output 8 --ttft 1s --tpot 50ms --budget 4/h "
    "--confidence 80 --no-confirm",
    "plan train llama-3.2-1b --on 8xh100-sxm --global-batch 16 --seq 1024 --train-tokens 1T --micro-batch 2",
    "plan finetune llama-3.2-1b --on rtx-4090 --method qlora:r=16 --seq 512",
    "fit llama-3.2-1b --vram 8GB --quant q4_k_m --context 4096", "allocate buffers.csv --capacity 16 --time 1s",
    *(f"traffic --requests 20 --output 8 --arrivals {a}" for a in (
        "poisson:rate=3", "gamma:cv=2,rate=3", "bursty:rate=3", "diurnal:rate=3", "uniform:rate=3")),
    *(f"traffic --requests 20 --arrivals poisson:rate=3 --output 4 --turns 2 --think 3 --prompt {p}" for p in (
        "lognormal:mean=1000,cv=1", "uniform:low=1,high=9", "exponential:mean=9", "zipf:low=1,high=99",
        "fixed:value=9")),
    *(f"explain llama-3.2-1b --on h100-sxm --technique {t}" for t in (
        "concatenate_cache:times=2", "evict_kv:keep=0.5,budget=128", "low_rank_kv:rank=0.5,window=16",
        "mix_kv_bits:important=0.2,high=4,low=2", "offload_kv:fraction=0.5", "offload_weights:fraction=0.5",
        "prune_layers:count=2", "quantize_kv:bits=2,group=32,residual=8",
        "quantize_with_outliers:bits=3,outliers=0.01,group=16,second=16,scale_bits=3,zero_bits=3",
        "rebuild_keys:rank=160,chunk=8,budget=128,kept=4,hit=0.5",
        "shard:tp=1", "share_layers:copies=2", "share_prefix:tokens=64", "slide_window:window=64",
        "sparse_attention:read=0.5,budget=64,selector_bits=2",
        "sparse_code_kv:nonzeros=8,coefficient_bits=8,index_bits=16,atoms=1024", "sparsify_attention:density=0.5",
        "sparsify_weights:sparsity=0.5")),
    *(f"explain qwen3-30b-a3b --on rtx4090~+~64GB~ddr5~+~nvme-gen4 --engine llama.cpp --technique {t}" for t in (
        "partial_offload:layers=2,experts=4,missed=0.1,skew=0.5",
        "read_from_disk:share=0.5,experts=true,skew=1,foreseen=1")),
    "explain qwen3-30b-a3b --on 2xh100-sxm --technique dictionary_experts:zeros=0.5,codewords=65536,longest=28",
    "compare llama-3.2-1b~--on~l4~--batch~2 ...~--kv~int4-g64",
    "observe --url http://127.0.0.1:1 --requests 2 --rate 5/s --timeout 1s",
)  # fmt: skip


def each(target: str, step: int = 1) -> Iterator[bytes]:
    """Inputs of a target, each a valid one with one number that is another (of them, every ``step``-th)."""
    for i, made in enumerate(_each(target)):
        if i % step == 0:
            yield made


def _each(target: str) -> Iterator[bytes]:
    if target == "command":
        yield from _lines()
    elif target.startswith("table-"):
        yield from _tables(target.removeprefix("table-"))
    elif target == "safetensors":
        data = seeds(target)[0]
        length = int.from_bytes(data[:8], "little")
        for tree in _trees(json.loads(data[8 : 8 + length])):
            yield packed(tree) + data[8 + length :]
    elif target == "gguf":
        yield from _ggufs()
    else:
        for data in _distinct(target):
            yield from _texts(data, target in YAML)
        if target in ("saved", "played"):
            yield from _settings()


def _settings() -> Iterator[bytes]:
    """Saved scenarios with every field that such a file may hold, those of a plan's parts included."""
    from dataclasses import fields, is_dataclass

    from tierwise.scenario.fields import FIELDS
    from tierwise.scenario.types import KV, Batch, Plan

    base = {"schema": "tierwise.scenario/1", "model": "llama-3.2-1b", "machine": "8xl4"}
    traffic = {"prompt": 64, "output": 4, "requests": 4, "concurrency": 2}
    places = [(row.section, row.name) for row in FIELDS.values() if row.section in ("serving", "targets", "training")]
    names = [*(f.name for f in fields(Batch)), "rate", "limit", "rate_scale", "shared"]
    places += [("traffic", name) for name in names]
    places += [("plan", f.name) for f in fields(Plan) if not is_dataclass(f.default)]
    rng = random.Random(0)
    for (section, name), value in product([*places, *(("kv", f.name) for f in fields(KV))], VALUES):
        form: dict[str, Any] = base | {"traffic": dict(traffic)}
        if section == "kv":
            form["plan"] = {"kv": {name: value}}
        else:
            form[section] = form.get(section, {}) | {name: value}
        if section == "training":
            form["training"] |= {"train": True, "seq": 64, "global_batch": 8} | {name: value}
        yield _dumped(form, rng, plain=True)


def _texts(data: bytes, is_yaml: bool) -> Iterator[bytes]:
    """Of a text that is a tree, or of the lines of one."""
    rng = random.Random(0)
    try:
        if is_yaml:
            import yaml

            tree = yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        else:
            tree = json.loads(data)
    except ValueError:
        lines = data.split(b"\n")
        try:
            for tree in _trees(json.loads(lines[0])):
                yield b"\n".join([_dumped(tree, rng), *lines[1:]])
        except ValueError:
            yield from _rows(data)
        return
    for made in _trees(tree):
        yield _dumped(made, rng, plain=is_yaml)


def _rows(data: bytes) -> Iterator[bytes]:
    """Of a table of text: each cell of its second line."""
    head, first, *rest = data.decode().split("\n")
    mark = ";" if ";" in head else ","
    cells = first.split(mark)
    for i in range(len(cells)):
        for text in TEXTS:
            yield "\n".join([head, mark.join([*cells[:i], text, *cells[i + 1 :]]), *rest]).encode()


def _trees(tree: Any) -> Iterator[Any]:
    """Copies of a tree, one for each number in it and each value."""
    tree = json.loads(json.dumps(tree, default=str))
    for path in _numbers(tree, ()):
        for value in VALUES:
            made = copy.deepcopy(tree)
            holder = made
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = copy.deepcopy(value)
            yield made


def _numbers(tree: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Where a number is, or a text that begins with one; of a list, its first three items."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _numbers(value, (*path, key))
    elif isinstance(tree, list):
        for i, value in enumerate(tree[:3]):
            yield from _numbers(value, (*path, i))
    elif path and not isinstance(tree, bool) and (isinstance(tree, (int, float)) or re.match(r"\$?\d", str(tree))):
        yield path


def _distinct(target: str) -> list[bytes]:
    """Seeds of a target; of configurations one for each family, of machines those that hold the most fields."""
    found = seeds(target)
    if target in ("config", "explain"):
        kinds: dict[str, bytes] = {}
        for data in found:
            kinds.setdefault(str(json.loads(data).get("model_type")), data)
        return list(kinds.values())
    if target in ("machine", "chip"):
        fields: dict[str, bytes] = {}
        for data in sorted(found, key=len, reverse=True):
            for name in re.findall(rb"[\w-]+(?=:)", data):
                fields.setdefault(name.decode(), data)
        return list(dict.fromkeys(fields.values()))[:12]
    return list(found)


def _tables(kind: str) -> Iterator[bytes]:
    from fuzz_tables import columns, write

    for table in columns(kind):
        for name, values in table.items():
            for value in TEXTS:
                yield write(table | {name: [value, *values[1:]]}, False)


def _ggufs() -> Iterator[bytes]:
    from gguf_writer import DENSE, ends, experts, gguf, gqa, layers, meta

    dense = DENSE | {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 256}
    tensors = ends() | layers(gqa() | experts(4, 256))
    for name in dense:
        for value in VALUES:
            try:
                yield gguf(meta("qwen3moe", **dense | {name: value}), tensors)
            except Exception:  # no such value in a file of this kind
                continue


def _lines() -> Iterator[bytes]:
    for line in LINES:
        words = [word.replace("~", " ") for word in line.split()]
        for at, word in enumerate(words):
            if (at == 1 and words[0] != "compare") or word.startswith("--"):
                continue
            for match in NUMBER.finditer(word):
                for text in TEXTS:
                    changed = word[: match.start()] + text + word[match.end() :]
                    yield json.dumps([*words[:at], changed, *words[at + 1 :]]).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=list(fuzz.SHARES))
    parser.add_argument("--every", type=int, default=1, help="one of so many inputs")
    parser.add_argument("--first", type=int, default=0, help="number of each target's first input")
    parser.add_argument("--out", type=Path, help="folder for one input of each kind of fault")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    kinds: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "t.csv").write_text("arrival,prompt,output\n0,32,2\n1,64,2\n")
        for target in given.targets:
            began, count = time.process_time(), 0
            for data in islice(each(target, given.every), given.first, None):
                count += 1
                fault = fuzz.judged(target, data, Path(folder))
                if fault is None:
                    continue
                kind = f"{target}: {fault.kind}"
                kinds[kind] = kinds.get(kind, 0) + 1
                if kinds[kind] == 1:
                    print(kind, fault.trace.strip().splitlines()[-1][:200], data[-500:], flush=True)
                    if given.out is not None:
                        given.out.mkdir(parents=True, exist_ok=True)
                        name = re.sub(r"[/ :]", "-", kind)[:100]
                        (given.out / name).write_bytes(data)
                        (given.out / f"{name}.txt").write_text(fault.trace)
            print(f"{target:15} {count:7,} inputs, {time.process_time() - began:7.1f} s", flush=True)
    print(json.dumps({"faults": sum(kinds.values()), "kinds": len(kinds)}))
    sys.exit(1 if kinds else 0)


if __name__ == "__main__":
    main()
