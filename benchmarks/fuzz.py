"""A fuzzer over everything that is read from outside: each input is answered or refused in words, soon and in bounds.

    python benchmarks/fuzz.py --inputs 300000 --jobs 2 --seed 0 --out /tmp/faults

Workers read mutated inputs (:mod:`fuzz_inputs`) under a limit of memory and time each; the same seed gives the same
inputs, however many processes (``--jobs``) share them. A fault is an exception that is none of ours, five seconds of
processor time without an answer (not wall time, which depends on what else the machine does), a gigabyte, or the end of
the process. Of each kind (exception and the line of ours it came from) one input is made small and stored.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fuzz_inputs import mutate, seeds

LIMIT_S, LIMIT_BYTES = 5.0, 1 << 30
# What is read how often, in a hundred inputs: those that answer a whole question are slower.
SHARES = {"config": 19, "trace": 18, "run": 7, "machine": 9, "scenario": 4, "gguf": 9, "safetensors": 6, "index": 2,
          "onnx": 6, "meta": 3, "recording": 3, "corrections": 2, "table-buffers": 2, "table-serving": 0.4,
          "command": 1.2, "saved": 0.6, "explain": 0.3, "chip": 0.3, "table-ops": 1, "table-edge": 0.5,
          "table-pixels": 0.5, "table-training": 1, "played": 0.1}  # fmt: skip
NAMES = {"config": "config.json", "explain": "config.json", "gguf": "m.gguf", "safetensors": "m.safetensors",
         "index": "m.safetensors.index.json", "onnx": "m.onnx", "machine": "m.yaml", "chip": "m.yaml",
         "scenario": "s.yaml", "trace": "t.txt", "run": "r.txt", "meta": "meta.json",
         "recording": "requests.jsonl", "saved": "s.yaml", "played": "s.yaml", "corrections": "c.yaml"}  # fmt: skip
# The configuration beside files of tensors.
TINY = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 1, "vocab_size": 320,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False}  # fmt: skip
GOOD_META = {"model": "llama-3.1-8b", "machine": "h100-sxm", "engine_kwargs": {"max_num_seqs": 16}}
GOOD_ROW = {"arrival_time": 1, "input_toks": 10, "output_toks": 5, "first_token_ts": 1.1, "last_token_ts": 1.5}


class Hang(BaseException):
    """The time of one input is over."""


@dataclass(frozen=True)
class Fault:
    """An input that was neither answered nor refused. ``kind``: what happened and where, the same for one cause."""

    target: str
    kind: str
    data: bytes
    trace: str = ""


Told = Callable[[Fault, int], None]  # hears of a fault and of its input's number


def read(target: str, data: bytes, folder: Path) -> None:
    """Give an input to its reader, as a user would. Raises whatever the reader raises."""
    if target == "command":
        (folder / "buffers.csv").write_bytes(seeds("table-buffers")[0])
        return command([str(word) for word in json.loads(data)], folder)
    ending = ".parquet" if data[:4] == b"PAR1" else ".csv"
    path = folder / (f"t{ending}" if target.startswith("table-") else NAMES[target])
    path.write_bytes(data)
    beside = folder / "config.json"
    if target in ("safetensors", "index"):
        beside.write_text(json.dumps(TINY))
    elif path != beside:
        beside.unlink(missing_ok=True)
    if target == "index":
        (folder / "a.safetensors").write_bytes(seeds("safetensors")[0])
    READERS[target](path)
    return None


def command(words: list[str], folder: Path | None = None) -> None:
    """A command line, run in a folder of its own where it may write; its exit code must be 0 or 2.

    What takes minutes by its nature (measuring this computer, all papers) ends where its arguments are understood.
    """
    from tierwise.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), contextlib.ExitStack() as put:
        put.enter_context(contextlib.chdir(folder or Path.cwd()))
        if words and words[0] in LONG:
            for place, name, instead in LONG[words[0]]:
                put.enter_context(mock.patch(f"{place}.{name}", instead))
        try:
            main(words)
        except SystemExit as stop:
            if stop.code not in (0, 2):
                raise RuntimeError(f"exit code {stop.code}") from None


def _understood(*_: Any, **__: Any) -> Any:
    raise SystemExit(0)


# What is left out of long commands: (module, function, what stands for it).
LONG: dict[str, list[tuple[str, str, Callable[..., Any]]]] = {
    "calibrate": [("tierwise.measure.bench_device", "accelerators", list),
                  ("tierwise.measure.bench_device", "check", _understood),
                  ("tierwise.measure.engines", "able", lambda modules, named=False: (modules, [], [])),
                  ("tierwise.measure.calibrate", "run", _understood)],
    "papers": [("tierwise.papers.suite", "run_all", _understood),
               ("tierwise.papers.mutations", "mutated", _understood)],
}  # fmt: skip


def _model(path: Path) -> None:
    from tierwise.models.load import load_model

    model = load_model(path)
    _ = model.parameters, model.stored_bytes


def _machine(path: Path) -> None:
    from tierwise.machines import system

    system(str(path))


def _scenario(path: Path) -> None:
    from tierwise.scenario.files import load
    from tierwise.scenario.resolve import resolve

    resolve(load(path))


def _trace(path: Path) -> None:
    from tierwise.serving import traffic

    traffic.load(path).summary()


def _corrections(path: Path) -> None:
    from tierwise.steps.corrections import read_corrections

    read_corrections(path)


def _validated(kind: str) -> Callable[[Path], None]:
    return lambda path: command(["validate", kind, str(path), "--json", "-"], path.parent)


def _run(path: Path) -> None:
    from tierwise.measure.ran import deployment
    from tierwise.measure.recorded import read_run

    run = read_run(path)
    _ = run.times, run.trace
    deployment(run, "h100-sxm")


def _folder(path: Path) -> None:
    for name, good in (("meta.json", GOOD_META), ("requests.jsonl", GOOD_ROW)):
        if path.name != name:
            path.with_name(name).write_text(json.dumps(good))
    _run(path.parent)


READERS: dict[str, Callable[[Path], None]] = {
    "config": _model, "gguf": _model, "safetensors": _model, "index": _model, "onnx": _model, "machine": _machine,
    "scenario": _scenario, "trace": _trace, "run": _run, "meta": _folder, "recording": _folder,
    "explain": lambda path: command(["explain", str(path), "--on", "h100-sxm", "--prompt", "64", "--output", "4"]),
    "chip": lambda path: command(["explain", "llama-3.2-1b", "--on", str(path), "--prompt", "64", "--output", "4"]),
    "corrections": _corrections, "saved": lambda path: command(["explain", str(path), "--json", "-"], path.parent),
    "played": lambda path: command(["simulate", str(path), "--json", "-"], path.parent),
    "table-buffers": lambda path: command(["allocate", str(path), "--time", "1s", "--json", "-"], path.parent),
    **{f"table-{kind}": _validated(kind) for kind in ("ops", "edge", "pixels", "training", "serving")},
}  # fmt: skip


def judged(target: str, data: bytes, folder: Path) -> Fault | None:
    """The fault of an input, if it is one."""
    from tierwise.core.errors import TierwiseError

    def over(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(target, data, folder)
    except (TierwiseError, OSError):
        return None
    except Exception as error:
        return Fault(target, f"{type(error).__name__} at {_place(error)}", data, traceback.format_exc())
    except Hang as error:
        return Fault(target, f"hang at {_place(error)}", data, traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return None


def _place(error: BaseException) -> str:
    """The innermost line of ours."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f"{os.sep}tierwise{os.sep}" in f.filename]
    return f"{frames[-1].filename.split('tierwise' + os.sep)[-1]}:{frames[-1].lineno}" if frames else "nowhere of ours"


