"""Two spellings of one checkpoint, as data: renamed tensors, experts apart or fused.

transformers has changed how it saves some models; a base and its fine-tune may be of different
ages. Nothing here looks at an architecture's name: a rule applies to tensors that one side lacks,
and only where exactly one tensor fits.
"""

from __future__ import annotations

import re
from typing import Final

from taia.anatomy.fused import FUSED_EXPERTS

#: Parts of a name that only a wrapper around the model or a module puts there → whose they are.
WRAPPERS: Final = {
    "_orig_mod": "torch.compile",
    "module": "DistributedDataParallel, DataParallel or DeepSpeed",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning Fabric",
}
#: Parts of a name that tell of weights that are not yet, or not here, a model's → whose they are,
#: and how the model's own are got. No name is to be made of them: what stands beside counts too.
UNFINISHED: Final = {
    **dict.fromkeys(
        """
        base_layer modules_to_save original_module token_adapter lora_A lora_B lora_embedding_A
        lora_embedding_B lora_magnitude_vector
        """.split(),
        (
            "with an adapter of PEFT's on it",
            "Merge it first: model.merge_and_unload().save_pretrained(NEW); or give the adapter as "
            "model.save_pretrained(NEW) of the PEFT model writes it.",
        ),
    ),
    "parametrizations": (
        "with torch's parametrizations in place of weights",
        "Give it plain weights first, by torch.nn.utils.parametrize.remove_parametrizations.",
    ),
    "_flat_param": (
        "with FSDP's flattened parameters in place of weights",
        "Gather them first: save with FSDP's FULL_STATE_DICT.",
    ),
}
_UNFINISHED: Final = re.compile(rf"(?:^|\.)({'|'.join(UNFINISHED)})(?:\.|$)")

#: What PEFT puts before every name.
_PEFT: Final = ["base_model", "model"]
_WRAPPED: Final = re.compile(
    rf"(?:^|\.)(?:{'|'.join(WRAPPERS)})(?:\.|$)|^{re.escape('.'.join(_PEFT))}\."
)

#: A tensor's older name → its newer one. Applied in order, to the names that are on one side only.
RENAMES: Final = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        # the base model saved without its head's wrapper: gpt2, bloom, falcon, opt
        (r"^transformer\.", ""),
        (r"^decoder\.", "model.decoder."),
        # image-and-text models before transformers 4.52
        (r"^language_model\.lm_head\.", "lm_head."),
        (r"^language_model\.model\.", "model.language_model."),
        (r"^(vision_tower|multi_modal_projector)\.", r"model.\1."),
        # gpt-neox
        (r"^embed_out\.", "lm_head."),
        # mixtral, minimax, phimoe, granitemoe before transformers 5
        (r"\.block_sparse_moe\.input_linear\.weight$", ".mlp.experts.gate_up_proj"),
        (r"\.block_sparse_moe\.output_linear\.weight$", ".mlp.experts.down_proj"),
        (r"\.block_sparse_moe\.router\.layer\.", ".mlp.gate."),
        (r"\.block_sparse_moe\.router\.", ".mlp.gate."),
        (r"\.block_sparse_moe\.", ".mlp."),
        (r"\.mlp\.router\.", ".mlp.gate."),
        (r"\.experts\.(\d+)\.w1\.", r".experts.\1.gate_proj."),
        (r"\.experts\.(\d+)\.w3\.", r".experts.\1.up_proj."),
        (r"\.experts\.(\d+)\.w2\.", r".experts.\1.down_proj."),
        (r"\.experts\.(gate_up_proj|down_proj)\.weight$", r".experts.\1"),
    )
)

#: Constants that some versions saved with the weights: pattern, what they are, how many axes.
CONSTANTS: Final = tuple(
    (re.compile(pattern), what, ranks)
    for pattern, what, ranks in (
        (r"(^|\.)rotary_emb\.inv_freq$", "rotary frequencies", (1,)),
        (r"\.(attn|attention)\.(bias|masked_bias)$", "causal masks", (0, 4)),
        (r"(^|\.)position_ids$", "position numbers", (1, 2)),
    )
)

#: Weights that transformers does not load, so that a fine-tune lacks them.
NOT_LOADED: Final = re.compile(r"^(model\.)?mtp\.")

_FUSED_NAME: Final = re.compile(r"(?P<stem>.+\.experts)\.(?P<part>gate_up_proj|down_proj)")
_EXPERT_NAME: Final = re.compile(
    r"(?P<stem>.+\.experts)\.(?P<expert>[0-9]{1,9})\.(?P<part>gate_proj|up_proj|down_proj)\.weight"
)


def unwrapped(name: str) -> str:
    """A tensor's name in the model itself, without what wrappers around it put there."""
    if not _WRAPPED.search(name):
        return name
    parts = [part for part in name.split(".") if part not in WRAPPERS]
    while parts[:2] == _PEFT:
        del parts[:2]
    return ".".join(parts)


def wrapper(name: str) -> str | None:
    """Whose wrapper a tensor's name tells of, ``None`` of none."""
    if not _WRAPPED.search(name):
        return None
    for part in name.split("."):
        if part in WRAPPERS:
            return f"{WRAPPERS[part]} ({part!r})"
    return "PEFT ('base_model.model')"


def unfinished(name: str) -> tuple[str, str] | None:
    """In what state a model was saved whose tensor has a name, and what to do; else ``None``."""
    found = _UNFINISHED.search(name)
    return UNFINISHED[found[1]] if found else None


def newer(name: str) -> str:
    """A tensor's name as the newest version would spell it."""
    name = unwrapped(name)
    for pattern, new in RENAMES:
        name = pattern.sub(new, name)
    return name


def fused(name: str) -> tuple[str, str] | None:
    """``(stem, part)`` of a fused expert tensor's newer name, else ``None``."""
    found = _FUSED_NAME.fullmatch(name)
    return (found["stem"], found["part"]) if found else None


def expert(name: str) -> tuple[str, str, int, int, int] | None:
    """Where one expert's tensor lies in the fused one.

    Returns:
        ``(stem, fused part, expert, which of the parts stacked, how many)`` of a newer name,
        ``None`` if it is no expert's.
    """
    found = _EXPERT_NAME.fullmatch(name)
    if not found:
        return None
    for whole, parts in FUSED_EXPERTS.items():
        if found["part"] in parts:
            which = parts.index(found["part"])
            return found["stem"], whole, int(found["expert"]), which, len(parts)
    return None


def constant(name: str, shape: tuple[int, ...]) -> str | None:
    """What a constant saved with the weights is, ``None`` for a weight."""
    for pattern, what, ranks in CONSTANTS:
        if pattern.search(name) and len(shape) in ranks:
            return what
    return None
