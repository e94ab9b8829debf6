"""What of a response is said to the user: without the model's thoughts and its own marks."""

from __future__ import annotations

import re
from typing import Final

_TAGS: Final = r"think|thinking|thought|thoughts|reasoning|reflection|scratchpad"
_THOUGHTS: Final = re.compile(rf"<({_TAGS})>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
#: Some templates open the thoughts in the prompt: the response then only closes them.
_CLOSED: Final = re.compile(rf"\A.*</(?:{_TAGS})>", re.DOTALL | re.IGNORECASE)
_MARKS: Final = re.compile(r"<\|[^|<>\n]{1,40}\|>|</?(?:s|unk|pad|bos|eos)>|\[/?INST\]")


def spoken(response: str) -> str:
    """A response without its ``<think>`` blocks and special tokens, outer white space stripped.

    Thoughts that never end leave nothing: the model was cut off before it spoke.
    """
    text = _CLOSED.sub("", _THOUGHTS.sub(" ", response))
    return _MARKS.sub(" ", text).strip()
