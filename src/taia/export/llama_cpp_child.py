"""llama.cpp's answers, in a process of its own: asked by JSON on stdin, see ``llama_cpp.py``.

Run as ``python -c``: nothing of taia is imported, and llama.cpp is alone in the process.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    """Reads what is asked, and writes scores to a file and tokens to stdout.

    Exits with 3 if llama.cpp does not load the file.
    """
    import llama_cpp.llama_cpp as library
    import numpy as np
    from llama_cpp import Llama
    from safetensors.numpy import save_file

    default = library.llama_model_default_params

    def as_they_lie() -> Any:  # noqa: ANN401 - untyped
        """Weights as the file has them: reordered for AMX, llama.cpp crashes on some machines."""
        params = default()
        if hasattr(params, "use_extra_bufts"):
            params.use_extra_bufts = False
        return params

    library.llama_model_default_params = as_they_lie
    asked = json.load(sys.stdin)
    length = len(asked["ids"])
    try:
        model = Llama(
            asked["base"],
            lora_path=asked["adapter"],
            n_ctx=length,
            n_batch=length,
            logits_all=True,
            type_k=library.GGML_TYPE_F32,
            type_v=library.GGML_TYPE_F32,
            verbose=False,
        )
    except (ValueError, RuntimeError) as error:
        print((str(error).splitlines() or [type(error).__name__])[0])
        sys.exit(3)
    model.eval(asked["ids"])
    scores = model.scores[length - asked["steps"] : length]
    save_file({"scores": np.ascontiguousarray(scores, np.float32)}, asked["out"])
    print(json.dumps([model.tokenize(text.encode(), special=True) for text in asked["texts"]]))


if __name__ == "__main__":
    main()
