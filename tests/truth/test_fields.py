"""A field of a configuration dropped or changed: the count of `transformers`, or a word about the field."""

from __future__ import annotations

import importlib.util
from collections import Counter
from itertools import islice

import pytest

if any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
    pytest.skip("torch and transformers are not installed: pip install tierwise[truth]", allow_module_level=True)

import fields
import reference

pytestmark = pytest.mark.truth

EVERY = 23  # of all changes, one in so many: a prime, so that kinds of change and fields both vary


def test_no_field_makes_a_silent_difference(capsys: pytest.CaptureFixture[str]) -> None:
    if not reference.SHARED.is_dir():
        pytest.skip("no recorded configurations")
    every = [(name, data, *change) for name, data in fields.configurations() for change in fields.changes(data)]
    rows = [fields.outcome(*case) for case in islice(every, 0, None, EVERY)]
    counts = Counter(row.outcome for row in rows)
    with capsys.disabled():
        print(f"\n{len(rows)} of {len(every)} changes of one field: {dict(counts)}")
    assert counts["equal"] > len(rows) // 2, "most changes have to be comparable"
    assert not [row for row in rows if row.outcome == "silent"]