def case(seed: int, number: int) -> tuple[str, bytes]:
    """The target and bytes of an input; the same for the same numbers."""
    rng = random.Random(f"{seed}/{number}")
    target = rng.choices([*SHARES], [*SHARES.values()])[0]
    known = seeds(target)
    return (target, mutate(target, rng.choice(known), rng)) if known else ("trace", b"")


def work(seed: int, start: int, stop: int, at: Any, pipe: Any, spent: Any) -> None:
    """Read inputs from ``start``; say each fault, and which input is read (``at``) in case the process ends.

    Args:
        spent: per target, in the order of :data:`SHARES`: inputs, processor seconds, the longest, the most bytes that
            one took beyond what the process held.
    """
    _limited()
    places = {target: 4 * i for i, target in enumerate(SHARES)}
    with _folder_in_memory() as folder:
        for number in range(start, stop):
            at.value = number
            target, data = case(seed, number)
            before, clock = _resident(), time.process_time()
            if fault := judged(target, data, Path(folder)):
                pipe.send((number, fault))
            took, i = time.process_time() - clock, places[target]
            spent[i : i + 4] = [spent[i] + 1, spent[i + 1] + took, max(spent[i + 2], took),
                                max(spent[i + 3], _resident("VmHWM") - before)]  # fmt: skip
    at.value = stop
    pipe.send(None)


def _folder_in_memory() -> tempfile.TemporaryDirectory[str]:
    """A folder for inputs, where there is one that no disk is behind: writing a file took longer than reading it."""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def _resident(which: str = "VmRSS") -> int:
    """Bytes that the process holds now; asked for that, the mark of the most it held starts anew."""
    with contextlib.suppress(OSError):
        if which == "VmRSS":
            Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(which))


