"""What a library refuses, told in our words, wherever the library puts its own."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tierwise.core.refusals import brackets, json_cut, json_problem, yaml_place, yaml_problem


@pytest.mark.parametrize(
    ("text", "cut"),
    [('{"a": 1', True), ('{"a": "un', True), ('["\\"', True), ("", True), ("[1,]", False), ('{"a": 1}}', False),
     ("nope", False), ('{"a": "x\ny"}', False)],
)  # fmt: skip
def test_cut_json_is_told_from_wrong_json(text: str, cut: bool) -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(text)
    assert json_cut(caught.value) is cut
    assert json_problem(caught.value).startswith("the JSON is cut off" if cut else "not JSON: did not expect '")


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)),
       st.data())  # fmt: skip
def test_a_list_that_ends_early_is_cut(value: object, data: st.DataObject) -> None:
    text = json.dumps([value, value])
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(text[: data.draw(st.integers(1, len(text) - 1))])
    assert json_cut(caught.value)


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "a: \x07", "a: *none", "a: !!python/name:os.system x"])
def test_every_kind_of_yaml_error_has_words_of_ours(text: str) -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        yaml.safe_load(text)
    ours = yaml_problem(caught.value)
    assert ours != yaml_problem(ValueError()) and str(caught.value) not in ours
    assert yaml_place(caught.value) in (", line 1", ", line 2", "")


def test_brackets_are_counted_outside_of_quotes_and_comments() -> None:
    assert brackets("a: [[{]]} # [[[[\nb: '[[[[['\nc: \"[[[\\\"[[\"") == 3
    assert brackets("[" * 5000) == 5000 and brackets("") == 0
