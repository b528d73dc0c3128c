"""llama.cpp, through llama-cpp-python: GGUF files with random weights, run token by token and prompt by prompt."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tierwise.core.num import num
from tierwise.core.numerics import fmt
from tierwise.machines.profile import Products
from tierwise.measure.engines import EnginePass, MeasureSettings, curves, shapes
from tierwise.measure.limited import forget, run_limited
from tierwise.scenario.types import KV, Batch, Plan

NAME = "llama.cpp"
PACKAGES = ("llama-cpp-python", "gguf")
FORMATS = ("fp16", "q8_0", "q4_0")
CALLS = {"*": 1.0, "norm.rms": 3.0, "rope_cache": 6.0, "act": 1.0, "embedding": 10.0, "attention.prefill": 5.0,
         "attention.decode": 5.0}  # fmt: skip
PASSES = {"*": 1.0, "norm.rms": 1.5, "rope_cache": 2.0}

TRIAL = f"from {__name__} import trial; trial({{repack}})"

_NODES = 24.0  # nodes of one layer's graph: seven products, two norms, rope, cache, attention, activation, sums


def product_probes(bench: MeasureSettings) -> Iterator[tuple[str, Callable[[dict[str, float]], float]]]:
    """Named measurements, in order; each is given the results so far."""
    for form in FORMATS:
        yield f"{form}.call", lambda _, f=form: _node(bench, f)  # type: ignore[misc]
        yield f"{form}.rate", lambda _, f=form: _rate(bench, f)  # type: ignore[misc]
        for layers, width in ((1, 256), (1, 768), (2, 768), (3, 768), (3, 1024), (6, 1024)):
            config = _square(layers, width)
            size = _weights(config, form)
            yield f"{form}.one.{size:.0f}", lambda seen, f=form, c=config: _one(bench, f, c, seen)  # type: ignore[misc]
            yield f"{form}.many.{size:.0f}", lambda seen, f=form, c=config: _many(bench, f, c, seen)  # type: ignore[misc]


# A model for weights in a mapped file, what the process holds besides them, and the share that the page cache holds.
_MAPPED, _OWN, _CACHED = shapes.llama(1024, 2816, 8, 16, 16, 1000), 60e6, 0.4


def mapped(bench: MeasureSettings, folder: Path) -> float:
    """Bytes of weights per second at which it decodes from a mapped file on a disk that the page cache does not hold.

    Raises:
        TierwiseError: the page cache cannot be limited here.
    """
    with tempfile.TemporaryDirectory(prefix=".tierwise-", dir=folder) as inside:
        path = Path(inside) / "model.gguf"
        write_gguf(path, _MAPPED, "fp16")
        times = steps_from_disk(path, _MAPPED, "fp16", bench.threads, _CACHED, 8 if bench.quick else 16)
    return _weights(_MAPPED, "fp16") / statistics.median(times)


def steps_from_disk(
    path: Path, config: shapes.Config, form: str, threads: int, cached: float, steps: int
) -> list[float]:
    """Seconds by the clock of decoding steps of a mapped file of which the page cache holds at most a share; the first
    ones, which find what loading left there, are not among them."""
    forget(path)
    limit = path.stat().st_size * cached + _OWN
    found = run_limited(__name__, "decoded", limit, path=str(path), config=config, form=form, threads=threads,
                        steps=steps)  # fmt: skip
    return [float(x) for x in found]


def decoded(path: str, config: shapes.Config, form: str, threads: int, steps: int) -> list[float]:
    """Seconds of each step after a short prompt and one step."""
    session = Session(threads, config, form, 64, 1, mapped=Path(path))
    session.decode(session.batch(8, 1))
    batch, out = session.batch(1, 1, 8), []
    for _ in range(steps + 1):
        start = time.perf_counter()
        session.decode(batch)
        out.append(time.perf_counter() - start)
        session.api.llama_memory_seq_rm(session.memory, -1, 8, -1)
    return out[1:]


def products(seen: dict[str, float]) -> dict[str, Products]:
    """Coefficients from the results of the probes."""
    return curves.products(seen, FORMATS)


def _square(layers: int, width: int) -> shapes.Config:
    return shapes.llama(width, width * 2, layers, width // 64, width // 64, 512)


def _weights(config: shapes.Config, form: str) -> float:
    d, inner, n = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    return float((n * (4 * d * d + 3 * d * inner) + config["vocab_size"] * d) * num(fmt(form).bytes))


def _node(bench: MeasureSettings, form: str) -> float:
    """Seconds of a graph node that does next to nothing: two depths of a tiny model, per node."""
    few, many = (_time(bench, form, shapes.llama(64, 64, n, 1, 1, 64), 1) for n in (2, 18))
    return max((many - few) / 16 / _NODES, 1e-8)


def _rate(bench: MeasureSettings, form: str) -> float:
    """FLOP/s of tokens beyond the first 32 of a prompt, their attention being small beside the products."""
    config = _square(2, 768)
    few, many = (_time(bench, form, config, n) for n in (32, 160))
    return 2.0 * 2 * (4 * 768**2 + 3 * 768 * 1536) * 128 / max(many - few, 1e-9)


def _one(bench: MeasureSettings, form: str, config: shapes.Config, seen: dict[str, float]) -> float:
    time = _time(bench, form, config, 1) - config["num_hidden_layers"] * _NODES * seen[f"{form}.call"]
    size = _weights(config, form)
    return float(size / max(time, size / 1e12))


def _many(bench: MeasureSettings, form: str, config: shapes.Config, seen: dict[str, float]) -> float:
    size = _weights(config, form)
    flops = 2.0 * 4 * size / num(fmt(form).bytes)
    time = _time(bench, form, config, 4) - config["num_hidden_layers"] * _NODES * seen[f"{form}.call"]
    return float(size / max(time - flops / seen[f"{form}.rate"], size / 1e12))


def _time(bench: MeasureSettings, form: str, config: shapes.Config, tokens: int) -> float:
    return bench.timer(_prompt(bench, config, form, tokens, 1)).median


# ---------------------------------------------------------------- models


def runs(purpose: str, bench: MeasureSettings) -> Iterator[EnginePass]:
    """Models to run: ``calibrate`` or ``validate``."""
    if purpose == "calibrate":
        for form in FORMATS:
            yield from _decoder(bench, "decoder-a", form, shapes.llama(128, 320, 3, 2, 1, 500), [(24, 1)], [(16, 1)])
            yield from _decoder(bench, "decoder-b", form, shapes.llama(384, 1024, 3, 6, 3, 3000), [(48, 1), (384, 1)],
                                [(64, 1), (1500, 1), (320, 6)])  # fmt: skip
            yield from _decoder(bench, "decoder-c", form, shapes.llama(640, 1280, 2, 10, 1, 1000), [(160, 1)],
                                [(900, 1), (200, 3)])  # fmt: skip
        return
    for form in FORMATS:
        yield from _decoder(bench, "llama-25m", form, shapes.llama(512, 1376 // 32 * 32, 6, 8, 2, 8000),
                            [(64, 1), (256, 1)], [(32, 1), (512, 1), (128, 4)])  # fmt: skip


def _decoder(
    b: MeasureSettings, name: str, form: str, config: shapes.Config, prompts: list[tuple[int, int]],
    contexts: list[tuple[int, int]],
) -> Iterator[EnginePass]:  # fmt: skip
    """A causal language model in one format; the cache is fp16 and activations fp32, as by default."""
    f16 = fmt("fp16")
    plan = Plan(weights=fmt(form), activations=fmt("fp32"), kv=KV(key=f16, value=f16))
    model = shapes.model(config | {"torch_dtype": "float16"}, f"{name}-{form}")
    for tokens, batch in prompts:
        yield EnginePass(f"{model.name}/prefill-{tokens}x{batch}", model, Batch(float(tokens), 1.0, float(batch)),
                         "prefill", lambda t=tokens, n=batch: _prompt(b, config, form, t, n), plan)  # type: ignore[misc]  # fmt: skip
    for context, batch in contexts:
        yield EnginePass(f"{model.name}/decode-{context}x{batch}", model, Batch(float(context), 2.0, float(batch)),
                         "decode", lambda t=context, n=batch: _step(b, config, form, t, n), plan)  # type: ignore[misc]  # fmt: skip


@cache
def limits() -> str:
    """What does not work on this computer, empty where all does: found by processes of their own, which may die.

    llama.cpp repacks quantized weights for a processor's matrix instructions. Its AMX code dies of an invalid tile
    configuration where GCC 12 built it: that compiler's ``_tile_loadconfig`` says that it reads 8 of the 64 bytes
    (amxtileintrin.h), so the rest is never written. ``--no-repack`` is llama.cpp's own option without.

    Raises:
        RuntimeError: it dies without repacked weights too.
    """
    if not (how := dies(True)):
        return ""
    if again := dies(False):
        raise RuntimeError(f"llama.cpp dies on this computer, with weights repacked and without ({how}; {again})")
    return f"without repacked weights (--no-repack): with them it dies here ({how})"


def dies(repack: bool) -> str:
    """How a process ends that runs a short prompt and a step in every format: empty where it lives."""
    code = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}; {TRIAL.format(repack=repack)}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    last = (done.stdout.split() or ["the start"])[-1]
    why = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    return f"{why} in {last}"


def trial(repack: bool) -> None:
    """Runs every format once, as a prompt and as a step, saying which before each."""
    for form in FORMATS:
        print(form, flush=True)
        session = Session(1, shapes.llama(256, 512, 1, 4, 4, 512), form, 64, 1, repack)
        session.decode(session.batch(64, 1))
        session.decode(session.batch(1, 1, 64))


class Session:
    """A loaded model and its context; both are freed with it, and the file is gone once it is loaded."""

    def __init__(
        self, threads: int, config: shapes.Config, form: str, tokens: int, seqs: int, repack: bool = True,
        mapped: Path | None = None,
    ) -> None:  # fmt: skip
        """``mapped``: the file of such a model, whose weights stay in it and are read through the page cache."""
        import llama_cpp

        self.api = llama_cpp
        llama_cpp.llama_log_set(_SILENT(), None)
        options = llama_cpp.llama_model_default_params()
        options.use_mmap = mapped is not None
        options.n_gpu_layers = 0
        options.use_extra_bufts = repack and mapped is None  # repacked weights would be a copy in memory
        with tempfile.TemporaryDirectory(prefix="tierwise-") as folder:
            path = mapped or Path(folder) / "model.gguf"
            if mapped is None:
                write_gguf(path, config, form)
            self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), options)
        wanted = llama_cpp.llama_context_default_params()
        wanted.n_ctx = max((tokens + 8) * seqs, 64)
        wanted.n_batch = wanted.n_ubatch = wanted.n_ctx
        wanted.n_seq_max = seqs
        wanted.kv_unified = seqs == 1
        wanted.n_threads = wanted.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, wanted)
        if not self.model or not self.context:
            raise RuntimeError("llama.cpp could not load the model it was given")
        self.memory = llama_cpp.llama_get_memory(self.context)

    def batch(self, tokens: int, seqs: int, start: int = 0) -> Any:
        """``tokens`` new tokens of each sequence, from position ``start``; logits for the last."""
        made = self.api.llama_batch_init(tokens * seqs, 0, 1)
        i = 0
        for s in range(seqs):
            for t in range(tokens):
                made.token[i] = 1 + (7 * t + s) % 50
                made.pos[i] = start + t
                made.n_seq_id[i] = 1
                made.seq_id[i][0] = s
                made.logits[i] = t == tokens - 1
                i += 1
        made.n_tokens = i
        return made

    def decode(self, batch: Any) -> None:
        if self.api.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama.cpp refused a batch")

    def __del__(self) -> None:
        if getattr(self, "context", None):
            self.api.llama_free(self.context)
        if getattr(self, "model", None):
            self.api.llama_model_free(self.model)


_KEEP: list[Any] = []


def _SILENT() -> Any:
    """A log callback that says nothing, kept alive for as long as the library may call it."""
    import llama_cpp

    if not _KEEP:
        _KEEP.append(llama_cpp.llama_log_callback(lambda level, text, data: None))
    return _KEEP[0]


def _prompt(b: MeasureSettings, config: shapes.Config, form: str, tokens: int, seqs: int) -> Callable[[], object]:
    session = Session(b.threads, config, form, tokens, seqs, repack=not limits())
    batch = session.batch(tokens, seqs)

    def work() -> None:
        session.api.llama_memory_clear(session.memory, False)
        session.decode(batch)

    return work


def _step(b: MeasureSettings, config: shapes.Config, form: str, context: int, seqs: int) -> Callable[[], object]:
    session = Session(b.threads, config, form, context, seqs, repack=not limits())
    session.decode(session.batch(context, seqs))
    batch = session.batch(1, seqs, context)

    def work() -> None:
        session.decode(batch)
        session.api.llama_memory_seq_rm(session.memory, -1, context, -1)  # the next step sees the same context

    return work


def write_gguf(path: Path, config: shapes.Config, form: str, words: Sequence[str] = ()) -> None:
    """A GGUF file with random weights in one format; norms in fp32, embeddings in fp16.

    Without ``words`` it has no vocabulary. With them each is one token, and what the model answers are words that
    print, never an end.
    """
    import gguf
    import numpy as np

    kind = {"fp16": gguf.GGMLQuantizationType.F16, "q8_0": gguf.GGMLQuantizationType.Q8_0,
            "q4_0": gguf.GGMLQuantizationType.Q4_0}[form]  # fmt: skip
    f16 = gguf.GGMLQuantizationType.F16
    rng = np.random.default_rng(0)
    d, inner = config["hidden_size"], config["intermediate_size"]
    wide = config["num_key_value_heads"] * config["head_dim"]
    out = gguf.GGUFWriter(str(path), "llama")
    out.add_name("random")
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(d)
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(inner)
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_rope_dimension_count(config["head_dim"])
    out.add_layer_norm_rms_eps(1e-5)
    out.add_vocab_size(config["vocab_size"])
    mute = _vocabulary(out, words, config["vocab_size"])

    def matrix(name: str, rows: int, columns: int, form: Any = kind, mute: int = 0) -> None:
        values = (rng.standard_normal((rows, columns), dtype=np.float32) / columns**0.5).astype(np.float32)
        values[:mute] = 0.0
        out.add_tensor(name, gguf.quants.quantize(values, form), raw_dtype=form)

    def vector(name: str) -> None:
        out.add_tensor(name, np.ones(d, np.float32))

    matrix("token_embd.weight", config["vocab_size"], d, f16)
    vector("output_norm.weight")
    matrix("output.weight", config["vocab_size"], d, f16, mute)
    for i in range(config["num_hidden_layers"]):
        for name, rows, columns in (("attn_q", d, d), ("attn_k", wide, d), ("attn_v", wide, d), ("attn_output", d, d),
                                    ("ffn_gate", inner, d), ("ffn_up", inner, d), ("ffn_down", d, inner)):  # fmt: skip
            matrix(f"blk.{i}.{name}.weight", rows, columns)
        vector(f"blk.{i}.attn_norm.weight")
        vector(f"blk.{i}.ffn_norm.weight")
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def _vocabulary(out: Any, words: Sequence[str], size: int) -> int:
    """Writes a SentencePiece vocabulary of ``size`` tokens; returns how many of the first are none to answer with.

    A word's beginnings are tokens too: the tokenizer puts words together letter by letter.
    """
    if not words:
        out.add_tokenizer_model("no_vocab")
        return 0
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    kinds = [2, 3, 3] + [6] * 256  # unknown, control, byte (llama.cpp's token types)
    parts = [("\u2581" + word)[:n] for word in words for n in range(1, len(word) + 2)]
    letters = sorted({letter for word in words for letter in word})
    named = list(dict.fromkeys([*letters, *parts]))
    filling = [f"\u2581#{i}" for i in range(size - len(special) - len(named))]
    tokens = [*special, *named, *filling]
    out.add_tokenizer_model("llama")
    out.add_token_list(tokens)
    out.add_token_scores([0.0] * len(special) + [float(len(t)) for t in tokens[len(special) :]])
    out.add_token_types(kinds + [1] * (size - len(special)))
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_unk_token_id(0)
    return len(special)
