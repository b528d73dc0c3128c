"""Every catalog entry and every recorded configuration, counted against `transformers` on the meta device."""

from __future__ import annotations

import importlib.util

import pytest

if any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
    pytest.skip("torch and transformers are not installed: pip install tierwise[truth]", allow_module_level=True)

import reference

pytestmark = pytest.mark.truth

TOLERANCE = 1e-3
LEAST = 40  # comparisons without which the test has not tested much

# Published with code of their own that `transformers` does not carry; tests/models checks their published totals.
ELSEWHERE = {"chatglm", "deepseek", "mimo", "nemotron-nas", "rwkv6", "vig", "vim", "internlm2"}


def test_parameters_agree_with_transformers(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[tuple[str, float, float]] = []
    skipped: list[tuple[str, str]] = []
    for name, load, data in reference.cases():
        ours = load().parameters
        try:
            rows.append((name, float(ours), reference.count(data)))
        except reference.Unknown as reason:
            assert data["model_type"] in ELSEWHERE, f"{name}: {reason}"
            skipped.append((name, f"{reason} (ours: {ours / 1e9:.3f} B)"))
    with capsys.disabled():
        print(f"\n{'model':45s} {'ours':>16s} {'transformers':>16s} {'error':>10s}")
        for name, ours, theirs in rows:
            print(f"{name:45s} {ours:16.0f} {theirs:16.0f} {ours / theirs - 1.0:+10.1e}")
        for name, reason in skipped:
            print(f"{name:45s} {reason}")
        worst = max(rows, key=lambda r: abs(r[1] / r[2] - 1.0))
        exact = sum(ours == theirs for _, ours, theirs in rows)
        print(f"{len(rows)} compared, {exact} equal, worst {worst[1] / worst[2] - 1.0:+.1e} ({worst[0]})")
    assert len(rows) >= LEAST
    wrong = [f"{n}: {o:.0f} against {t:.0f}" for n, o, t in rows if abs(o / t - 1.0) > TOLERANCE]
    assert not wrong, "\n".join(wrong)


def test_recorded_configurations_are_there() -> None:
    if not reference.SHARED.is_dir():
        pytest.skip(f"no recorded configurations at {reference.SHARED.relative_to(reference.ROOT.parent)}")
    assert sum(1 for _ in reference.SHARED.glob("*/config.json")) >= LEAST
