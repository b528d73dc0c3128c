"""Ten networks as graphs of operators over tensors in 8 bits: images of 224 pixels a side, clips of sixteen such.

A norm and an activation function right behind a product or a convolution belong to it; sums, joins, pools, scalings,
a softmax, and a norm that stands before a product are operators of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tierwise.papers.base import GraphBuilder, OperatorGraph


@dataclass(frozen=True)
class Map:
    """A tensor: its number, channels, positions a side, frames."""

    tensor: int
    channels: float
    side: float
    frames: float = 1.0


class Network:
    """A network as its operators are listed."""

    def __init__(self) -> None:
        self.built = GraphBuilder()

    def image(self, channels: float = 3.0, side: float = 224.0, frames: float = 1.0) -> Map:
        return Map(self.built.source("image", channels * side**2 * frames), channels, side, frames)

    def put(self, name: str, reads: Sequence[Map], out: Map) -> Map:
        bytes_ = out.channels * out.side**2 * out.frames
        return replace(out, tensor=self.built.operator(name, [m.tensor for m in reads], bytes_))

    def conv(self, x: Map, channels: float, stride: float = 1.0, in_time: float = 1.0) -> Map:
        """A convolution that keeps its grid, or a coarser one."""
        side, frames = -(-x.side // stride), -(-x.frames // in_time)
        return self.put("conv", [x], replace(x, channels=channels, side=side, frames=frames))

    def pool(self, x: Map, stride: float = 1.0, in_time: float = 1.0) -> Map:
        return self.put("pool", [x], replace(x, side=-(-x.side // stride), frames=-(-x.frames // in_time)))

    def norm(self, x: Map) -> Map:
        return self.put("norm", [x], x)

    def add(self, x: Map, y: Map) -> Map:
        return self.put("add", [x, y], x)

    def scale(self, x: Map, by: Map) -> Map:
        return self.put("scale", [x, by], x)

    def join(self, maps: Sequence[Map]) -> Map:
        if len(maps) == 1:
            return maps[0]
        return self.put("join", maps, replace(maps[0], channels=sum(m.channels for m in maps)))

    def mean(self, x: Map) -> Map:
        return self.put("mean", [x], replace(x, side=1.0, frames=1.0))

    def resize(self, x: Map, side: float) -> Map:
        return self.put("resize", [x], replace(x, side=side))

    def listed(self) -> OperatorGraph:
        return self.built.listed()


def _residual(n: Network, dilated: bool = False, widened: float = 1.0) -> Map:
    """ResNet-50 (arXiv:1512.03385) up to its last stage, its last two on the grid of the second where dilated."""
    x = n.pool(n.conv(n.image(), 64, 2), 2)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width, out = 64.0 * 2**stage * widened, 256.0 * 2**stage
        for block in range(blocks):
            stride = 2 if block == 0 and stage and not (dilated and stage > 1) else 1
            y = n.conv(n.conv(n.conv(x, width), width, stride), out)
            x = n.add(y, n.conv(x, out, stride) if block == 0 else x)
    return x


def resnet50() -> OperatorGraph:
    n = Network()
    n.conv(n.mean(_residual(n)), 1000)
    return n.listed()


def resnext50() -> OperatorGraph:
    """32 groups of 4 channels (arXiv:1611.05431): twice the width."""
    n = Network()
    n.conv(n.mean(_residual(n, widened=2.0)), 1000)
    return n.listed()


def fcn() -> OperatorGraph:
    """On a dilated ResNet-50 (torchvision, fcn_resnet50)."""
    n = Network()
    x = _residual(n, dilated=True)
    n.resize(n.conv(n.conv(x, 512), 21), 224)
    return n.listed()


def deeplab() -> OperatorGraph:
    """DeepLabV3 (arXiv:1706.05587) on a dilated ResNet-50: five ways side by side."""
    n = Network()
    x = _residual(n, dilated=True)
    ways = [n.conv(x, 256) for _ in range(4)]
    ways.append(n.resize(n.conv(n.mean(x), 256), x.side))
    n.resize(n.conv(n.conv(n.conv(n.join(ways), 256), 256), 21), 224)
    return n.listed()


# MobileNetV3-Large (arXiv:1905.02244, table 1): widened to, channels, with a gate, stride.
MOBILE = (
    (16, 16, 0, 1), (64, 24, 0, 2), (72, 24, 0, 1), (72, 40, 1, 2), (120, 40, 1, 1), (120, 40, 1, 1), (240, 80, 0, 2),
    (200, 80, 0, 1), (184, 80, 0, 1), (184, 80, 0, 1), (480, 112, 1, 1), (672, 112, 1, 1), (672, 160, 1, 1),
    (960, 160, 1, 1), (960, 160, 1, 1),
)  # fmt: skip


def lraspp() -> OperatorGraph:
    """LR-ASPP (the same paper, section 6.4) on MobileNetV3-Large, its last stage dilated."""
    n = Network()
    x = n.conv(n.image(), 16, 2)
    fine = x
    for i, (inner, out, gated, stride) in enumerate(MOBILE):
        y = n.conv(x, inner) if inner != x.channels else x
        y = n.conv(y, inner, stride)
        if gated:
            y = n.scale(y, n.conv(n.conv(n.mean(y), inner / 4), inner))
        y = n.conv(y, out)
        x = n.add(y, x) if stride == 1 and out == x.channels else y
        fine = x if i == 3 else fine
    x = n.conv(x, 960)
    x = n.resize(n.scale(n.conv(x, 128), n.conv(n.mean(x), 128)), fine.side)
    n.resize(n.add(n.conv(fine, 21), n.conv(x, 21)), 224)
    return n.listed()


def densenet121() -> OperatorGraph:
    """DenseNet-121 (arXiv:1608.06993): each layer reads all before it in its block, joined and normed."""
    n = Network()
    x = n.pool(n.conv(n.image(), 64, 2), 2)
    for block, layers in enumerate((6, 12, 24, 16)):
        found = [x]
        for _ in range(layers):
            found.append(n.conv(n.conv(n.norm(n.join(found)), 128), 32))
        x = n.norm(n.join(found))
        if block < 3:
            x = n.pool(n.conv(x, x.channels / 2), 2)
    n.conv(n.mean(x), 1000)
    return n.listed()


def r2plus1d() -> OperatorGraph:
    """R(2+1)D-18 (arXiv:1711.11248): convolutions over space, then over time."""
    n = Network()
    x = n.conv(n.conv(n.image(frames=16.0), 45, 2), 64)
    for stage in range(4):
        out = 64.0 * 2**stage
        for block in range(2):
            stride = 2 if block == 0 and stage else 1
            between = x.channels * out * 27 // (x.channels * 9 + 3 * out)
            y = n.conv(n.conv(x, between, stride), out, 1, stride)
            y = n.conv(n.conv(y, between), out)
            x = n.add(y, n.conv(x, out, stride, stride) if stride == 2 else x)
    n.conv(n.mean(x), 400)
    return n.listed()


# S3D (arXiv:1712.04851, as GoogLeNet's): of each block the channels of its ways, two with one before; None: a pool.
INCEPTION: tuple[tuple[float, ...] | None, ...] = (
    (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), None, (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64), (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128), None, (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
)  # fmt: skip


def s3d() -> OperatorGraph:
    n = Network()

    def separable(x: Map, channels: float, stride: float = 1.0) -> Map:
        return n.conv(n.conv(x, channels, stride), channels, 1, stride)

    x = n.pool(separable(n.image(frames=16.0), 64, 2), 2)
    x = n.pool(separable(n.conv(x, 64), 192), 2)
    for ways in INCEPTION:
        if ways is None:
            x = n.pool(x, 2, 2)
            continue
        a, b, c, d, e, f = ways
        x = n.join([n.conv(x, a), separable(n.conv(x, b), c), separable(n.conv(x, d), e), n.conv(n.pool(x), f)])
    n.mean(n.conv(n.pool(x), 400))
    return n.listed()


class Tokens:
    """A transformer as its operators are listed; tensors by number."""

    def __init__(self, width: float, heads: float) -> None:
        self.built, self.width, self.heads = GraphBuilder(), width, heads

    def rows(self, name: str, reads: Sequence[int], tokens: float, wide: float | None = None) -> int:
        return self.built.operator(name, reads, tokens * (wide or self.width))

    def attention(self, x: int, tokens: float, memory: int | None = None, there: float | None = None) -> int:
        """Projections, scores, softmax, mix and the projection behind; over another sequence where one is given."""
        there = there or tokens
        if memory is None:
            query = keys = self.rows("project", [x], tokens, 3 * self.width)
        else:
            query, keys = self.rows("project", [x], tokens), self.rows("project", [memory], there, 2 * self.width)
        scores = self.built.operator("scores", [query, keys], self.heads * tokens * there)
        shares = self.built.operator("softmax", [scores], self.heads * tokens * there)
        return self.rows("project", [self.rows("mix", [shares, keys], tokens)], tokens)

    def feed_forward(self, x: int, tokens: float) -> int:
        return self.rows("linear", [self.rows("linear", [x], tokens, 4 * self.width)], tokens)

    def behind(self, x: int, y: int, tokens: float) -> int:
        """A sum and the norm behind it."""
        return self.rows("norm", [self.rows("add", [x, y], tokens)], tokens)


def transformer(tokens: float = 128.0) -> OperatorGraph:
    """The base model of arXiv:1706.03762: six layers of each kind."""
    n = Tokens(512.0, 8.0)
    source, x = n.built.source("source", tokens * n.width), n.built.source("target", tokens * n.width)
    for _ in range(6):
        source = n.behind(source, n.attention(source, tokens), tokens)
        source = n.behind(source, n.feed_forward(source, tokens), tokens)
    source = n.rows("norm", [source], tokens)
    for _ in range(6):
        x = n.behind(x, n.attention(x, tokens), tokens)
        x = n.behind(x, n.attention(x, tokens, source), tokens)
        x = n.behind(x, n.feed_forward(x, tokens), tokens)
    n.rows("norm", [x], tokens)
    return n.built.listed()


def vit() -> OperatorGraph:
    """ViT-B/16 (arXiv:2010.11929)."""
    n, tokens = Tokens(768.0, 12.0), 197.0
    patches = n.rows("conv", [n.built.source("image", 3 * 224.0**2)], 196.0)
    x = n.rows("add", [n.rows("join", [patches], tokens)], tokens)
    for _ in range(12):
        x = n.rows("add", [x, n.attention(n.rows("norm", [x], tokens), tokens)], tokens)
        x = n.rows("add", [x, n.feed_forward(n.rows("norm", [x], tokens), tokens)], tokens)
    n.rows("linear", [n.rows("norm", [x], tokens)], 1.0, 1000.0)
    return n.built.listed()


TEN: dict[str, Callable[[], OperatorGraph]] = {
    "ResNet-50": resnet50, "DenseNet-121": densenet121, "ResNeXt-50": resnext50, "R(2+1)D-18": r2plus1d, "S3D": s3d,
    "FCN": fcn, "L-RASPP": lraspp, "DeepLabV3": deeplab, "Transformer": transformer, "ViT": vit,
}  # fmt: skip
