"""Prints the path of a configuration: ``python -m taia.training.accelerate fsdp``."""

from __future__ import annotations

import sys

from taia.errors import InputError
from taia.training.accelerate import NAMES, accelerate_config

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m taia.training.accelerate {{{','.join(NAMES)}}}")
    try:
        print(accelerate_config(sys.argv[1]))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
