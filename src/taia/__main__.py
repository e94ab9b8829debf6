"""``taia`` and ``python -m taia``, also while its parts are still being imported."""

from __future__ import annotations

import os
import sys

from taia.signals import hear


def main() -> None:
    """Runs the command line and exits, as :func:`taia.cli.main` does."""
    hear(_stop)
    from taia.cli import main as run

    run()


def _stop(_number: int, _frame: object) -> None:
    # Nothing is open yet; an exception would be swallowed by some imports, and half of a module is
    # no place to go on from.
    sys.stderr.write("taia: interrupted\n      Nothing was begun.\n")
    sys.stderr.flush()
    os._exit(130)


if __name__ == "__main__":
    main()
