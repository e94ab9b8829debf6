"""A composed model or adapter, written as another program wants it, and checked in that program.

One file per target (``to_*.py``); :mod:`taia.export.run` is what the command calls.
"""
