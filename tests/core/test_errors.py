"""Errors that help: the closest valid names, each once."""

from tierwise.core.errors import BadField, UnknownName, nearest


def test_one_letter_off_comes_first() -> None:
    assert nearest("h100-sxn", ["h100-sxm", "h100-pcie", "h200-sxm", "a100"])[0] == "h100-sxm"


def test_spellings_of_one_name_count_once() -> None:
    assert nearest("rtx4091", ["rtx-4090", "rtx4090", "rtx_4090"]).count("rtx-4090") == 1
    assert len(nearest("rtx4091", ["rtx-4090", "rtx4090"])) == 1


def test_nothing_close_is_not_invented() -> None:
    assert nearest("zzzzqqq", ["llama", "mixtral"]) == []
    assert "did you mean" not in str(UnknownName("model", "zzzzqqq", ["llama"]))


def test_long_values_are_cut() -> None:
    assert len(str(BadField("f.json", "x", "y" * 10_000, "less"))) < 200
