"""Sizes of ggml's types beside those of its own Python package."""

from __future__ import annotations

import pytest

from tierwise.core.numerics import fmt
from tierwise.models.importers._gguf_header import TYPES

constants = pytest.importorskip("gguf.constants")


def test_every_type_has_the_block_that_ggml_has() -> None:
    """Each of 33 or more types, from F32 to NVFP4: so many elements in a block, so many bytes of it."""
    sizes = {t.value: size for t, size in constants.GGML_QUANT_SIZES.items()}
    # Not stored in files; the package counts its two scales as 32 bits each, ggml-common.h as 16.
    sizes.pop(constants.GGMLQuantizationType.Q8_1.value)
    ours = {t: (TYPES[t][1], TYPES[t][1] * fmt(TYPES[t][0]).bytes) for t in sizes}
    assert ours == {t: (block, pytest.approx(size)) for t, (block, size) in sizes.items()}
    assert len(ours) >= 30
