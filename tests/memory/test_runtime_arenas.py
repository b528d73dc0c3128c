"""What runtimes of microcontrollers hold beside tensors, against networks that none of their numbers was taken from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tierwise.cli import main
from tierwise.core.errors import UnknownName
from tierwise.core.numerics import fmt
from tierwise.memory import arenas
from tierwise.memory.patches import in_place, least_room
from tierwise.memory.tensors import graph, model_ops
from tierwise.models.load import load_model
from tierwise.scenario.types import Plan
from tierwise.search.mcu import on_chip

pytest.importorskip("onnx")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

# kB of SRAM and flash on an STM32H743 (mit-han-lab/tinyengine, README, measured results). MobileNetV2 at 64 pixels
# gave what has no source; these gave none of it.
LEFT_OUT = {
    ("tinyengine", "proxyless-0.3-176"): (259, 779), ("tflite-micro", "proxyless-0.3-176"): (453, 1065),
    ("tinyengine", "mcunet-in1"): (96, 727), ("tflite-micro", "mcunet-in1"): (219, 937),
    ("tinyengine", "mcunet-in2"): (215, 830), ("cmsis-nn", "mcunet-in2"): (469, 1102),
}  # fmt: skip


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sys.path.insert(0, str(EXAMPLES))
    try:
        from make_tiny_onnx import write
    finally:
        sys.path.remove(str(EXAMPLES))
    folder = tmp_path_factory.mktemp("tiny")
    write(folder)
    return folder


@pytest.mark.parametrize(("runtime", "network"), list(LEFT_OUT))
def test_left_out_networks_come_within_a_tenth(networks: Path, runtime: str, network: str) -> None:
    found = on_chip(str(networks / f"{network}.onnx"), "stm32h743", runtime=runtime)
    sram, flash = LEFT_OUT[runtime, network]
    assert found.whole == pytest.approx(sram * 1e3, rel=0.1) and found.flash == pytest.approx(flash * 1e3, rel=0.1)


def test_the_network_that_ran_out_of_memory_does_not_fit(networks: Path) -> None:
    # The same table: MobileNetV2 at 0.35 and 144 pixels runs out of 512 kB under the interpreter; TinyEngine takes 295.
    path = str(networks / "mobilenetv2-0.35-144.onnx")
    assert on_chip(path, "stm32h743", runtime="tflite-micro").whole > 512 * 1024
    assert on_chip(path, "stm32h743", runtime="tinyengine").whole == pytest.approx(295e3, rel=0.1)


def test_paddings_are_operators_only_where_a_file_says_them(networks: Path) -> None:
    def plain_and_padded(name: str) -> tuple[int, int]:
        ops = model_ops(load_model(str(networks / f"{name}.onnx")), Plan())
        g = graph(ops, fmt("int8"))
        return least_room(g), least_room(arenas.padded(g, ops, 1.0))

    # Written by TensorFlow's rule, by name: nothing to add. In numbers: the padded copy lies beside the operand.
    plain, more = plain_and_padded("visual-wake-words")
    assert plain == more
    plain, more = plain_and_padded("mobilenetv2-0.3-64")
    assert plain == 32 * 32 * 48 + 16 * 16 * 48 and more == 32 * 32 * 48 + 34 * 34 * 48


def test_buffers_and_results_in_place_are_no_operators(networks: Path) -> None:
    """A runtime that keeps a buffer beside a kernel, or writes over an operand, runs as many operators as one that
    does neither."""
    path = str(networks / "visual-wake-words.onnx")  # its paddings are its convolutions' own
    counts = {on_chip(path, "stm32h743", runtime=r).operators for r in ("", "tinyengine", "tflite-micro", "cmsis-nn")}
    assert len(counts) == 1
    ops = model_ops(load_model(path), Plan())
    g, rules = graph(ops, fmt("int8")), arenas.load("tflite-micro")
    assert rules.sram(in_place(g, ops), ops, 1.0) == rules.sram(g, ops, 1.0)


# How many times as fast Plumerai's kernels became from MLPerf Tiny v1.0 to v1.1, visual wake words on one chip of each
# core (M7, M4, M33).
BECAME = {"stm32f746": 12.32 / 7.36, "stm32l4r5": 25.03 / 11.85, "stm32u575": 17.13 / 9.52}


@pytest.mark.parametrize("chip", list(BECAME))
def test_kernels_as_vendors_tuned_them_once_and_now(networks: Path, chip: str) -> None:
    path = str(networks / "visual-wake-words.onnx")
    then, now = (on_chip(path, chip, runtime=r).time for r in ("tuned-2022", ""))
    assert then / now == pytest.approx(BECAME[chip], rel=0.25)


def test_an_unknown_runtime_is_named(networks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownName, match="tinyengine"):
        arenas.load("tinyengin")
    path = str(networks / "keyword-spotting.onnx")
    for args in (("--runtime", "tinyengine", "--on", "stm32h743"),
                 ("--patches", "--runtime", "x", "--on", "stm32h743")):  # fmt: skip
        with pytest.raises(SystemExit) as left:
            main(["allocate", path, *args])
        assert left.value.code == 2
    main_args = ["allocate", path, "--on", "stm32h743", "--patches", "--runtime", "tflite-micro"]
    with pytest.raises(SystemExit) as left:
        main(main_args)
    assert not left.value.code and "tflite-micro" in capsys.readouterr().out
