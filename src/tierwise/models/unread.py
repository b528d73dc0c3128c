"""Fields of a configuration that nobody read: those that may change sizes are named in a note."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tierwise.models.config import Config

_MOST = 12  # names in one note
# Training, generation, tokens, positions, scales, numerics: no parameter and no cache entry follows from these.
_NO_SIZE = re.compile(
    r"token_id|token_ids|token_index|token_type|dropout|drop$|drop_rate|_eps(ilon)?$|^eps$|initializer|init_std|^init_device"
    r"|jitter|aux_loss|seq_aux|_loss|^output_(attentions|hidden_states|scores|router_logits|gate_type)|return_dict|use_cache"
    r"|^is_(encoder_)?decoder|_pdrop|layerdrop|rope|rotary|mrope|scaling|multiplier|softcap|soft_cap|logit_cap|capping"
    r"|time_step|temperature|^freeze|^chunk_size|_act$|_act_fn$|activation|use_mamba|norm_topk_prob|theta|coef|pretraining_tp"
    r"|limit$|alpha|beta|transformers_version|auto_map|architectures|model_type|^_|dtype|id2label|label2id|scoring_func"
    r"|n_group$|topk_group|^tokenizer|^prefix$|pruned_heads|finetuning_task|task_specific|problem_type|torchscript"
    r"|bfloat16|beam|penalty|sample|max_length|min_length|ngram_size|top_k$|top_p$|typical_p|early_stopping|suppress"
    r"|bad_words|num_return|remove_invalid|ignore_index|placeholder|video|position_embedding_type|fp32|kernel_options"
    r"|cross_attention_hidden|tie_encoder_decoder|num_logits_to_keep|ep_size|overlap$|sinkhorn|clip_qkv|expert_capacity"
    r"|attn_implementation|_mode$|_method$|_type$|_strategy$|vision_feature|grid_pinpoints|seq_length$|output_length|max_frames"
    r"|num_reward|standardize|clipped_linears|bidirectional|language_model_only|image_seq|ffn_mult|query_pre_attn|alibi"
    r"|use_flash|flash_attn|^use_(associative|mambapy)|max_position|n_positions|max_seq|context_length|sparse_(score|init|local)"
    r"|disable_index|use_sparse|gemma_norm|num_hash|hash_|share_for_mtp|dedicated_embeddings|mm_hidden|text_hidden|attn_type$"
    r"|_pos_emb_time|unified_vision|^vision_use_head$|expert_shared_overlap|rescale|^license|^language$|name_or_path|^torch"
)


def unread(c: Config, aside: Iterable[str] = (), usual: bool = True) -> tuple[str, ...]:
    """A note on fields that were not read though they may change counts; empty when there are none.

    Args:
        c: the whole configuration, after the model was built from it.
        aside: further names the family has no use for.
        usual: a class's own defaults say nothing new: the reader knows the class.
    """
    skip = {"quantization_config", "quantization", "id2label", "label2id", *aside}
    names = [n for n in c.unread() if skip.isdisjoint(n.split(".")) and _matters(c, n, usual)]
    if not names:
        return ()
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return (f"fields not understood, left out: {', '.join(names[:_MOST])}{more}",)


def _matters(c: Config, name: str, usual: bool) -> bool:
    *outer, leaf = name.split(".")
    if _NO_SIZE.search(leaf):
        return False
    section, value = c, _value(c.data, name.split("."))
    if value is None:  # a name with a dot in it, which is no field of a section either
        return False
    for part in outer:
        section = section.section(part)
    own = section.defaults.fields.get(leaf) if usual else None
    return value not in (None, False, 0, "", [], {}) and value != own


def _value(data: Any, path: list[str]) -> Any:
    for part in path:
        if not isinstance(data, Mapping) or part not in data:
            return None
        data = data[part]
    return data
