"""Write networks for microcontrollers as ONNX: the four of MLPerf Tiny, MobileNetV2 and ProxylessNAS at small widths.

    python examples/make_tiny_onnx.py FOLDER
    tierwise allocate FOLDER/mobilenetv2-0.3-64.onnx --on stm32h743 --patches

Image classification (ResNet-8), keyword spotting (DS-CNN), visual wake words (MobileNetV1 at a quarter) and anomaly
detection (an autoencoder) as the Keras models of mlcommons/tiny define them; MobileNetV2 (arXiv:1801.04381, table 2)
and ProxylessNAS with their last layer scaled too, as mit-han-lab/mcunet has them. Needs ``pip install
'tierwise[onnx]'``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from make_small_onnx import Writer


class Tiny(Writer):
    """Convolutions with a bias and an activation; ``even``: padded alike on both sides, as PyTorch's modules are, and
    not as little as TensorFlow's."""

    def __init__(self, even: bool = False) -> None:
        super().__init__()
        self.even = even

    def act(
        self, x: str, c: int, o: int, k: tuple[int, int], stride: int = 1, groups: int = 1, relu: bool = True
    ) -> str:
        pads = {"pads": [k[0] // 2, k[1] // 2] * 2} if self.even else {"auto_pad": "SAME_UPPER"}
        x = self.node("Conv", [x, self.weight(o, c // groups, *k), self.weight(o)], kernel_shape=list(k),
                      strides=[stride, stride], group=groups, **pads)  # fmt: skip
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


def mobilenetv2(width: float, side: int) -> onnx.ModelProto:
    return inverted(width, side, [(t, wide, 3, s if i == 0 else 1) for t, wide, n, s in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
        for i in range(n)])  # fmt: skip


def proxyless(width: float, side: int) -> onnx.ModelProto:
    """ProxylessNAS for phones (arXiv:1812.00332), as osmr/imgclsmob lists its layers."""
    return inverted(width, side, [
        (1, 16, 3, 1), (3, 32, 5, 2), (3, 32, 3, 1), (3, 40, 7, 2), (3, 40, 3, 1), (3, 40, 5, 1), (3, 40, 5, 1),
        (6, 80, 7, 2), (3, 80, 5, 1), (3, 80, 5, 1), (3, 80, 5, 1), (6, 96, 5, 1), (3, 96, 5, 1), (3, 96, 5, 1),
        (3, 96, 5, 1), (6, 192, 7, 2), (6, 192, 7, 1), (3, 192, 7, 1), (3, 192, 7, 1), (6, 320, 7, 1)])  # fmt: skip


# Of mit-han-lab/mcunet's searched networks, widened by, channels, kernel, stride: mcunet-in2 as its release lists it
# (public model collections copy it), mcunet-in1 as others read it off its weights, strides by the sides that come out.
IN2 = ((1, 8, 3, 1), (3, 16, 5, 2), (6, 16, 7, 1), (5, 16, 3, 1), (5, 16, 5, 1), (5, 24, 3, 2), (6, 24, 7, 1),
       (6, 24, 5, 1), (4, 40, 7, 2), (5, 40, 5, 1), (5, 48, 3, 1), (5, 48, 5, 1), (4, 48, 3, 1), (6, 96, 5, 2),
       (4, 96, 5, 1), (3, 96, 5, 1), (4, 96, 3, 1), (5, 160, 5, 1))  # fmt: skip
IN1 = ((1, 8, 3, 1), (4, 16, 3, 2), (3, 16, 3, 1), (3, 24, 7, 2), (5, 24, 3, 1), (5, 40, 3, 2), (4, 40, 7, 1),
       (4, 48, 5, 2), (3, 48, 3, 1), (4, 48, 3, 1), (5, 96, 7, 1), (4, 96, 5, 1), (4, 96, 5, 1),
       (6, 160, 3, 1))  # fmt: skip


def mcunet(blocks: tuple[tuple[int, int, int, int], ...], side: int) -> onnx.ModelProto:
    return inverted(1.0, side, list(blocks), first=16, last=0)


def inverted(
    width: float, side: int, blocks: list[tuple[int, int, int, int]], first: int = 32, last: int = 1280
) -> onnx.ModelProto:
    """Inverted residuals (widened by, channels, kernel, stride) between a first and, if any, a last convolution."""
    g, c = Tiny(even=True), eights(first * width)
    x = g.act("x", 3, c, (3, 3), 2)
    for t, wide, k, stride in blocks:
        o = eights(wide * width)
        y = g.act(x, c, c * t, (1, 1)) if t > 1 else x
        y = g.act(g.act(y, c * t, c * t, (k, k), stride, c * t), c * t, o, (1, 1), relu=False)
        x, c = g.node("Add", [x, y]) if stride == 1 and c == o else y, o
    if last:
        x, c = g.act(x, c, eights(last * width), (1, 1)), eights(last * width)
    return g.ended(x, c, 1000, [1, 3, side, side])


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    made = {"image-classification": image_classification(), "keyword-spotting": keyword_spotting(),
            "visual-wake-words": visual_wake_words(), "anomaly-detection": anomaly_detection(),
            "mobilenetv2-0.3-64": mobilenetv2(0.3, 64), "mobilenetv2-0.35-144": mobilenetv2(0.35, 144),
            "mobilenetv2": mobilenetv2(1.0, 224), "proxyless-0.3-64": proxyless(0.3, 64),
            "proxyless-0.3-176": proxyless(0.3, 176), "mcunet-in1": mcunet(IN1, 96),
            "mcunet-in2": mcunet(IN2, 160)}  # fmt: skip
    for name, model in made.items():
        onnx.save(model, folder / f"{name}.onnx")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
