"""``python -m taia`` is ``taia``."""

from taia.cli import main

main()
