"""MoLoRA: a router and several small LoRAs on each linear of the feed-forward block.

A tuner for PEFT. Importing this package makes it known to PEFT, so that ``get_peft_model`` and
``PeftModel.from_pretrained`` work as for any other adapter::

    from peft import get_peft_model
    from taia.molora import MoloraConfig

    model = get_peft_model(model, MoloraConfig(r=16, lora_alpha=32, num_experts=4))
"""

from taia.molora.config import MoloraConfig
from taia.molora.layer import MoloraLinear
from taia.molora.model import MoloraModel
from taia.molora.register import register

__all__ = ["MoloraConfig", "MoloraLinear", "MoloraModel"]

register()
