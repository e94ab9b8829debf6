"""What modules are called, in every decoder-only architecture of transformers. Data only.

A tensor's name is a path of modules. Reading it from the left, the first module that stands in one
of these tables decides the component; modules in :data:`CONTAINERS` decide nothing and are passed;
a module that stands nowhere is an error. A new architecture is a new word here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

#: Modules that only hold others. Base-model names first, then inner ones.
CONTAINERS: Final = frozenset(
    """
    backbone base_model bert bert_generation biogpt cpmant data2vec_text electra ernie git gpt_neox
    gpt_neox_japanese megatron_bert model prophetnet reformer rembert roberta roberta_prelayernorm
    roc_bert roformer rwkv transformer xlm_roberta xmod
    H_module L_module block decoder embed_tokens_extend encoder global_transformer language_model
    llm local_decoder local_encoder mamba_decoder norm_attn_norm patcher self shared_transf
    shared_transformer text_model thinker
    """.split()
)

#: Modules whose numbered children are layers.
STACKS: Final = frozenset(
    """
    layers layer h blocks cross_attn_layers encoders attentions ffns layer_norm1 layer_norm2
    attn_queries gated_cross_attn_layers mlp_queries
    """.split()
)

_EVERYWHERE: Final = """
attention         attn attention attentions multi_head_attention rel_attn self_att self_attention
attention         self_attn
cross_attention   cross_attn cross_attn_layers crossattention encoder_attn
linear_attention  attn_sconv conv linear_attn mamba mlp_sconv mlstm_layer mixer temporal_block
linear_attention  post_attention_convolution post_mlp_convolution
mlp               block_sparse_moe fc1 fc2 feed_forward ff ffn ffns lin1 lin2 mlp mlp_block mlps moe
shared_experts    shared_mlp
experts           experts
router            router
embedding         embed embed_positions embed_tokens embed_tokens_per_layer embeddings
embedding         embeddings_project
vision            embed_vision high_res_vision_alpha high_res_vision_model high_res_vision_neck
vision            high_res_vision_proj image_embed image_encoder image_tower video_tower
vision            vision_embed_tokens vision_encoder vision_model vision_tokenizer vision_tower
vision            visual vqmodel
audio             audio audio_embed audio_tokenizer audio_tower embed_audio
projector         aligner connector image_newline image_to_text_projection language_projection
projector         merger mm_projector multi_modal_projector patch_embedding_projection projector
projector         qformer query_tokens resampler_model view_separator vision_adapter
projector         visual_embeddings_table visual_projection
residual          altup attn_hc attn_res ffn_hc hc_attn_base hc_attn_fn hc_attn_scale hc_ffn_base
residual          hc_ffn_fn hc_ffn_scale hc_head hc_pre laurel
"""

_IN_LAYER: Final = """
attention         k_proj o_proj q_proj v_proj
mlp               intermediate output
residual          alpha_cross_attn alpha_dense attention_input attn_hyper_connection
residual          controllers cross_attn_attn_gate cross_attn_mlp_gate
residual          input_residual k_message_gate lambda_1 lambda_2 layer_scalar linear
residual          mlp_hyper_connection mlp_input mlp_message_gate
residual          per_layer_input_gate per_layer_projection post_attention_residual
residual          post_attention_residual_gate post_attention_residual_scale
residual          post_feedforward_residual_gate post_mlp_residual_scale q_message_gate
residual          v_message_gate
embedding         ple
head              eh_proj shared_head
norm              enorm hnorm
"""

_OUTSIDE_LAYERS: Final = """
embedding         embed_in embedding_hidden_mapping_in emb_dropout encoder_hash_tok_embedding
embedding         input_embedding mask_emb ngram_embeddings position_bias position_embeddings
embedding         positions_embed rotary_emb segment_emb segment_embedding shared tokens_embed w
embedding         word_embedding word_embeddings wpe wte
head              cls embed_out generator_lm_head generator_predictions head lm_head lm_heads
head              lm_loss output output_projection pooler pred_layer proj_out unembed
head              masked_embedding centroids token_ordering post_projection pre_projection
residual          altup_projections altup_unembed_projections final_input hyper_connection_mixer
residual          input_hidden_states_bias input_hidden_states_scale message_input
residual          middle_cycle_cross_pass_kv_queries middle_cycle_cross_pass_queries
residual          per_layer_model_projection residual_scale z_L_init
"""


def _table(*texts: str) -> Mapping[str, str]:
    rows = (line.split() for text in texts for line in text.strip().splitlines())
    return {module: kind for kind, *modules in rows for module in modules}


#: Module → component (for attention, its kind), inside a layer.
IN_LAYER: Final = _table(_EVERYWHERE, _IN_LAYER)

#: Module → component, outside the layers.
OUTSIDE_LAYERS: Final = _table(_EVERYWHERE, _OUTSIDE_LAYERS)

#: Modules that hold others, but as the last of a name are something themselves.
LAST: Final = _table("head  decoder")

#: Component → module further in → what that module really is.
INSIDE: Final[Mapping[str, Mapping[str, str]]] = {
    "attention": _table(
        """
        norm  LayerNorm layer_norm ln self_attn_layer_norm layernorm_before_attention
        """
    ),
    "linear_attention": _table(
        """
        attention  q_proj k_proj v_proj o_proj
        mlp        down_proj up_proj
        experts    experts
        router     gate
        shared_experts  shared_experts
        """
    ),
    "mlp": _table(
        """
        norm    LayerNorm layer_norm layernorm_before_ffn post_mlp_layernorm
        experts experts input_linear output_linear
        router  e_score_correction_bias expert_bias gate moe_statics router
        shared_experts shared_expert shared_expert_gate shared_experts shared_mlp
        """
    ),
    "experts": _table("router  e_score_correction_bias router"),
    "embedding": _table("norm  LayerNorm embed_norm norm"),
    "vision": _table("audio  audio_embed"),
}

#: Experts in these blocks; in others a dense pair of that name.
DENSE_OR_EXPERTS: Final = frozenset({"input_linear", "output_linear"})
MIXTURES: Final = frozenset({"block_sparse_moe", "mlp"})

#: A norm, by the words in its module's name.
NORM: Final = re.compile(r"(?:^|_)(?:layer_?norm|rms_?norm|layrnorm|norm|ln)\d*(?:_|$)", re.I)

#: Norm → the block it serves. What it feeds, or whose output it normalises.
NORM_SERVES: Final = _table(
    """
    attention  attention_layer_norm attention_layernorm attention_norm attn_norm input_layernorm
    attention  encoder_attn_layer_norm cross_attn_layer_norm k_input_layernorm k_input_norm
    attention  layer_norm1 layernorm1 layernorm_before_attention ln1 ln_1 ln_attn norm_1 norm_mlstm
    attention  operator_norm post_attn_norm post_norm1 post_operator_norm post_self_attn_layernorm
    attention  q_input_layernorm q_input_norm self_attn_layer_norm temporal_pre_norm
    attention  v_input_layernorm v_input_norm
    mlp        channel_pre_norm feed_forward_layer_norm feedforward_layer_norm
    mlp        feedforward_layernorm ffn_norm final_layer_norm layer_norm2 layernorm2
    mlp        layernorm_before_ffn ln2 ln_2 ln_mlp mlp_norm norm_2 norm_ffn
    mlp        post_attention_layernorm post_feedforward_layernorm post_ffn_norm
    mlp        post_mlp_layernorm post_norm2
    mlp        pre_ff_layernorm pre_feedforward_layernorm pre_mlp_layernorm
    """
)

#: Beside one of these, ``post_attention_layernorm`` follows attention; else it feeds the FFN.
POST_NORMS_BESIDE: Final = frozenset(
    {"pre_feedforward_layernorm", "pre_mlp_layernorm", "post_feedforward_layernorm"}
)

#: Beside one of these, it feeds the FFN all the same.
SANDWICH_NORMS_BESIDE: Final = frozenset({"post_self_attn_layernorm"})

#: Beside one of these, a module called like plain attention is linear attention.
LINEAR_MARKS: Final = frozenset(
    {"A_log", "b_proj", "conv1d", "diagonal_decay", "forget_gate", "q_conv1d", "slope_rate"}
    | {"time_decay"}
)

#: Last parts of a name that are a module's parameters, not modules.
PARAMETERS: Final = frozenset(
    """
    SCB beta bias g_idx gamma input_global_scale input_scale input_zero_point output_scale qweight
    qzeros scales weight weight_format weight_g weight_g_idx weight_global_scale weight_packed
    weight_scale weight_scale_2 weight_scale_inv weight_shape weight_v weight_zero_point
    """.split()
)

#: What belongs to a quantised parameter that has no module of its own, behind its name.
QUANTISED: Final = re.compile(r"(?<=_proj)_(?:blocks|scales?|scale_inv|zero_point)$")

#: Modules inside attention whose own q and k only choose where to look.
SIDE_PATHS: Final = frozenset({"compressor", "indexer"})

#: Attention's projections by their canonical names.
ATTENTION_ROLES: Final = _table(
    """
    q_proj  Wq project_q q q_lin q_proj query query_proj wq wq_du
    k_proj  Wk k k_lin k_proj key key_proj project_k wk wk_dv
    v_proj  Wv project_v v v_lin v_proj value value_proj wv wv_dv
    o_proj  Wo attention_out c_proj dense o o_proj out_lin out_proj wo wo_ud
    """
)

#: The feed-forward block's projections by their canonical names.
FEED_FORWARD_ROLES: Final = _table(
    """
    gate_proj  gate_proj linear_gate proj_up_gate w1 w_0
    up_proj    c_fc dense_h_to_4h fc1 fc_in layer_1 lin1 proj_up up_proj w3 w_1
    down_proj  Wo c_proj dense_4h_to_h down_proj fc2 fc_out layer_2 lin2 output_linear proj_down w2
    down_proj  w_out
    """
)
