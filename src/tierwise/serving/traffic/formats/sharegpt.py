"""ShareGPT-style conversations: JSON list (or lines) of {"conversations": [{"from", "value"}]}, or of {"messages":
[{"role", "content"}]}.

Tokens are estimated from the text. Each turn follows the answer before it and repeats its history; the file knows no
times, so all conversations begin at 0 s (``arriving`` gives them other starts, and think times).
Source: https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered as read by vLLM's ShareGPTDataset
(vllm/benchmarks/datasets.py); messages: https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.jsontext import at, text
from tierwise.serving.traffic.blocks import BLOCK, session_blocks
from tierwise.serving.traffic.formats import _estimate
from tierwise.serving.traffic.formats._jsonl import objects, source
from tierwise.serving.traffic.rows import Rows, built
from tierwise.serving.traffic.trace import Trace

NEEDS = ("conversations",)
ANSWERS = frozenset({"gpt", "assistant", "chatgpt", "bard", "bing", "model"})


def sniff(path: Path, head: str) -> bool:
    """Whether it is JSON that begins with a conversation."""
    start = head.lstrip()
    return start.startswith(("[", "{")) and ('"conversations"' in start or '"messages"' in start)


@dataclass
class _Turns:
    """Texts in front of each answer since the last one, the answers, and whose they are; a place in the file each."""

    asked: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    owner: list[int] = field(default_factory=list)
    broken: list[tuple[int, str]] = field(default_factory=list)
    open: int = 0


def read(path: Path) -> Trace:
    """Every turn that was answered."""
    turns = _Turns()
    for i, (talk, why) in enumerate(_talks(path), 1):
        messages = talk.get("conversations", talk.get("messages")) if isinstance(talk, dict) else None
        if isinstance(messages, list):
            _add(turns, i, messages)
        else:
            turns.broken.append((i, why or "no list of conversations or messages"))
    if not turns.owner:
        reason = f": conversation {turns.broken[0][0]}: {turns.broken[0][1]}" if turns.broken else ""
        raise TierwiseError(f"{path}: no conversation has a question and its answer{reason}")
    asked, answered = _estimate.tokens(turns.asked), _estimate.tokens(turns.answered)
    place = np.array(turns.owner, np.int64)
    first = np.concatenate([[True], np.diff(place) != 0])
    session = np.cumsum(first) - 1
    grown = np.cumsum(asked + answered)
    before = grown - answered
    opened = np.flatnonzero(first)
    prompt = before - (grown - asked - answered)[opened][session]
    notices = [_estimate.notice(), "the file knows no times: every conversation begins at 0 s"]
    if turns.open:
        notices.append(f"{turns.open} questions without an answer left out")
    numbers = {"arrival": np.zeros(len(place)), "question": prompt, "answer": answered}
    blocks, start = session_blocks(prompt.astype(np.int64), session, BLOCK)
    rows = Rows(path, numbers, place, lambda name, row: f"{numbers[name][row]:g} tokens", tuple(turns.broken),
                tuple(notices), "conversation")  # fmt: skip
    after = np.where(first, -1, np.arange(len(place)) - 1)
    return built(rows, *numbers, after=after, blocks=blocks, block_start=start, block_size=BLOCK)


def _talks(path: Path) -> list[tuple[Any, str]]:
    """The conversations of a JSON list or of JSON lines, each with what is wrong with it."""
    return [(talk, why) for _, talk, why in objects(source(path))]


def _add(turns: _Turns, place: int, messages: list[Any]) -> None:
    """A conversation's turns: whatever stands before an answer is its question."""
    waiting: list[str] = []
    for message in messages:
        if not isinstance(message, dict):
            turns.broken.append((place, "a message is no JSON object"))
            return
        said, speaker = _said(message), text(message.get("from", message.get("role")))
        if not speaker:
            turns.broken.append((place, "a message has no speaker"))
            return
        if speaker in ANSWERS and waiting and said:
            turns.asked.append("".join(waiting))
            turns.answered.append(said)
            turns.owner.append(place)
            waiting = []
        elif said:
            waiting.append(said)
    turns.open += bool(waiting)


def _said(message: dict[str, Any]) -> str:
    """The text of a message; of a list of parts, theirs."""
    found = message.get("value", message.get("content"))
    return "".join(text(at(part, "text")) for part in found) if isinstance(found, list) else text(found)
