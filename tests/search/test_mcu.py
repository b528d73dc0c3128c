"""Networks on microcontrollers: patches hold less, compute the halo again, and cost what is computed again."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tierwise.cli import main
from tierwise.core.errors import TierwiseError
from tierwise.core.numerics import fmt
from tierwise.memory.patches import Window, cuts, in_place, least_room, patched, regions, shapes
from tierwise.memory.tensors import graph, model_ops
from tierwise.models.load import load_model
from tierwise.scenario.types import Plan
from tierwise.search.mcu import on_chip

onnx = pytest.importorskip("onnx")


def mobilenet(path: Path, width: float, side: int, classes: int = 1000) -> Path:
    """MobileNetV2 (arXiv:1801.04381, table 2) at a width; widths are whole eights."""
    from onnx import TensorProto, helper

    nodes, weights = [], []

    def weight(*shape: int) -> str:
        name = f"w{len(weights)}"
        t = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        t.external_data.add(key="location", value="weights.bin")
        weights.append(t)
        return name

    def node(op: str, ins: list[str], out: str = "", **attributes: object) -> str:
        nodes.append(helper.make_node(op, ins, [out or f"t{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    def conv(x: str, c: int, o: int, k: int, stride: int = 1, groups: int = 1, relu: bool = True) -> str:
        x = node("Conv", [x, weight(o, c // groups, k, k), weight(o)], kernel_shape=[k, k], strides=[stride] * 2,
                 auto_pad="SAME_UPPER", group=groups)  # fmt: skip
        return node("Relu", [x]) if relu else x

    def eights(v: float) -> int:
        n = max(8, int(v + 4) // 8 * 8)
        return n + 8 if n < 0.9 * v else n

    c = eights(32 * width)
    x = conv("x", 3, c, 3, 2)
    for t, o, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                       (6, 320, 1, 1)):  # fmt: skip
        for i in range(n):
            o_here, stride = eights(o * width), s if i == 0 else 1
            y = conv(x, c, c * t, 1) if t > 1 else x
            y = conv(conv(y, c * t, c * t, 3, stride, c * t), c * t, o_here, 1, relu=False)
            x, c = node("Add", [x, y]) if stride == 1 and c == o_here else y, o_here
    last = eights(1280 * width)
    x = node("Flatten", [node("GlobalAveragePool", [conv(x, c, last, 1)])])
    node("Gemm", [x, weight(classes, last), weight(classes)], out="y", transB=1)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
            for n, s in (("x", [1, 3, side, side]), ("y", [1, classes]))]  # fmt: skip
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mobilenet(tmp_path_factory.mktemp("mcu") / "mobilenetv2.onnx", 1.0, 224)


def test_rows_that_a_patch_needs_have_their_halo() -> None:
    assert Window(3, 1, 1).needs((4, 8), 16) == (3, 9)
    assert Window(3, 2, 0).needs((0, 4), 8) == (0, 8)
    assert Window(3, 1, 1).needs((0, 16), 16) == (0, 16)


def test_patches_of_mobilenet_hold_as_much_less_as_published(full: Path) -> None:
    ops = model_ops(load_model(str(full)), Plan())
    g = in_place(graph(ops, fmt("int8")), ops)
    s = shapes(ops, g, 1.0)
    # The largest layer, 112x112x16 in and 112x112x96 out: 1372 KiB in figure 1 of MCUNetV2 (arXiv:2110.15352).
    assert least_room(g) == 112 * 112 * (16 + 96) == 1372 * 1024
    few = list(cuts(g, len(s.windows)))
    assert few and len(s.windows) == len(g.tasks) - 2  # all but the pooling and the classifier
    stage = next(c for c in few if s.sides[g.tasks[c - 1].writes[0]][1] == 28)
    one = patched(g, s, stage, 1, image_outside=True)
    assert one.again == tuple([1.0] * stage) and one.patch_peak <= 1372 * 1024 + g.size[g.tasks[stage - 1].writes[0]]
    by_grid = [patched(g, s, stage, p, image_outside=True) for p in (2, 4, 7)]
    assert all(a.patch_peak > b.patch_peak for a, b in itertools.pairwise(by_grid))
    assert all(sum(a.again) < sum(b.again) for a, b in itertools.pairwise(by_grid))
    assert all(f >= 1.0 for x in by_grid for f in x.again)
    # With the image in the arena a patch holds it too.
    inside = patched(g, s, stage, 4, image_outside=False)
    assert inside.patch_peak >= patched(g, s, stage, 4, image_outside=True).rest_peak
    # Patches cover the result once and their operands wholly.
    rows = [regions(g, s, stage, (k * 7, (k + 1) * 7))[g.tasks[0].reads[0]] for k in range(4)]
    assert rows[0][0] == 0 and rows[-1][1] == 224
    assert all(a[1] >= b[0] for a, b in itertools.pairwise(rows))


def test_small_networks_need_no_patches(tmp_path: Path) -> None:
    found = on_chip(str(mobilenet(tmp_path / "small.onnx", 0.35, 144)), "stm32h743")
    assert found.split is None and found.fits and found.time == found.whole_time
    # mit-han-lab/mcunet: 308 kB of SRAM, 0.75 M parameters.
    assert found.whole == pytest.approx(308e3, rel=0.1) and found.flash == pytest.approx(0.75e6, rel=0.02)


def test_patches_are_those_that_fit_with_the_least_time(full: Path) -> None:
    large, small = on_chip(str(full), "stm32h743"), on_chip(str(full), "stm32f746")
    for x in (large, small):
        assert x.split is not None and x.arena <= x.sram < x.whole and x.time > x.whole_time and x.again > 1.0
    assert small.arena <= large.arena and small.again >= large.again
    # Its 3.5 M weights are more than the flash.
    assert not large.fits and large.flash > large.flash_room


def test_what_the_command_says(full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.json"
    with pytest.raises(SystemExit) as left:
        main(["allocate", str(full), "--on", "stm32h743", "--patches", "--image-outside", "--json", str(out)])
    assert not left.value.code and "flash" in capsys.readouterr().out
    d = json.loads(out.read_text())
    assert d["status"] == "too-large" and d["arena"] <= d["sram"] and d["patches"]["grid"] > 1
    for args in (("--patches",), ("--image-outside", "--on", "stm32h743"), ("--patches", "--on", "h100-sxm")):
        with pytest.raises(SystemExit) as left:
            main(["allocate", str(full), *args])
        assert left.value.code == 2


def test_only_microcontrollers_are_asked(full: Path) -> None:
    with pytest.raises(TierwiseError, match="microcontrollers"):
        on_chip(str(full), "npu-1MB-sram")
