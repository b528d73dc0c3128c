"""Write networks for microcontrollers as ONNX: the four of MLPerf Tiny and MobileNetV2 at small widths.

    python examples/make_tiny_onnx.py FOLDER
    tierwise allocate FOLDER/mobilenetv2-0.3-64.onnx --on stm32h743 --patches

Image classification (ResNet-8), keyword spotting (DS-CNN), visual wake words (MobileNetV1 at a quarter) and anomaly
detection (an autoencoder) as the Keras models of mlcommons/tiny define them; MobileNetV2 (arXiv:1801.04381, table 2)
with its last layer scaled too, as mit-han-lab/mcunet has it. Needs ``pip install 'tierwise[onnx]'``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from make_small_onnx import Writer


class Tiny(Writer):
    """Convolutions with a bias and an activation."""

    def act(
        self, x: str, c: int, o: int, k: tuple[int, int], stride: int = 1, groups: int = 1, relu: bool = True
    ) -> str:
        x = self.node("Conv", [x, self.weight(o, c // groups, *k), self.weight(o)], kernel_shape=list(k),
                      strides=[stride, stride], auto_pad="SAME_UPPER", group=groups)  # fmt: skip
        return self.node("Relu", [x]) if relu else x

    def apart(self, x: str, c: int, o: int, stride: int = 1) -> str:
        return self.act(self.act(x, c, c, (3, 3), stride, c), c, o, (1, 1))

    def dense(self, x: str, c: int, o: int, out: str = "", relu: bool = False) -> str:
        x = self.node("Gemm", [x, self.weight(o, c), self.weight(o)], out=out, transB=1)
        return self.node("Relu", [x]) if relu else x

    def ended(self, x: str, c: int, classes: int, shape: list[int]) -> onnx.ModelProto:
        pooled = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        self.dense(pooled, c, classes, out="y")
        return self.model(shape, "y", [1, classes])


def image_classification() -> onnx.ModelProto:
    g = Tiny()
    x = g.act("x", 3, 16, (3, 3))
    y = g.act(g.act(x, 16, 16, (3, 3)), 16, 16, (3, 3), relu=False)
    x = g.node("Relu", [g.node("Add", [x, y])])
    for c in (32, 64):
        y = g.act(g.act(x, c // 2, c, (3, 3), 2), c, c, (3, 3), relu=False)
        x = g.node("Relu", [g.node("Add", [g.act(x, c // 2, c, (1, 1), 2, relu=False), y])])
    return g.ended(x, 64, 10, [1, 3, 32, 32])


def keyword_spotting() -> onnx.ModelProto:
    g = Tiny()
    x = g.act("x", 1, 64, (10, 4), 2)
    for _ in range(4):
        x = g.apart(x, 64, 64)
    return g.ended(x, 64, 12, [1, 1, 49, 10])


def visual_wake_words() -> onnx.ModelProto:
    g, c = Tiny(), 8
    x = g.act("x", 3, 8, (3, 3), 2)
    for o, s in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)):
        x, c = g.apart(x, c, o, s), o
    return g.ended(x, 256, 2, [1, 3, 96, 96])


def anomaly_detection() -> onnx.ModelProto:
    g, x, c = Tiny(), "x", 640
    for o in (*[128] * 4, 8, *[128] * 4):
        x, c = g.dense(x, c, o, relu=True), o
    g.dense(x, c, 640, out="y")
    return g.model([1, 640], "y", [1, 640])


def eights(v: float) -> int:
    """The multiple of 8 nearest to a width, not more than a tenth below it."""
    n = max(8, int(v + 4) // 8 * 8)
    return n + 8 if n < 0.9 * v else n


def mobilenetv2(width: float, side: int, classes: int = 1000) -> onnx.ModelProto:
    g, c = Tiny(), eights(32 * width)
    x = g.act("x", 3, c, (3, 3), 2)
    for t, wide, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                          (6, 320, 1, 1)):  # fmt: skip
        for i in range(n):
            o, stride = eights(wide * width), s if i == 0 else 1
            y = g.act(x, c, c * t, (1, 1)) if t > 1 else x
            y = g.act(g.act(y, c * t, c * t, (3, 3), stride, c * t), c * t, o, (1, 1), relu=False)
            x, c = g.node("Add", [x, y]) if stride == 1 and c == o else y, o
    last = eights(1280 * width)
    return g.ended(g.act(x, c, last, (1, 1)), last, classes, [1, 3, side, side])


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    made = {"image-classification": image_classification(), "keyword-spotting": keyword_spotting(),
            "visual-wake-words": visual_wake_words(), "anomaly-detection": anomaly_detection(),
            "mobilenetv2-0.3-64": mobilenetv2(0.3, 64), "mobilenetv2-0.35-144": mobilenetv2(0.35, 144),
            "mobilenetv2": mobilenetv2(1.0, 224)}  # fmt: skip
    for name, model in made.items():
        onnx.save(model, folder / f"{name}.onnx")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
