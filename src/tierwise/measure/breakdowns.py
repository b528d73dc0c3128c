"""The memory account beside the lines in which llama.cpp breaks a device's memory down (llama_memory_breakdown_print).

A table has the columns ``device, model, setting, model_mib, context_mib, compute_mib``, a row a line; ``model`` is a
name and a format, and what else it or ``setting`` says of the run.
"""

from __future__ import annotations

import re

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.measure.buffers import MIB, BufferAnswers, account_of
from tierwise.measure.columns import Table
from tierwise.measure.edge_rows import RefusedRows

COLUMNS = ("device", "model", "setting", "model_mib", "context_mib", "compute_mib")
_CONTEXT = re.compile(r"(?:^|\s)-c (\d+)\b|\((\d+)\)")
# What a row says that the account of one device with everything on it does not answer.
_ELSEWHERE = re.compile(r"--fit|exps=CPU|\d+/\d+ layers|#\d of \d")


def check(table: Table) -> BufferAnswers:
    """Every line's sizes beside the account of the same model, format and context; zeros and what a line does not
    state (its context, how much lies elsewhere) are left out."""
    found: list[tuple[str, str, float, float]] = []
    refused = []
    for i, text in enumerate(str(x) for x in table["model"]):
        said = f"{text} {table['setting'][i]}"
        words = text.split()
        at = next((float(a or b) for a, b in _CONTEXT.findall(said)), None)
        try:
            if len(words) < 2 or words[0].startswith("("):
                raise TierwiseError(f"row {i}: {text!r} names no model with a format")
            kv = re.search(r"\bKV (\w+)", said)
            account = account_of(words[0].lower(), words[1], at or 1024.0, 512.0, True, kv[1] if kv else "fp16")
        except TierwiseError as error:
            refused.append(RefusedRows(np.asarray([i]), str(error)[:160]))
            continue
        # Its repacked buffers hold the matrices of the layers and nothing else (ggml-hexagon).
        weights = "products" if str(table["device"][i]).startswith("HTP") else "weights"
        sizes = {"weights": (weights, "model_mib"), "caches": ("caches", "context_mib"),
                 "compute": ("compute", "compute_mib")}  # fmt: skip
        for what, (key, column) in sizes.items():
            printed = float(table[column][i]) * MIB
            told = what == "weights" or at is not None
            if printed > 0.0 and told and (what == "caches" or not _ELSEWHERE.search(said)):
                found.append((what, text[:30], printed, account[key]))
    columns = list(zip(*found, strict=True)) if found else [(), (), (), ()]
    return BufferAnswers(np.asarray(columns[0], str), np.asarray(columns[1], str), np.asarray(columns[2], float),
                  np.asarray(columns[3], float), tuple(refused))  # fmt: skip
