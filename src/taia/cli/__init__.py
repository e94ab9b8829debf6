"""The ``taia`` command. One file per command."""

from taia.cli.app import app, main

__all__ = ["app", "main"]
