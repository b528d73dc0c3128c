"""What a server streams: server-sent events, and in them the pieces of an answer as OpenAI's protocol has them.

Sources: WHATWG HTML standard, section 9.2 (server-sent events); OpenAI API reference, completions and chat
completions, "stream" and "stream_options"; vLLM's ``continuous_usage_stats``.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from typing import Any

from tierwise.core.errors import TierwiseError

DONE = "[DONE]"
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call")


class Events:
    """Bytes in, as they come; the data of whole events out."""

    def __init__(self) -> None:
        self._text, self._data = "", [""][:0]
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def feed(self, data: bytes) -> list[str]:
        """The data of every event that these bytes complete; comments and other fields are left out."""
        text = self._text + self._decode(data)
        # The second half of a CR LF may still be on its way.
        held = "\r" if text.endswith("\r") else ""
        lines = text[: len(text) - len(held)].replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._text = lines.pop() + held
        found = []
        for line in lines:
            if line:
                name, _, value = line.partition(":")
                if name == "data":
                    self._data.append(value.removeprefix(" "))
            elif self._data:
                found.append("\n".join(self._data))
                self._data = []
        return found


@dataclass(frozen=True)
class AnswerEvent:
    """One event of an answer.

    Attributes:
        token: it carries tokens: text, or at least a token that prints nothing.
        finish: why the answer ended, "" while it goes on.
        prompt, output: tokens so far where the server says, else -1.
        cached: prompt tokens found in the server's prefix cache, where it says, else -1.
    """

    token: bool
    finish: str = ""
    prompt: int = -1
    output: int = -1
    cached: int = -1


def piece(data: str) -> AnswerEvent:
    """The piece in one event's data.

    Raises:
        TierwiseError: no JSON object; an error the server sends in the stream.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise TierwiseError(f"malformed stream: an event holds {data[:60]!r}; allowed: JSON or {DONE}") from None
    if not isinstance(found, dict):
        raise TierwiseError(f"malformed stream: an event holds {data[:60]!r}; allowed: a JSON object or {DONE}")
    if found.get("error"):
        error = found["error"]
        said = error.get("message", error) if isinstance(error, dict) else error
        raise TierwiseError(f"the server broke off: {str(said)[:300]}")
    choices = found.get("choices") or [{}]
    choice = choices[0] if isinstance(choices, list) and isinstance(choices[0], dict) else {}
    finish = choice.get("finish_reason") or ""
    return AnswerEvent(_token(choice, finish), str(finish), *_usage(found.get("usage")))


def _token(choice: dict[str, Any], finish: object) -> bool:
    """Whether a choice carries tokens. The first event of a chat only names the role, the last only the reason."""
    delta = choice.get("delta")
    if isinstance(delta, dict):
        if any(delta.get(k) for k in _TEXTS):
            return True
        return "role" not in delta and "content" in delta and not finish
    return bool(choice.get("text")) or ("text" in choice and not finish)


def _usage(usage: object) -> tuple[int, int, int]:
    """Tokens of prompt and answer, and cached ones, -1 where they are not said."""
    if not isinstance(usage, dict):
        return -1, -1, -1
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    numbers = (usage.get("prompt_tokens"), usage.get("completion_tokens"), cached)
    return tuple(x if isinstance(x, int) and x >= 0 else -1 for x in numbers)  # type: ignore[return-value]
