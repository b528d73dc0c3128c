"""Number formats of a checkpoint: its dtype, and what its quantization sections say of each weight role.

Two sections may speak: ``quantization_config`` in ``config.json`` (its text part may hold it), and
``hf_quant_config.json`` beside it (NVIDIA ModelOpt). Both name a default format and modules that keep the
checkpoint's dtype, or list quantized modules one by one. Model formats are kept by role, not by module: where a
role is mixed, its format has the average bits, weighted by parameters, a name such as ``nvfp4/bf16``, and the
arithmetic of its largest part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tierwise.core.errors import BadField
from tierwise.core.numerics import Format, fmt
from tierwise.models.config import Config
from tierwise.models.facts import BlockFacts, facts_of
from tierwise.models.hf_modules import Selection
from tierwise.models.hf_quant_keys import unknown
from tierwise.models.hf_quant_more import METHODS, rules
from tierwise.models.types import Block, Model, Weight

_DTYPES = {
    "float32": "fp32", "float": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16",
    "float64": "fp64", "fp8": "fp8", "float8_e4m3fn": "fp8",
}  # fmt: skip
_ALGORITHMS = {
    "FP8": "fp8", "FP8_PER_CHANNEL_PER_TOKEN": "fp8", "FP8_PB_WO": "fp8-block", "FP8_BLOCK_SCALES": "fp8-block",
    "NVFP4": "nvfp4", "NVFP4_AWQ": "nvfp4", "MXFP8": "mxfp8", "MXFP4": "mxfp4", "INT8_SQ": "int8",
    "W8A8_SQ_PER_CHANNEL": "int8", "W4A16_AWQ": "int4-g128", "W4A8_AWQ": "int4-g128", "W4A16": "int4-g128",
    "W8A16": "int8-g128-sym",
}  # fmt: skip
_WEIGHT_ONLY = {"W4A16_NVFP4": "nvfp4", "W4A16_MXFP4": "mxfp4", "W8A16_FP8": "fp8"}
# Lists of modules that keep the checkpoint's dtype, by their names in transformers and AutoFP8.
_KEPT = ("modules_to_not_convert", "ignored_layers", "llm_int8_skip_modules")
_LINEAR = ("attn", "mlp", "expert", "shared_expert", "ssm")


@dataclass
class _Scheme:
    """What a quantization section asks for.

    Attributes:
        default: format of linear layers that nothing else names; None to leave them alone.
        roles: roles the default applies to.
        kept: modules that stay in the checkpoint's dtype.
        chosen: modules with a format of their own (None: the checkpoint's), strongest first.
    """

    default: Format | None = None
    roles: tuple[str, ...] = _LINEAR
    kept: Selection = field(default_factory=lambda: Selection(()))
    chosen: list[tuple[Selection, Format | None]] = field(default_factory=list)


def numerics(
    c: Config, quant: Mapping[str, Any] | None, model: Model
) -> tuple[dict[str, Format], Format | None, Format, tuple[str, ...]]:
    """(stored format by role, format of the KV cache or None, format of activations, notes)."""
    base, notes = _dtype(c)
    schemes: list[_Scheme] = []
    kv: Format | None = None
    modelopt = Config(quant, c.where.replace("config.json", "hf_quant_config.json")) if quant else None
    if modelopt is not None:
        modelopt = modelopt.section("quantization") if modelopt.has("quantization") else modelopt
        schemes.append(_modelopt(modelopt))
        kv = _kv(modelopt.raw("kv_cache_quant_algo", default=None), modelopt)
    inside, outer = _section(c)
    if inside is not None:
        method, modelopt_too = _method_of(inside), inside.given("quant_algo") or modelopt is not None
        schemes += _sections(inside, schemes)
        kv = kv or _kv(inside.raw("kv_cache_quant_algo", "kv_cache_scheme", default=None), inside)
        if not outer:
            schemes = [_without_vision(s) for s in schemes]
        expert = c.text("expert_dtype", default="")
        if expert == "fp4":
            # DeepSeek-V4 keeps experts in FP4 with one power-of-two scale per 32 (MXFP4).
            schemes.insert(len(schemes) - 1, _Scheme(fmt("mxfp4"), ("expert",)))
        keys = [k.removeprefix(inside.path) for k in inside.unread()]
        notes += tuple(f"{inside.path}{k} is not understood: left out" for k in unknown(keys, method, modelopt_too))
    formats = {"*": base}
    weights = _by_role(model) if schemes else {}
    both = {i for i, _, _ in weights.get("mlp", ())} & {i for i, _, _ in weights.get("expert", ())}
    for role, parts in weights.items():
        shares: dict[str, tuple[Format, float]] = {}
        for layer, name, elements in parts:
            form = _format(schemes, layer, role, name, layer in both) or base
            shares[str(form)] = (form, shares.get(str(form), (form, 0.0))[1] + elements)
        mixed = mixture(list(shares.values()))
        if mixed != base:
            formats[role] = mixed
    return formats, kv, base, notes


def mixture(parts: list[tuple[Format, float]]) -> Format:
    """One format for several, weighted by elements: average bits, the largest part's arithmetic."""
    parts = sorted(parts, key=lambda p: -p[1])
    if len(parts) == 1:
        return parts[0][0]
    total = sum(n for _, n in parts)
    bits = sum(f.bits * n for f, n in parts) / total
    meta = sum(f.meta * n for f, n in parts) / total
    return Format("/".join(str(f) for f, _ in parts), bits, meta, parts[0][0].arithmetic)


def _format(schemes: list[_Scheme], layer: int, role: str, name: str, beside: bool) -> Format | None:
    """The format of one weight: a module's own, else the default of the first section it is not kept from."""
    for scheme in schemes:
        for selection, form in scheme.chosen:
            if selection.has(layer, role, name, beside):
                return form  # None: as the checkpoint has it
        covered = scheme.default is not None and role in scheme.roles
        if covered and not scheme.kept.has(layer, role, name, beside):
            return scheme.default
    return None


def _by_role(model: Model) -> dict[str, list[tuple[int, str, float]]]:
    """Weights of every linear role: (layer, name, elements); -1 outside the layers."""
    out: dict[str, list[tuple[int, str, float]]] = {}
    for stack in model.stacks:
        if not stack.active:
            continue
        text = stack.stream not in ("vision", "clip")
        found = [(-1, part) for b in (*stack.before, *stack.after) for part in _parts(b)]
        kinds = [[part for b in kind.blocks for part in _parts(b)] for kind in stack.kinds]
        for i, k in enumerate(stack.pattern):
            found += [(i if text else -1, part) for part in kinds[k]]
        for layer, (role, name, elements) in found:
            out.setdefault(role, []).append((layer, name, elements))
    return out


def _parts(block: Block) -> list[tuple[str, str, float]]:
    """(role, name, elements) of the linear weights of a block."""
    facts = facts_of(block)
    return [(w.role, part, n) for w in block.weights() if w.role != "norm" for part, n in projections(w, facts)]


def projections(w: Weight, facts: BlockFacts) -> list[tuple[str, float]]:
    """(name, elements) of what checkpoints store by itself: an expert's two or three projections, any other weight."""
    elements = float(w.elements)
    if w.role != "expert" or w.name != "experts" or facts.expert_shape is None:
        return [(w.name, elements)]
    width, inner = facts.expert_shape
    gated = float(w.grain) > 2.5 * float(width) * float(inner)
    names = ("gate_proj", "up_proj", "down_proj") if gated else ("up_proj", "down_proj")
    return [(name, elements / len(names)) for name in names]


def _dtype(c: Config) -> tuple[Format, tuple[str, ...]]:
    for section in (c, c.section("text_config")):
        text = section.text("torch_dtype", "dtype", default="")
        if text and text != "auto":
            key = text.removeprefix("torch.")
            if key not in _DTYPES:
                raise BadField(c.where, section.path + "torch_dtype", text, ", ".join(sorted(_DTYPES)))
            return fmt(_DTYPES[key]), ()
    return fmt("bf16"), ("the configuration states no dtype: bf16 assumed",)


def _section(c: Config) -> tuple[Config | None, bool]:
    """(the quantization section or None, whether it covers the whole model and not its text part only)."""
    for section, outer in ((c, True), (c.section("text_config"), False)):
        for name in ("quantization_config", "quantization"):  # mlx-lm writes either or both
            if section.has(name):
                section.seen.add(section.path + "quantization")
                inner = section.section(name)
                # Some ModelOpt exports have the contents of hf_quant_config.json in here.
                return inner.section("quantization") if inner.given("quantization") else inner, outer
    return None, True


def _sections(q: Config, known: list[_Scheme]) -> list[_Scheme]:
    """The schemes of a ``quantization_config``; a ModelOpt one repeats ``hf_quant_config.json``."""
    method = _method_of(q)
    schemes: list[_Scheme] = []
    if q.has("quant_algo") and not known:
        schemes.append(_modelopt(q))
    if method != "modelopt":
        schemes.append(_method(q, method))
    return schemes


def _method_of(q: Config) -> str:
    usual = "modelopt" if q.has("quant_algo") else "mlx" if q.has("bits") and q.has("group_size") else ""
    method = q.text("quant_method", default=usual)
    return "modelopt" if method.startswith("modelopt") else method


def _modelopt(q: Config) -> _Scheme:
    algorithm = q.text("quant_algo", default="")
    kept = Selection(q.items("exclude_modules", "ignore", default=[]))
    chosen: dict[str, tuple[Format, list[str]]] = {}
    for module, how in q.section("quantized_layers").data.items():
        one = Config(how if isinstance(how, Mapping) else {}, q.where, f"{q.path}quantized_layers.{module}.")
        form = _algorithm(one.text("quant_algo"), one)
        chosen.setdefault(str(form), (form, []))[1].append(module)
    default = None if algorithm in ("", "MIXED_PRECISION") else _algorithm(algorithm, q)
    roles = (*_LINEAR, "vision")
    return _Scheme(default, roles, kept, [(Selection(names), form) for form, names in chosen.values()])


def _algorithm(name: str, q: Config) -> Format:
    if name in _WEIGHT_ONLY:
        stored = fmt(_WEIGHT_ONLY[name])
        return Format(name.lower(), stored.bits, stored.meta, "")
    if name in _ALGORITHMS:
        spec = _ALGORITHMS[name]
        if spec.startswith("int4-g") and q.has("group_size"):
            spec = f"int4-g{q.size('group_size'):.0f}"
        return fmt(spec)
    allowed = ", ".join(sorted({*_ALGORITHMS, *_WEIGHT_ONLY, "MIXED_PRECISION"}))
    raise BadField(q.where, q.path + "quant_algo", name, allowed)


def _method(q: Config, method: str) -> _Scheme:
    """Transformers' own methods."""
    everywhere = (*_LINEAR, "vision")
    kept = Selection(q.items(*_KEPT, default=[]))
    if method in ("fp8", "fbgemm_fp8"):
        return _blocks(q, _Scheme(_eight(q), everywhere, kept))
    if method in ("gptq", "awq", "gptqmodel", "auto-round"):
        return _grouped(q, everywhere)
    if method == "bitsandbytes":
        # Either code is one 4-bit value with an fp32 scale per 64, itself in 8 bits under double quantization
        # (QLoRA, arXiv:2305.14314, section 3); neither is multiplied natively.
        twice = q.flag("bnb_4bit_use_double_quant")
        scale = fmt("nf4").meta if twice else 32.0 / 64.0
        four = q.flag("load_in_4bit", "_load_in_4bit")
        form = Format(q.text("bnb_4bit_quant_type", default="fp4"), 4.0, scale, "") if four else fmt("int8")
        return _Scheme(form, everywhere, kept)
    if method == "mxfp4":
        return _Scheme(fmt("mxfp4"), ("expert",), kept)
    if method == "compressed-tensors":
        return _compressed(q, Selection(q.items("ignore", default=[])))
    if (found := rules(q, method)) is not None:
        ends = ("embed", "head") if found.ends else ()
        own = [(Selection(names), form) for names, form in found.chosen]
        return _Scheme(found.default, (*everywhere, *ends), Selection(found.kept), own)
    allowed = ", ".join(("fp8, fbgemm_fp8, gptq, awq, auto-round, bitsandbytes, mxfp4, compressed-tensors, modelopt",
                         *METHODS)) + "; or a copy of the file without the section, and --weights FORMAT"  # fmt: skip
    raise BadField(q.where, q.path + "quant_method", method, allowed)


def _eight(q: Config) -> Format:
    """FP8 with a scale a tensor, or one a block: of 32 bits, or of 8 (Microscaling's) in blocks of 32."""
    if not q.has("weight_block_size"):
        return fmt("fp8")
    rows, columns = [*q.sizes("weight_block_size"), 1.0, 1.0][:2]
    if rows * columns == 32.0:
        return fmt("mxfp8")
    usual = fmt("fp8-block")
    return Format(usual.name, usual.bits, 32.0 / (rows * columns), usual.arithmetic)


def _blocks(q: Config, scheme: _Scheme) -> _Scheme:
    """With what the section says of experts (FP4, a power-of-two scale per 32) and of tables that it converts."""
    if q.text("expert_dtype", default="fp8") == "fp4":
        experts = [f"model.layers.*.mlp.experts.{part}" for part in ("gate_proj", "up_proj", "down_proj")]
        scheme.chosen.append((Selection(experts), fmt("mxfp4")))
    if tables := q.items("modules_to_convert", default=[]):
        scheme.chosen.append((Selection(tables), scheme.default))
    return scheme


def _grouped(q: Config, everywhere: tuple[str, ...]) -> _Scheme:
    """GPTQ, AWQ and AutoRound: one width and group, and modules that have others or are left alone.

    ``dynamic`` (GPTQModel) has expressions, the first that matches counting; behind ``-:`` are modules left alone.
    ``extra_config`` (AutoRound) has names or expressions. ``modules_in_block_to_quantize`` lists all that are.
    """
    scheme = _Scheme(_integers(q), everywhere, Selection(q.items(*_KEPT, default=[])))
    listed = q.items("modules_in_block_to_quantize", default=[])
    inside = [m for ms in listed for m in (ms if isinstance(ms, list) else [ms])]
    if inside:
        scheme.chosen.append((Selection(f"model.layers.*.{m}" for m in inside), scheme.default))
        scheme.default = None
    if q.flag("lm_head"):
        scheme.chosen.append((Selection(["lm_head"]), scheme.default))
    own: list[tuple[Selection, Format | None]] = []
    for field_name, expressions in (("dynamic", True), ("extra_config", False)):
        section = q.section(field_name)
        for pattern, how in section.data.items():
            apart = pattern.startswith("-:")
            plain = pattern.removeprefix("-:").removeprefix("+:")
            selection = Selection([("re:" if expressions or set(plain) & set("()[]|*+?") else "") + plain])
            own_fields = how if isinstance(how, Mapping) else {}
            section.seen.add(section.path + pattern)
            changed = Config({**q.data, **own_fields}, q.where, f"{section.path}{pattern}.", seen=q.seen)
            wide = changed.size("bits", "w_bit", default=4.0) >= 16
            own.append((selection, None if apart or wide else _integers(changed)))
    scheme.chosen[:0] = own
    return scheme


def _integers(q: Config) -> Format:
    bits, group = q.size("bits", "w_bit", default=4.0), q.real("group_size", "q_group_size", default=128.0)
    return fmt(f"int{bits:.0f}-g{group:.0f}") if group > 0 else fmt(f"{bits:.0f}bit")


def _compressed(q: Config, kept: Selection) -> _Scheme:
    """Groups of modules; a target that is a layer class means every linear layer."""
    scheme = _Scheme(None, (*_LINEAR, "vision"), kept)
    sparse = q.section("sparsity_config")
    if sparse.text("format", default="dense") == "dense":
        sparse.seen.update(sparse.path + name for name in sparse.data)
    groups = q.section("config_groups")
    for name in groups.data:
        group = groups.section(name)
        weights, inputs = group.section("weights"), group.section("input_activations")
        form = _stored(weights, bool(inputs.data))
        targets = group.items("targets", default=["Linear"])
        if "Linear" in targets:
            scheme.default = form
        else:
            scheme.chosen.append((Selection(targets), form))
    return scheme


def _stored(w: Config, inputs: bool) -> Format:
    """The format of a compressed-tensors weight description."""
    bits, kind = w.size("num_bits"), w.text("type", default="int")
    group = w.size("group_size", default=None, least=1) if w.data.get("group_size") not in (-1, None) else None
    if kind == "float":
        # One power-of-two scale per 32 is Microscaling's, one e4m3 per 16 NVFP4's.
        block = "fp8-block" if w.has("block_structure") else "fp8"
        names = {8.0: "mxfp8", 4.0: "mxfp4"} if group == 32 else {8.0: block, 4.0: "nvfp4"}
        return fmt(names.get(bits, f"{bits:.0f}bit"))
    if bits == 8 and inputs:
        return fmt("int8")
    if group is None:
        return fmt(f"{bits:.0f}bit")
    return fmt(f"int{bits:.0f}-g{group:.0f}" + ("-sym" if w.flag("symmetric", default=True) else ""))


def _kv(found: Any, q: Config) -> Format | None:
    """FP8, NVFP4, INT8, or a description with bits and type."""
    if found is None:
        return None
    if isinstance(found, Mapping):
        described = f"{found.get('type')}{found.get('num_bits')}"
        found = {"float8": "FP8", "float4": "NVFP4", "int8": "INT8"}.get(described, found)
    names = {"FP8": "fp8", "NVFP4": "nvfp4", "INT8": "int8"}
    if not isinstance(found, str) or found.upper() not in names:
        raise BadField(q.where, q.path + "kv_cache_quant_algo", found, "FP8, NVFP4, INT8 or null")
    return fmt(names[found.upper()])


def _without_vision(scheme: _Scheme) -> _Scheme:
    roles = tuple(r for r in scheme.roles if r != "vision")
    return _Scheme(scheme.default, roles, scheme.kept, scheme.chosen)
