"""Modes: selections that have a name.

=============  ====================================  ==========================================
mode           selection                             whose policy
=============  ====================================  ==========================================
base           ``none``                              the model before fine-tuning
tuned          ``all``                               the paper's *vanilla*
taia           ``all - mlp``                         the authors' evaluation of full fine-tuning:
                                                     norms, embeddings and head stay tuned
taif           ``mlp``                               the paper's mirror image of TAIA
taia-qkvo      ``q_proj + k_proj + v_proj + o_proj`` the authors' evaluation of adapters
taia-strict    ``attention``                         the paper's formula, read to the letter
=============  ====================================  ==========================================

On an adapter trained on the seven usual projections, the last two and ``taia`` are the same thing.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

#: Mode → the selection it stands for.
MODES: Final = MappingProxyType(
    {
        "base": "none",
        "tuned": "all",
        "taia": "all - mlp",
        "taif": "mlp",
        "taia-qkvo": "q_proj + k_proj + v_proj + o_proj",
        "taia-strict": "attention",
    }
)
