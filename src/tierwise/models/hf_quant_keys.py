"""Keys of quantization sections that no size follows from, by method; all others are read or named in a note.

From the configuration classes of `transformers` (utils/quantization_config.py), GPTQModel, AutoAWQ, llm-compressor
(compressed-tensors, quant_config.py, quant_args.py) and NVIDIA ModelOpt's exports.
"""

from __future__ import annotations

from collections.abc import Iterable

from tierwise.models.hf_quant_more import ASIDE

_RUN = {"quant_method", "producer", "version", "modules_to_not_convert", "activation_scheme", "dequantize", "fmt",
        "scale_fmt", "is_serialized"}  # fmt: skip
_ANY = {
    "gptq": {"desc_act", "sym", "damp_percent", "damp_auto_increment", "true_sequential", "static_groups",
             "act_group_aware",
             "model_name_or_path", "model_file_base_name", "dataset", "batch_size", "exllama_config", "use_exllama",
             "disable_exllama", "max_input_length", "cache_block_outputs", "backend", "use_cuda_fp16", "model_seqlen",
             "block_name_to_quantize", "module_name_preceding_first_block", "pad_token_id", "meta", "checkpoint_format",
             "format", "pack_dtype", "tokenizer", "quant_type", "is_marlin_format", "hyb_act", "mse", "rotation", "v2",
             "hf_device_map", "gptaq", "adapter", "lora", "offload_to_disk"},
    "awq": {"zero_point", "backend", "do_fuse", "modules_to_fuse", "fuse_max_seq_len", "exllama_config", "format"},
    "auto-round": {"sym", "data_type", "backend", "packing_format", "iters", "lr", "minmax_lr", "nsamples", "seqlen",
                   "batch_size", "gradient_accumulate_steps", "low_gpu_mem_usage", "enable_quanted_input",
                   "enable_minmax_tuning", "enable_norm_bias_tuning", "autoround_version", "amp", "scale_dtype",
                   "act_bits", "act_data_type", "act_dynamic", "act_group_size", "act_sym", "super_bits",
                   "super_group_size", "block_name_to_quantize", "to_quant_block_names", "quant_block_list", "dataset",
                   "train_bs", "enable_torch_compile", "regex_config", "desc_act", "true_sequential", "damp_percent"},
    "bitsandbytes": {"load_in_8bit", "_load_in_8bit", "llm_int8_threshold", "llm_int8_enable_fp32_cpu_offload",
                     "llm_int8_has_fp16_weight", "bnb_4bit_compute_dtype", "bnb_4bit_quant_storage"},
    "fp8": {"activation_scale_ub", "kv_cache_scheme", "format", "producer", "weight_per_tensor"},
    "mxfp4": set(),
    "compressed-tensors": {"format", "global_compression_ratio", "quantization_status", "transform_config",
                           "run_compressed"},
    "modelopt": {"has_zero_point", "pre_quant_scale", "exclude_modules", "config_groups", "kv_cache_scheme",
                 "group_size", "ignore", "quant_algo", "moe_quant_algo", "quant_method"},
}  # fmt: skip
_ANY |= ASIDE
_ANY["gptqmodel"] = _ANY["gptq"]
_ANY["fbgemm_fp8"] = _ANY["fp8"]
# One export can describe itself in two ways.
_BOTH = {"quantized_layers", "kv_cache_quant_algo", *_ANY["modelopt"]}


def unknown(keys: Iterable[str], method: str, modelopt: bool) -> list[str]:
    """Keys that were not read and are of no known meaning.

    Args:
        keys: of the section, that nobody read.
        modelopt: the section is (also) a ModelOpt export.
    """
    fine = _RUN | _ANY.get(method, set()) | (_BOTH if modelopt else set())
    return sorted(k for k in keys if k.split(".")[0] not in fine and not _detail(k, fine))


def _detail(key: str, fine: set[str]) -> bool:
    """Of a group's weights or inputs: how scales are found, not how many there are; or of modules of their own width,
    what is of no size for all."""
    last = key.rsplit(".", 1)[-1]
    if key.startswith(("dynamic.", "extra_config.")):
        return last in fine
    return key.startswith(("config_groups.", "kv_cache_scheme.")) and last in _DETAIL


_DETAIL = {"actorder", "dynamic", "observer", "observer_kwargs", "strategy", "scale_dtype", "zp_dtype",
           "output_activations", "format", "symmetric", "type", "num_bits", "group_size", "block_structure",
           "targets", "input_activations",
           "weights"}  # fmt: skip
