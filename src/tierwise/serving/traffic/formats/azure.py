"""Azure's LLM inference traces: CSV of TIMESTAMP, ContextTokens, GeneratedTokens.

2023 (Splitwise, ISCA 2024) writes times without a zone and seven decimals, 2024 (DynamoLLM, HPCA 2025) with
``+00:00``. Source: https://github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md and ...2024.md.
"""

from __future__ import annotations

from pathlib import Path

from tierwise.serving.traffic.formats._csv import CsvColumns, has
from tierwise.serving.traffic.rows import built
from tierwise.serving.traffic.trace import Trace

CSV = True
NEEDS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def sniff(path: Path, head: str) -> bool:
    """Whether the header names the three columns."""
    return has(head, *NEEDS)


def read(path: Path) -> Trace:
    """Every request, the first at 0 s."""
    table = CsvColumns(path)
    table.need(*NEEDS)
    time, prompt, output = NEEDS
    table.time(time)
    table.number(prompt)
    table.number(output)
    return built(table.rows(), time, prompt, output, absolute=True)