def _limited() -> None:
    """A gigabyte beyond what the process holds now, and silence."""
    resource.setrlimit(resource.RLIMIT_DATA, (_resident("VmData") + LIMIT_BYTES, -1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(seed: int, first: int, inputs: int, told: Told, minutes: float, spent: Any = None) -> int:
    """Read inputs in a process of its own, and in another where that one ends; how many were read."""
    context = multiprocessing.get_context("fork")
    spent = context.Array("d", 4 * len(SHARES), lock=False) if spent is None else spent
    start, stop, end = first, first + inputs, time.monotonic() + 60 * minutes
    while start < stop and time.monotonic() < end:
        at = context.Value("q", start, lock=False)
        ours, theirs = context.Pipe(False)
        worker = context.Process(target=work, args=(seed, start, stop, at, theirs, spent), daemon=True)
        worker.start()
        theirs.close()
        seen, since, ended = start, time.monotonic(), False
        while time.monotonic() < end:
            if ours.poll(1.0):
                try:
                    said = ours.recv()
                except EOFError:
                    break
                if said is None:
                    ended = True
                    break
                told(said[1], said[0])
            if at.value != seen:
                seen, since = at.value, time.monotonic()
            elif time.monotonic() - since > 12 * LIMIT_S:  # asleep, or in a library that lets no signal through
                break
        over = time.monotonic() >= end
        worker.kill()
        worker.join()
        start = at.value
        if not ended and not over:
            target, data = case(seed, start)
            code = worker.exitcode
            kind = "hang in a library" if code == -signal.SIGKILL else f"process ended ({code})"
            told(Fault(target, kind, data), start)
            start += 1
    return start - first


def run_many(seed: int, first: int, inputs: int, told: Told, minutes: float, jobs: int) -> tuple[int, list[float]]:
    """:func:`run` in so many processes, each with an equal piece; how many were read, and :func:`work`'s ``spent``."""
    context = multiprocessing.get_context("fork")
    spent = [context.Array("d", 4 * len(SHARES), lock=False) for _ in range(jobs)]
    edges, queue = [first + inputs * i // jobs for i in range(jobs + 1)], context.SimpleQueue()

    def piece(i: int) -> None:
        queue.put(run(seed, edges[i], edges[i + 1] - edges[i], lambda *fault: queue.put(fault), minutes, spent[i]))

    processes = [context.Process(target=piece, args=(i,)) for i in range(jobs)]
    for process in processes:
        process.start()
    counts: list[int] = []
    while len(counts) < jobs:
        said = queue.get()
        counts.append(said) if isinstance(said, int) else told(*said)
    for process in processes:
        process.join()  # what they held most is known then
    merged = [max(values) if i % 4 > 1 else sum(values) for i, values in enumerate(zip(*spent, strict=True))]
    return sum(counts), merged


def smaller(fault: Fault, folder: Path, tries: int = 300) -> bytes:
    """A shorter input with the same fault: parts are left out as long as it stays."""
    data, size, spent = fault.data, max(len(fault.data) // 2, 1), 0
    if fault.target == "command":
        return data
    while size >= 1 and spent < tries:
        at = 0
        while at < len(data) and spent < tries:
            shorter = data[:at] + data[at + size :]
            spent += 1
            found = judged(fault.target, shorter, folder)
            if found is not None and found.kind == fault.kind:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=300_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the inputs")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--out", type=Path, help="folder for one input of each kind of fault")
    given = parser.parse_args()
    faults: dict[str, list[Any]] = {}

    def told(fault: Fault, number: int) -> None:
        known = faults.setdefault(f"{fault.target}: {fault.kind}", [0, number, fault])
        known[0] += 1
        if known[0] == 1:
            last = "".join(fault.trace.strip().splitlines()[-1:])
            print(f"{number}: {fault.target}: {fault.kind}: {last}", flush=True)

    # Everything that readers import, once, before workers are made of this process.
    with _folder_in_memory() as folder:
        read("played", seeds("played")[1], Path(folder))  # compiles the simulator, which is no hang
        for target in SHARES:
            for data in seeds(target)[:3]:
                if fault := judged(target, data, Path(folder)):
                    sys.exit(f"a valid input of {target} is a fault: {fault.kind}\n{fault.trace}")
    began = time.monotonic()
    count, tally = run_many(given.seed, given.first, given.inputs, told, given.minutes, max(given.jobs, 1))
    spent = round(time.monotonic() - began, 1)
    for kind, (times, _, fault) in faults.items():
        if given.out is not None:
            given.out.mkdir(parents=True, exist_ok=True)
            name = kind.replace("/", ".").replace(" ", "-").replace(":", "-")[:100]
            with _folder_in_memory() as folder:
                small = fault.data if "process" in kind or "hang" in kind else smaller(fault, Path(folder))
            (given.out / name).write_bytes(small)
            (given.out / f"{name}.txt").write_text(f"{times} times\n{fault.trace}")
    print(json.dumps({"inputs": count, "seed": given.seed, "seconds": spent, "inputs_per_s": round(count / spent, 1),
                      "faults": sum(v[0] for v in faults.values()), "kinds": len(faults), "largest_process_bytes":
                      resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10}, indent=1))  # fmt: skip
    for i, target in enumerate(SHARES):
        inputs, seconds, longest, most = tally[4 * i : 4 * i + 4]
        print(f"{target:15} {inputs:9,.0f} inputs {1e3 * seconds / max(inputs, 1):8.2f} ms each, longest "
              f"{longest:5.2f} s, most memory {most / 1e6:7.1f} MB")  # fmt: skip
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
