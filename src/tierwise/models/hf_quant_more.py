"""Quantization sections of more producers: Quark, torchao, HQQ, MLX and Metal, AQLM, VPTQ, EXL2, EXL3, EETQ, BitNet,
HIGGS, Quanto, FP-Quant, Four Over Six, SINQ, Gemma's own.

Each reader turns a section into :class:`QuantizationRules`; which fields there are is from the configuration classes of
`transformers` (utils/quantization_config.py), AMD Quark's exports, torchao's and mlx-lm's. Widths count what is stored
beside a group: a 16-bit scale, and a 16-bit zero point where the producer has one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tierwise.core.errors import BadField
from tierwise.core.numerics import Format, fmt
from tierwise.models.config import Config


@dataclass
class QuantizationRules:
    """What a section asks for.

    Attributes:
        default: format of linear layers that nothing else names.
        kept: modules that stay in the checkpoint's dtype.
        chosen: modules with a format of their own (None: the checkpoint's), strongest first.
        ends: whether embedding and head have the default too.
    """

    default: Format | None
    kept: list[Any] = field(default_factory=list)
    chosen: list[tuple[list[str], Format | None]] = field(default_factory=list)
    ends: bool = False


def rules(q: Config, method: str) -> QuantizationRules | None:
    """The rules of a section, or None where its method is none of these."""
    reader = _READERS.get(method)
    return None if reader is None else reader(q)


def _quark(q: Config) -> QuantizationRules:
    everywhere = q.section("global_quant_config")
    chosen = [([pattern], _spec(Config(how, q.where, f"{q.path}layer_quant_config.{pattern}.", seen=q.seen)))
              for pattern, how in q.section("layer_quant_config").data.items() if isinstance(how, Mapping)]  # fmt: skip
    return QuantizationRules(_spec(everywhere), q.items("exclude", default=[]), chosen)


def _spec(of: Config) -> Format | None:
    """Quark's description of a weight; None where it is left alone."""
    found = of.raw("weight", default=None)
    if isinstance(found, list) and found:
        found = found[0]
    if not isinstance(found, Mapping):
        return None
    w = Config(found, of.where, of.path + "weight.")
    kind = w.text("dtype")
    group = w.size("group_size", default=None) if w.text("qscheme", default="") == "per_group" else None
    plain = {"fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "int8": "int8", "uint8": "int8", "fp4": "mxfp4", "mxfp4": "mxfp4",
             "float16": "fp16", "bfloat16": "bf16"}  # fmt: skip
    if kind in ("int4", "uint4"):
        return fmt(f"int4-g{group:.0f}") if group else fmt("4bit")
    if kind.startswith(("fp6", "mxfp6")):
        return Format("mxfp6", 6.0, 8.0 / 32.0, "")
    if kind not in plain:
        raise BadField(w.where, w.path + "dtype", kind, ", ".join([*plain, "int4", "uint4", "fp6_e2m3", "fp6_e3m2"]))
    return fmt(plain[kind])


def _torchao(q: Config) -> QuantizationRules:
    kept = q.items("modules_to_not_convert", default=[])
    found = q.raw("quant_type")
    how = found.get("default", found) if isinstance(found, Mapping) else found
    args = q.section("quant_type_kwargs").data
    data = how.get("_data", {}) if isinstance(how, Mapping) else {}
    by_name = data.get("module_fqn_to_config") or data.get("fqn_to_config")
    if not isinstance(by_name, Mapping):
        return QuantizationRules(_ao(q, how, args), kept)
    chosen = [([name], _ao(q, one, {}) if one else None) for name, one in by_name.items() if name != "_default"]
    return QuantizationRules(_ao(q, by_name["_default"], {}) if by_name.get("_default") else None, kept, chosen)


def _ao(q: Config, how: Any, args: Mapping[str, Any]) -> Format:
    name = str(how.get("_type", "") if isinstance(how, Mapping) else how)
    data = {**args, **(how.get("_data", {}) if isinstance(how, Mapping) else {})}
    plain = name.lower().replace("_", "").removesuffix("config")
    group = data.get("group_size", 32 if plain.startswith("int8dynamicactivation") else 128)
    if not isinstance(group, (int, float)) or isinstance(group, bool) or group < 1:
        raise BadField(q.where, q.path + "quant_type group_size", group, "a whole number of at least 1")
    if "int4" in plain:
        return fmt(f"int4-g{group:.0f}-z16")
    if plain.startswith(("float8", "fp8")):
        return fmt("fp8")
    if plain.startswith("int8"):
        return fmt("int8")
    if plain.startswith("nvfp4"):
        return fmt("nvfp4")
    raise BadField(q.where, q.path + "quant_type", name, "int4, int8, float8 or nvfp4 types of torchao")


def _hqq(q: Config) -> QuantizationRules:
    own = q.section("quant_config")
    kept = q.items("skip_modules", default=["lm_head"])

    def form(of: Config) -> Format:
        w = of.section("weight_quant_params") if of.given("weight_quant_params") else of
        bits, group = w.size("nbits", "bits"), w.size("group_size", default=64.0)
        return Format(f"hqq{bits:.0f}", bits, 32.0 / group, "")

    if own.given("weight_quant_params") or own.given("nbits"):
        return QuantizationRules(form(own), kept)
    return QuantizationRules(None, kept, [([f"model.layers.*.{name}"], form(own.section(name))) for name in own.data])


def _mlx(q: Config) -> QuantizationRules:
    chosen: list[tuple[list[str], Format | None]] = []
    for name, how in q.data.items():
        if how is False or isinstance(how, Mapping):
            q.seen.add(q.path + name)
            other = Config({**q.data, **how}, q.where, f"{q.path}{name}.", seen=q.seen) if how else None
            chosen.append(([name.replace("embed_tokens", "embed")], _affine(other) if other else None))
    return QuantizationRules(_affine(q), [], chosen, ends=True)


def _affine(q: Config) -> Format:
    bits, mode = q.size("bits", default=4.0), q.text("mode", default="affine")
    if mode != "affine":
        return fmt(mode)
    return fmt(f"int{bits:.0f}-g{q.size('group_size', default=64.0):.0f}-z16")


def _aqlm(q: Config) -> QuantizationRules:
    width = q.size("num_codebooks", default=1.0) * q.size("nbits_per_codebook", default=16.0)
    group = q.size("in_group_size", default=8.0) * q.size("out_group_size", default=1.0)
    kept = q.items("linear_weights_not_to_quantize", default=[])
    return QuantizationRules(Format("aqlm", width / group, 0.0, ""), kept)


def _exl(q: Config) -> QuantizationRules:
    head = Format("exl-head", q.ratio("head_bits", default=6.0), 0.0, "")
    return QuantizationRules(Format("exl", q.ratio("bits"), 0.0, ""), [], [(["lm_head"], head)])


def _narrow(bits: str) -> Callable[[Config], QuantizationRules]:
    return lambda q: QuantizationRules(fmt(bits), q.items("modules_to_not_convert", default=["lm_head"]))


def _quanto(q: Config) -> QuantizationRules:
    widths = {"int8": "int8", "int4": "int4-g128", "int2": "int2-g128", "float8": "fp8"}
    kind = q.text("weights", default="int8")
    if kind not in widths:
        raise BadField(q.where, q.path + "weights", kind, ", ".join(widths))
    return QuantizationRules(fmt(widths[kind]), q.items("modules_to_not_convert", default=[]))


def _higgs(q: Config) -> QuantizationRules:
    form = Format("higgs", q.size("bits", default=4.0), 16.0 / q.size("group_size", default=256.0), "")
    return QuantizationRules(form, q.items("modules_to_not_convert", default=["lm_head"]))


def _four(field_name: str, kept: str = "") -> Callable[[Config], QuantizationRules]:
    """NVFP4 or MXFP4, as a field says; ``kept``: one that says that the checkpoint's weights stay beside them."""
    def read(q: Config) -> QuantizationRules:
        kind = q.text(field_name, default="nvfp4")
        if kind not in ("nvfp4", "mxfp4"):
            raise BadField(q.where, q.path + field_name, kind, "nvfp4, mxfp4")
        form, skipped = fmt(kind), q.items("modules_to_not_convert", default=["lm_head"])
        if q.flag("pseudoquantization"):  # stored as they were, and rounded
            return QuantizationRules(None, skipped)
        if kept and q.flag(kept):
            form = Format(f"{kind}+16bit", float(form.bits) + 16.0, form.meta, form.arithmetic)
        return QuantizationRules(form, skipped)

    return read


def _metal(q: Config) -> QuantizationRules:
    return QuantizationRules(_affine(q), q.items("modules_to_not_convert", default=["lm_head"]))


def _sinq(q: Config) -> QuantizationRules:
    """A scale and a zero of 16 bits a group; the scales of the other axis, one a column, are few."""
    form = Format("sinq", q.size("nbits", default=4.0), 32.0 / q.size("group_size", default=64.0), "")
    return QuantizationRules(form, q.items("modules_to_not_convert", default=["lm_head"]))


def _gemma(q: Config) -> QuantizationRules:
    """One scale a row; modules of other widths by expressions that may match anywhere in a name."""
    def form(of: Config) -> Format:
        return fmt(f"{of.size('num_bits', default=q.size('num_bits', default=4.0)):.0f}bit")

    chosen: list[tuple[list[str], Format | None]] = []
    for name, how in q.section("module_quant_configs").data.items():
        at = f"{q.path}module_quant_configs.{name}."
        own = Config(how if isinstance(how, Mapping) else {}, q.where, at, seen=q.seen)
        chosen.append(([f"re:.*(?:{name})"], form(own)))
    kept = q.items("modules_to_not_convert", default=["lm_head"])
    ends = q.flag("quantize_embeddings")
    return QuantizationRules(form(q), kept, chosen, ends=ends)


def _vptq(q: Config) -> QuantizationRules:
    """Of each module: an index of log2(centroids) bits for every vector, twice where a residual has its own, and the
    tables of centroids in 16 bits (arXiv:2409.17066, section 3)."""
    chosen: list[tuple[list[str], Format | None]] = []
    layers = q.section("config_for_layers")
    for name in layers.data:
        one, bits, tables = layers.section(name), 0.0, 0.0
        lengths = one.sizes("vector_lens", least=-1.0)
        for field_name in ("num_centroids", "num_res_centroids"):
            for rows, length in zip(one.sizes(field_name, least=-1.0), lengths, strict=False):
                if rows > 1.0 and length > 0.0:
                    bits += math.log2(rows) / length
                    tables += 16.0 * rows * length * one.size("group_num", default=1.0)
        elements = one.size("in_features") * one.size("out_features")
        chosen.append(([name], Format("vptq", bits, tables / elements, "")))
    return QuantizationRules(None, q.items("modules_to_not_convert", default=[]), chosen)


_READERS: dict[str, Callable[[Config], QuantizationRules]] = {
    "quark": _quark, "torchao": _torchao, "hqq": _hqq, "mlx": _mlx, "aqlm": _aqlm, "exl2": _exl, "exl3": _exl,
    "eetq": _narrow("int8"), "bitnet": _narrow("2bit"), "quanto": _quanto, "higgs": _higgs,
    "nvfp4": _narrow("nvfp4"), "mxfp8": _narrow("mxfp8"), "fp_quant": _four("forward_dtype", "store_master_weights"),
    "fouroversix": _four("dtype", "keep_master_weights"), "metal": _metal, "sinq": _sinq, "gemma": _gemma,
    "vptq": _vptq,
}  # fmt: skip
METHODS = tuple(_READERS)
# Keys that no size follows from.
ASIDE = {
    "quark": {"algo_config", "export", "layer_type_quant_config", "kv_cache_group", "kv_cache_quant_config",
              "pack_method", "softmax_quant_spec", "quant_mode", "log_severity_level",
              "weight_format", "min_kv_scale", "model_type", "kv_cache_post_rope", "custom_mode",
              "global_quant_config", "layer_quant_config"},
    "torchao": {"include_input_output_embeddings", "untie_embedding_weights", "quant_type_kwargs", "quant_type"},
    "hqq": {"skip_modules", "quant_config"},
    "mlx": {"mode", "bits", "group_size"},
    "aqlm": set(),
    "exl2": {"calibration", "head_bits"},
    "eetq": {"weights"},
    "bitnet": {"linear_class", "quantization_mode", "use_rms_norm", "rms_norm_eps"},
    "quanto": {"activations"},
    "nvfp4": set(),
    "mxfp8": {"weight_block_size"},
    "fp_quant": {"forward_method", "backward_dtype", "hadamard_group_size", "transform_init", "transform_dtype"},
    "fouroversix": {"activation_dtype", "activation_scale_rule", "gradient_dtype", "gradient_scale_rule",
                    "matmul_backend", "output_dtype", "quantize_backend", "scale_rule", "weight_dtype",
                    "weight_scale_2d", "weight_scale_rule"},
    "metal": set(),
    "sinq": {"tiling_mode", "method"},
    "gemma": {"module_quant_configs"},
    "vptq": {"enable_proxy_error", "shared_layer_config", "config_for_layers"},
    "higgs": {"p", "hadamard_size", "tune_metadata"},
}  # fmt: skip
ASIDE["exl3"] = ASIDE["exl2"] | {"out_scales", "codebook", "tensor_storage"}
