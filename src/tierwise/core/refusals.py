"""What a library refuses to read, told in our words: theirs change with every release."""

from __future__ import annotations

import json
import re

# Of a YAML error by the name of its class (stable where its sentences are not).
_YAML = {
    "ReaderError": "it holds a character that YAML does not allow",
    "ScannerError": "the text breaks off or is not spelled as YAML here (quotes, colons, tabs, indents)",
    "ParserError": "a bracket is not closed, an indent is off, or a part is missing here",
    "ComposerError": "there is more than one document, or an alias to nothing",
    "ConstructorError": "a tag or a key is not plain data",
}
# The start of a JSON word, number or escape.
_BEGUN = re.compile(r"-|t(ru?)?|f(a(ls?)?)?|n(ul?)?|\\?u[0-9a-fA-F]{0,4}")
_QUOTED_OR_COMMENT = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|(?:^|\s)#[^\n]*", re.DOTALL)


def yaml_problem(error: BaseException) -> str:
    """What a YAML parser found wrong; any other error while reading values is a value that cannot be."""
    return _YAML.get(type(error).__name__, "a value cannot be read, such as a date that is none")


def yaml_place(error: BaseException) -> str:
    """``", line 3"`` where a YAML error says at which line; else nothing."""
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}" if mark else ""


def json_problem(error: json.JSONDecodeError) -> str:
    """What is wrong with a JSON text at the place its error names."""
    if json_cut(error):
        return "the JSON is cut off"
    return f"not JSON: did not expect {error.doc[error.pos : error.pos + 1]!r}"


def json_cut(error: json.JSONDecodeError) -> bool:
    """Whether the text ends before its value does: at the place of the error, in a word or escape that starts there, or
    in a string that never closes."""
    rest = error.doc[error.pos :].rstrip()
    if not rest or _BEGUN.fullmatch(rest):
        return True
    # An unclosed string is reported where it starts; what follows its quote holds no other one.
    return error.doc[error.pos] == '"' and not re.match(r'"(?:[^"\\]|\\.)*"', rest, re.DOTALL)


def brackets(text: str) -> int:
    """The deepest nesting of brackets outside of quotes and comments."""
    deepest = depth = 0
    for mark in re.findall(r"[\[\]{}]", _QUOTED_OR_COMMENT.sub(" ", text)):
        depth += 1 if mark in "[{" else -1
        deepest = max(deepest, depth)
    return deepest
