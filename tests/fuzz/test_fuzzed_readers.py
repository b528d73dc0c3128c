"""Every reader answers or refuses in words: a part of ``benchmarks/fuzz.py``, and inputs that were faults once."""

from __future__ import annotations

import importlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="reading traces needs pyarrow (pip install 'tierwise[serve]')")

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
fuzz: Any = importlib.import_module("fuzz")

QUICK = [target for target in fuzz.SHARES if target not in ("explain", "chip", "command", "played")]
# Each ended in an exception that was none of ours, or never; in the order they were found.
ONCE = [
    ("trace", b'null\n{"timestamp": 0, "input_length": 7, "output_length": 5, "hash_ids": [0]}'),
    ("trace", b'[{"conversations": [{"from": ["human"], "value": "hi"}, {"from": "gpt", "value": "yes"}]}]'),
    ("trace", b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:51-70,879,55\n"),
    ("trace", b"arrival,prompt,output,blocks_" + b"1" * 5000 + b"\n0,32,2,1 2\n"),
    ("trace", b"arrival,prompt,output,blocks_0\n0,32,2,1 2\n"),
    ("trace", b'{"timestamp": 0, "input_length": -9000, "output_length": 5, "hash_ids": []}'),
    ("trace", b'{"timestamp": 0, "input_length": Infinity, "output_length": 5, "hash_ids": [1, 2]}'),
    ("meta", b'{"model": "llama-3.1-8b", "engine_kwargs": {"tensor_parallel_size": Infinity}}'),
    ("meta", b'{"model": "llama-3.1-8b", "engine_kwargs": {"block_size": 1e400}}'),
    ("scenario", b'{"model": "llama-3.2-1b", "machine": "h100-sxm", "plan": {"tp": 0.5}}'),
    ("scenario", b'{"model": "llama-3.2-1b", "machine": "h100-sxm", "plan": {"tp": .nan}}'),
    ("scenario", b'{"model": "llama-3.2-1b", "machine": "h100-sxm", "plan": {"chunk": 1' + b"0" * 400 + b"}}"),
    ("config", b'{"model_type": "nemotron_h", "hidden_size": 64, "vocab_size": 8, "layers_block_type": [["mamba"]]}'),
    ("machine", b"like: h100-sxm\ntiers: [{name: [hbm], capacity: 1GB}]\n"),
    ("saved", b'{"schema": "tierwise.scenario/1", "model": "llama-3.2-1b", "machine": "l4", "engine": ["vllm"]}'),
    ("saved", b'{"schema": "tierwise.scenario/1", "model": null, "machine": "l4"}'),
    ("saved", b'{"schema": "tierwise.scenario/1", "model": "llama-3.2-1b", "machine": "l4", "plan": {"kv": ["a"]}}'),
    ("saved", b'{"schema": "tierwise.scenario/1", "model": "llama-3.2-1b", "machine": "l4", "plan": [1]}'),
    *(("saved", b'{"schema": "tierwise.scenario/1", "model": "llama-3.2-1b", "machine": "l4", "plan": {"kv": {"'
                + name + b'": .nan}}}') for name in (b"residual", b"rank", b"selector", b"shared_prefix")),
    ("saved", b'{"schema": "tierwise.scenario/1", "model": "llama-3.2-1b", "machine": "l4", '
              b'"plan": {"weights": ["fp8", "fp8"]}}'),
    ("saved", b'{"schema": "tierwise.scenario/1", "model": "llama-3.2-1b", "machine": "l4", '
              b'"traffic": {"output": [16]}}'),
    ("corrections", b"adjustment: {arithmetic: [1, 2]}"),
    ("corrections", b"adjustment: {bandwidth: {a: 1}}"),
    ("corrections", b"adjustment: {gap: " + b"[" * 2000 + b"]" * 2000 + b"}"),
    ("table-ops", b"system,latency,gemm_dtype,m,n,k\nh100_sxm,0.1,bfloat16,[],4,4\n"),
    ("table-ops", b"system,latency,allreduce_dtype,num_gpus,message_size\nh100_sxm,0.1,bfloat16,x,256\n"),
    ("table-ops", b"\xff\xfesystem,latency\n1,2\n"),
    ("table-ops", b"system,latency,op_name,num_gpus,message_size,nccl_dtype\nh100_sxm,1,all_gather,2,256,x\n"),
    ("table-edge", b"device,backend,engine,model,quant,phase,value,prompt,batch,ubatch\n"
                   b"Apple M1 Max,Metal,llama.cpp,Llama 3.1 8B,Q4_K_M,prefill,500,512,1,0\n"),
    ("table-edge", b"device,backend,engine,model,quant,phase,value,prompt,note\n"
                   b"Apple M1 Max,Metal,llama.cpp,Llama 3.1 8B,Q4_K_M,prefill,500,512,-b 0\n"),
    ("table-edge", b"device,backend,engine,model,quant,phase,value\nRTX 4090,CUDA,llama.cpp,x,q4_0,decode,['a']\n"),
    ("table-pixels", b"model,machine,framework,compiler,precision,layout,phase,batch,img_h,img_w,throughput_per_s,"
                     b"latency_ms\nresnet-50,l4,pytorch,,fp16,,infer,8,224,224,x,1\n"),
    ("table-training", b"framework,gpu,hidden,layers,heads,seq,gbs,mbs,tp,pp,dp\nmegatron,l4,h,1,1,1,1,1,1,1,1\n"),
    ("table-training", b"framework,gpu,hidden,layers,heads,seq,gbs,mbs,tp,pp,dp,peak_mem_gb\n"
                       b"megatron,a,1,1,1,1,1,1,1,1,1,9\n"),
    ("table-ops", b"system,latency,op_name,num_gpus,message_size,nccl_dtype\nh100_sxm,1,all_gather,2,256,\n"),
    ("table-ops", b"system,latency,gemm_dtype,m,n,k,engine,version\nh100_sxm,1,bfloat16,4,4,4,vllm,"
                  + b"1" * 5000 + b"\n"),
    ("config", b'{"model_type": "opt", "hidden_size": 64, "num_hidden_layers": 1, "ffn_dim": 64, '
               b'"vocab_size": 99, "max_position_embeddings": 99, "do_layer_.x": 3}'),
    ("chip", b"like: a10\ntitle: mine\n"),
    ("command", b'["explain", "llama-3.2-1b", "--on", "h100-sxm", "--chunk", "0"]'),
    ("command", b'["plan", "train", "llama-3.2-1b", "--on", "h100-sxm", "--out", "a\\u0000b"]'),
    ("command", b'["explain", "llama-3.2-1b", "--on", "h100-sxm", "--prompt", "1e99"]'),
    ("command", b'["explain", "llama-3.2-1b", "--on", "h100-sxm", "--kv", "int4-g' + b"9" * 300 + b'"]'),
    ("command", b'["simulate", "llama-3.2-1b", "--on", "2xl4", "--concurrency", "1e99", "--requests", "10", '
                b'"--output", "4"]'),
    ("command", b'["simulate", "llama-3.2-1b", "--on", "l4", "--requests", "9", "--arrivals", '
                b'"closed:concurrency=1e99"]'),
    ("command", b'["plan", "serve", "llama-3.2-1b", "--on", "2xl4", "--rate", "1/s", "--json", "\\u0000"]'),
    ("table-training", b"# GPUs,global batch,micro batch,hidden size,attention heads,# layers,sequence length,"
                       b"tensor parallelism,data parallelism,pipeline parallelism,iteration time (ms)"),
    ("command", b'["traffic", "--requests", "1e99", "--arrivals", "poisson:rate=3", "--prompt", "64"]'),
    ("table-ops", b"system,latency,moe_dtype,num_tokens,hidden_size,inter_size,topk,num_experts,moe_tp_size,"
                  b"moe_ep_size,distribution\nh100_sxm,1,bfloat16,4,64,64,2,8,1,1,power_law_-999\n"),
    ("table-ops", b"system,latency,moe_dtype,num_tokens,hidden_size,inter_size,topk,num_experts,moe_tp_size,"
                  b"moe_ep_size,distribution\nh100_sxm,1,bfloat16,4,64,64,2,8,1,1,nan\n"),
    ("scenario", b'{"model": "llama-3.2-1b", "machine": "h100-sxm", "plan": {"tp": 1, "weights": [[]]}}'),
    ("saved", b"schema: tierwise.scenario/1\nmodel: llama-3.2-1b\nmachine: 2xl4\ntraffic:\nplan:\nserving:\n"
              b"targets:\ntechniques:\nengine:\n"),
    ("played", b"schema: tierwise.scenario/1\nmodel: llama-3.2-1b\nmachine: 2xl4\ntraffic:\nserving:\n"),
    ("saved", b'{"schema": "tierwise.scenario/1", "model": "llama-3.2-1b", "machine": "l4", "traffic": {"batch": 1'
              + b"0" * 400 + b"}}"),
    ("saved", b'{"schema": "tierwise.scenario/1", "model": "llama-3.2-1b", "machine": "l4", "plan": {"tp": [-.inf]}}'),
    ("config", b'{"model_type": "llama4", "text_config": {}, "vision_config": {"pixel_shuffle_ratio": 1e308}}'),
    ("explain", b'{"model_type": "vig", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, '
                b'"expand_k": 0.0}'),
    ("machine", b"like: a10-0g\n"),
    ("chip", b"like: rtx-5090\ntitle: unrated\nreleased: 2025-03\npower: null\n"),
    ("chip", b"like: raspberry-pi-4\ntitle: slow\nreleased: 2026-01\n"
             b"tiers: [{name: dram, latency: 1e99, source: mine}]\n"),
    ("command", b'["explain", "llama-3.2-1b", "--on", "8xh100-sxm", "--train", "--tp", "2", "--pp", "2", '
                b'"--micro-batch", "1", "--global-batch", "1e99", "--seq", "1024"]'),
    ("command", b'["plan", "train", "llama-3.2-1b", "--on", "8xh100-sxm", "--global-batch", "1e99"]'),
    ("command", b'["traffic", "--requests", "50", "--arrivals", "poisson:rate=3", '
                b'"--output", "uniform:low=0,high=1e300"]'),
    ("explain", b'{"model_type":"vit","":[""],"":4,"":6,"num_hidden_layers":4,"image_size":3,"":true,"":1,"":""}'),
    ("config", b'{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, '
               b'"intermediate_size": 64, "vocab_size": 99, "quantization_config": {"quant_method": "fp8", '
               b'"ignored_layers": ["model.layers.' + b"1" * 5002 + b'.mlp"]}}'),
    ("command", b'["explain", "llama-3.2-1b", "--on", "l4", "--schedule", "prefetch:ahead=-1"]'),
    ("command", b'["explain", "llama-3.2-1b", "--on", "l4", "--schedule", "prefetch:ahead=1' + b"0" * 400 + b'"]'),
    ("command", b'["explain", "llama-3.2-11b-vision", "--on", "h100-sxm", "--images", "1", "--image-size", "0"]'),
    ("command", b'["explain", "vit-base-patch16-224", "--on", "l4", "--image-size", "0"]'),
    ("command", b'["explain", "llama-3.2-1b", "--on", "8xh100-sxm", "--train", "--mtbf", "50000h", '
                b'"--spares", "1e15"]'),
    ("command", b'["explain", "llama-3.2-1b", "--on", "8xh100-sxm", "--train", "--zero", "0", "--compress", "powersgd:1'
                + b"0" * 400 + b'"]'),
    ("command", b'["explain", "llama-3.2-1b", "--on", "8xh100-sxm", "--train", "--islands", "2", "--averaging", '
                b'"gossip:1' + b"0" * 400 + b'"]'),
    *(("command", b'["simulate", "llama-3.2-1b", "--on", "l4", "--rate", "2/s", "--requests", "9", "--search", "'
                  + t + b'"]') for t in (b"width=1e30,keep=2,depth=3,step=64", b"width=1e15,keep=3,depth=3,step=64",
                                         b"width=4,keep=2,depth=1e9,step=64")),
    *(("command", b'["explain", "llama-3.2-1b", "--on", "l4", "--technique", "' + t + b'"]') for t in (
        b"share_layers:copies=0", b"slide_window:window=0", b"rebuild_keys:rank=160,chunk=8,budget=128,hit=1e15",
        b"quantize_with_outliers:bits=-1,outliers=0.01", b"concatenate_cache:times=1" + b"0" * 400)),
    *(("saved", b"schema: tierwise.scenario/1\nmodel: llama-3.2-1b\nmachine: l4\n" + t) for t in (
        b"plan: {sparsity: .nan}", b"plan: {adapters: -1}", b"training: {train: true, seq: []}",
        b"training: {train: true, recompute: []}", b"training: {train: true, optimizer: []}")),
]


@pytest.mark.parametrize(("target", "data"), ONCE)
def test_what_was_a_fault_once_is_none(tmp_path: Path, target: str, data: bytes) -> None:
    found = fuzz.judged(target, data, tmp_path)
    assert found is None, found.trace


@pytest.mark.parametrize("target", QUICK)
def test_spoiled_inputs_are_answered_or_refused(tmp_path: Path, target: str) -> None:
    if not fuzz.seeds(target):
        pytest.skip("what makes such files is not installed")
    rng = random.Random(target)
    for _ in range(25):
        found = fuzz.judged(target, fuzz.mutate(target, rng.choice(fuzz.seeds(target)), rng), tmp_path)
        assert found is None, (found.data, found.trace)


@pytest.mark.parametrize("line", ["models", "papers --json -", "calibrate -o m.yaml --engine numpy --no-disk"])
def test_long_commands_are_understood_soon_and_write_where_they_are_told(tmp_path: Path, line: str) -> None:
    before = set(Path.cwd().iterdir())
    assert fuzz.judged("command", json.dumps(line.split()).encode(), tmp_path) is None
    assert set(Path.cwd().iterdir()) == before


def test_the_same_numbers_give_the_same_inputs() -> None:
    assert [fuzz.case(7, i) for i in range(20)] == [fuzz.case(7, i) for i in range(20)]


def test_an_input_is_the_same_whatever_was_made_before_it() -> None:
    hostile = repr(importlib.import_module("fuzz_inputs").HOSTILE)
    for i in range(400):
        fuzz.case(8, i)
    assert repr(importlib.import_module("fuzz_inputs").HOSTILE) == hostile


def test_pieces_of_several_processes_are_the_inputs_of_one() -> None:
    told: list[Any] = []
    count, spent = fuzz.run_many(9, 100, 12, lambda *fault: told.append(fault), 5.0, jobs=3)
    assert (count, told) == (12, [])
    assert sum(spent[::4]) == 12


def test_a_fault_is_told_and_made_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(path: Path) -> None:
        if b"!" in path.read_bytes():
            raise KeyError("a fault")

    monkeypatch.setitem(fuzz.READERS, "config", wrong)
    found = fuzz.judged("config", b"a" * 50 + b"!" + b"b" * 50, tmp_path)
    assert found is not None and found.kind.startswith("KeyError at ")
    assert fuzz.smaller(found, tmp_path) == b"!"
    assert fuzz.judged("config", b"a", tmp_path) is None
