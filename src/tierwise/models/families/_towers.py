"""Image and audio towers read from their fields alone, for multimodal models that no family builds.

Understood: vision transformers over patches (learned or rotary positions, MLPs of two or three maps) with a projector
to the text model's width, and audio encoders of Whisper's shape. What the fields do not say is taken as most towers
have it: biases, pre-norms, a projector of two maps over merged patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tierwise.core.errors import TierwiseError
from tierwise.models.blocks.common import Linear, Norm, Projection
from tierwise.models.blocks.conv import Conv
from tierwise.models.blocks.ends import Embedding
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.patch import Merger, PatchEmbed
from tierwise.models.config import Config
from tierwise.models.defaults import counted
from tierwise.models.families._common import depth
from tierwise.models.families._encoder import patches
from tierwise.models.families._tower import tower
from tierwise.models.types import Block, Stack

IMAGES = ("vision_config", "visual_config", "image_config")
AUDIO = ("audio_config", "speech_config")
_HIDDEN = ("embed_dim", "hidden_size", "width", "d_model")
_LAYERS = ("num_hidden_layers", "depth", "encoder_layers", "num_layers", "layers")
_HEADS = ("num_attention_heads", "num_heads", "encoder_attention_heads", "attention_heads", "heads")
_INNER = ("intermediate_size", "mlp_dim", "encoder_ffn_dim", "ffn_dim")
# Towers whose wide MLP is the projector's.
_GLM = ("glm4v", "glm46v", "glmga")
# Towers whose projector squares the merged width, as Qwen's; others go to the text model's width at once.
_SQUARE = ("qwen", "video_llama_3", "paddleocr", "exaone4_5", "ernie4_5", "hyperclovax", "cohere_compass")


def towers(c: Config, text_hidden: float) -> tuple[list[Stack], list[str]]:
    """(stacks that run before the text model, what to tell the user of every section of a tower).

    Args:
        c: the whole configuration. ``text_hidden``: width of the text model.
    """
    stacks, notes = [], []
    kinds = ((IMAGES, _image, "an image tower"),
             (AUDIO, _audio, "an audio encoder like Whisper's"))
    for names, build, label in kinds:
        for name in names:
            if not isinstance(c.data.get(name), Mapping) or not c.data[name]:
                continue
            try:
                stacks.append(build(c, c.section(name), text_hidden))
                notes.append(f"{name} read by its fields as {label} and a projector")
            except TierwiseError:
                notes.append(f"{name} left out: it lacks the fields of {label}")
    return stacks, notes


def _kind(v: Config) -> str:
    return v.text("model_type", default="")


def _of(v: Config, outer: Config, group: tuple[str, ...]) -> bool:
    """Whether the tower, or the model around it where it does not say, is of one of some groups of types."""
    kind = _kind(v) or outer.text("model_type", default="")
    return kind.startswith(group)


def _known(c: Config, v: Config) -> dict[str, bool]:
    """What the code of the tower's type says and its fields do not: three maps of an MLP, biases, a table of positions.
    The class around it may fix that type, whatever the section calls itself."""
    name = v.path.rstrip(".").split(".")[-1]
    kinds = (c.defaults.sections.get(name, ""), _kind(v), c.defaults.usual.get(name, ""),
             c.text("model_type", default=""))  # fmt: skip
    found: dict[str, bool] = next((t for k in kinds if (t := counted().get(k, {}).get("tower"))), {})
    return found


def _side(v: Config, *names: str) -> float:
    """A side in pixels; the first of two."""
    value = v.raw(*names)
    return v.but(**{names[0]: value[0]}).size(names[0]) if isinstance(value, list) and value else v.size(*names)


def _image(c: Config, v: Config, text_hidden: float) -> Stack:
    hidden, patch = v.size(*_HIDDEN), _side(v, "patch_size")
    own = _known(c, v)
    gated = own.get("gated", v.text("hidden_act", default="") in ("silu", "swish"))
    inner = v.size(*_INNER, default=None) or hidden * v.ratio("mlp_ratio", default=4.0)
    if _of(v, c, _GLM):  # its wide MLP is the projector's
        inner = v.size("out_hidden_size", default=text_hidden)
    heads = v.size(*_HEADS)
    side = _side(v, "image_size") if v.has("image_size") else None
    tokens = v.size("num_position_embeddings", "num_patches", default=patches(v, side, patch) if side else 1024.0)
    rows = tokens if own.get("table", True) else 0.0
    merge = _merge(c, v)
    bias = own.get("bias", True)
    frames = v.size("temporal_patch_size", default=1.0)
    return tower(
        hidden,
        heads,
        inner,
        depth(v, *_LAYERS),
        kv_heads=v.size("num_key_value_heads", default=heads),
        before=[PatchEmbed(v.size("num_channels", "in_channels", "in_chans", default=3.0), patch, hidden, rows,
                           frames=frames, bias=bias)],
        after=[Norm(hidden, bias, "final_norm"), *_projector(c, v, hidden, merge, text_hidden)],
        tokens=tokens,
        patch=patch,
        gated=gated,
        bias=bias,
    )  # fmt: skip


def _merge(c: Config, v: Config) -> float:
    """Patches along a side that become one token of the text model."""
    own = v.size("spatial_merge_size", "merge_size", default=None)
    if own is not None:
        return own
    whole = c.size("spatial_merge_size", "scale_factor", "downsample_factor", default=None)
    ratio = c.ratio("downsample_ratio", default=1.0)
    return whole if whole is not None else max(round(1.0 / ratio), 1) if ratio > 0.0 else 1.0


def _projector(c: Config, v: Config, hidden: float, merge: float, text: float) -> list[Block]:
    if _of(v, c, _SQUARE):
        return [Merger(hidden, merge, v.size("out_hidden_size", default=text))]
    wide, ratio = hidden * merge**2, 1.0 / merge**2
    if _of(v, c, _GLM):
        out = v.size("out_hidden_size", default=text)
        maps = [Linear("downsample", wide, out, True, "vision"), Linear("projector", out, out, False, "vision")]
        gated = MLP(out, v.size(*_INNER), role="vision", name="projector.mlp")
        return [*(Projection(m, ratio) for m in maps), gated]
    first = Projection(Linear("projector_1", wide, text, True, "vision"), ratio)
    return [first, Projection(Linear("projector_2", text, text, True, "vision"), ratio)]


def _audio(c: Config, a: Config, text_hidden: float) -> Stack:
    hidden, frames = a.size("d_model", "hidden_size"), a.size("max_source_positions", default=1500.0)
    bins = a.size("num_mel_bins")
    convs = [Conv("conv1", bins, hidden, 3.0, scale=2.0, rank=1, bias=True),
             Conv("conv2", hidden, hidden, 3.0, 2.0, rank=1, bias=True)]  # fmt: skip
    n, heads = depth(a, *_LAYERS), a.size(*_HEADS)
    # Weights that are there; no workload sends clips to a text model yet.
    body = tower(hidden, heads, a.size(*_INNER), n, before=[*convs, Embedding(frames, hidden, "position")],
                 after=[Norm(hidden, True, "final_norm"),
                        Projection(Linear("projector_1", hidden, text_hidden, True, "vision"))],
                 tokens=frames, patch=0.0)  # fmt: skip
    return replace(body, name="audio", stream="clip")
