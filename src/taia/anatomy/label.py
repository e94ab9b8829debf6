"""From a tensor's name to its label, by the vocabulary."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final, NamedTuple

from taia.anatomy import vocabulary as words
from taia.anatomy.components import COMPONENTS, FEED_FORWARD
from taia.anatomy.labels import Label, TensorInfo
from taia.errors import AnatomyError
from taia.text import shortened

_ATTENTIONS = {
    "attention": "self_attention",
    "cross_attention": "cross_attention",
    "linear_attention": "linear_attention",
}
#: A number that a list of modules gives its members. A longer one numbers no layer of any model,
#: and would make a selection count as far.
_NUMBER: Final = re.compile("0|[1-9][0-9]{0,4}")

#: So much of a name is shown in an error.
_SHOWN: Final = 200


def number(part: str) -> int | None:
    """The number that a part of a name is, as modules in a list are numbered; else ``None``.

    ``"²"``, ``"07"`` and six digits are none, although ``str.isdigit`` says they are.
    """
    # most parts of most names are none, and are told without the expression
    return int(part) if part.isdigit() and _NUMBER.fullmatch(part) else None


class _Path(NamedTuple):
    modules: tuple[str, ...]  # without numbers and without the parameter's own name
    layer: int | None
    stack: str


def label_all(tensors: Iterable[TensorInfo], declare: Mapping[str, str]) -> list[Label]:
    """Labels tensors by their names; shapes play no part.

    Args:
        tensors: All tensors of one model: what stands beside a tensor can decide what it is.
        declare: Pattern (``*`` and ``?``) of a full name → component, for what no rule knows.

    Raises:
        AnatomyError: If a tensor has no label, or a declaration names no component.
    """
    for pattern, component in declare.items():
        if component not in COMPONENTS:
            raise AnatomyError(
                f"declared {pattern} as {component!r}, which is no component",
                f"declare one of: {', '.join(COMPONENTS)}",
            )
    tensors = list(tensors)
    paths = [_path(tensor.name) for tensor in tensors]
    labels = [_label(*both, declare) for both in zip(tensors, paths, strict=True)]
    return _beside_each_other(labels, paths)


def _path(name: str) -> _Path:
    modules: list[str] = []
    layer, stack = None, ""
    parts = name.split(".")
    for i, part in enumerate(parts):
        index = number(part)
        if index is None:
            modules.append(part)
        elif layer is None and i and parts[i - 1] in words.STACKS:
            layer, stack = index, ".".join(parts[:i])
    if "weight" in modules[1:]:  # behind it stands what bitsandbytes keeps of it
        del modules[modules.index("weight", 1) :]
    elif len(modules) > 1 and modules[-1] in words.PARAMETERS:
        modules.pop()
    return _Path(tuple(modules or (name,)), layer, stack)


def _label(tensor: TensorInfo, path: _Path, declare: Mapping[str, str]) -> Label:
    projection = _projection(path.modules)
    for pattern, component in declare.items():
        if fnmatchcase(tensor.name, pattern):
            return Label(tensor, component, path.layer, projection, stack=path.stack)
    kind, at = _kind(path.modules, path.layer is None)
    if kind is None:
        raise AnatomyError(
            f"no rule labels the tensor {_shown(tensor.name)} (its module "
            f"'{_shown(path.modules[at])}' is unknown)",
            f"declare what it is, such as --declare '{_shown(_glob(tensor.name))}=mlp'; "
            f"components: {', '.join(COMPONENTS)}",
        )
    if kind in _ATTENTIONS:
        block, role = _ATTENTIONS[kind], words.ATTENTION_ROLES.get(projection)
        state_space = block == "linear_attention" and path.modules[at] != "linear_attn"
        if state_space or words.SIDE_PATHS.intersection(path.modules):
            role = None
        return Label(tensor, "attention", path.layer, projection, block, role, path.stack)
    role = None
    if kind in FEED_FORWARD and kind != "router":
        role = words.FEED_FORWARD_ROLES.get(projection)
        if role is None and projection == "dense":  # BERT: intermediate.dense, output.dense
            role = "down_proj" if "output" in path.modules else "up_proj"
    return Label(tensor, kind, path.layer, projection, None, role, path.stack)


@lru_cache(maxsize=4096)  # the same in all layers, for all experts
def _kind(modules: tuple[str, ...], outside: bool) -> tuple[str | None, int]:
    """The component (or kind of attention) and the module that decides it, or the unknown one."""
    table = words.OUTSIDE_LAYERS if outside else words.IN_LAYER
    at = 0
    for at, module in enumerate(modules):
        if (kind := table.get(module)) is not None:
            return _inside(kind, modules[at:]), at
        last = at == len(modules) - 1
        if not last and (module in words.CONTAINERS or module in words.STACKS):
            continue
        return words.LAST.get(module) or ("norm" if words.NORM.search(module) else None), at
    return None, at


def _inside(kind: str, modules: tuple[str, ...]) -> str:
    for module in modules[1:]:
        inner = words.INSIDE.get("attention" if kind == "cross_attention" else kind, {}).get(module)
        dense = module in words.DENSE_OR_EXPERTS and modules[0] not in words.MIXTURES
        if inner is not None and not dense:
            kind = inner
    return kind


def _projection(modules: tuple[str, ...]) -> str:
    *before, last = modules
    last = words.QUANTISED.sub("", last)
    return before[-1] if last == "linear" and before and before[-1].endswith("_proj") else last


def _glob(name: str) -> str:
    return ".".join(part if number(part) is None else "*" for part in name.split("."))


def _shown(name: str) -> str:
    """A name as a message can hold it: one line, not without end, and no half characters."""
    short = shortened(name, _SHOWN)
    return short if short.isprintable() else ascii(short)[1:-1]


def _beside_each_other(labels: list[Label], paths: list[_Path]) -> list[Label]:
    """Settles what only the neighbours in the same layer can tell."""
    layers: dict[tuple[str, int | None], list[Label]] = defaultdict(list)
    for label in labels:
        layers[label.stack, label.layer].append(label)
    marks = {key: _marks(members) for key, members in layers.items()}
    settled = []
    for label, path in zip(labels, paths, strict=True):
        beside = marks[label.stack, label.layer]
        if label.component == "norm":
            block = _serves(label, path, beside)
            label = replace(label, block=block)
        elif label.block == "self_attention" and beside.linear:
            label = replace(label, block="linear_attention")
        settled.append(label)
    return settled


class _Marks(NamedTuple):
    norms: frozenset[str]
    served: frozenset[str]  # the blocks that these norms serve, each taken for itself
    linear: bool
    feed_forward: bool


def _marks(members: list[Label]) -> _Marks:
    own = {m.projection for m in members if m.block == "self_attention"}
    own |= {p for m in members if m.block == "self_attention" for p in m.tensor.name.split(".")}
    norms = frozenset(m.projection for m in members if m.component == "norm")
    return _Marks(
        norms=norms,
        served=frozenset(words.NORM_SERVES.get(norm, "other") for norm in norms),
        linear=bool(own & words.LINEAR_MARKS),
        feed_forward=any(m.component in FEED_FORWARD for m in members),
    )


def _serves(label: Label, path: _Path, beside: _Marks) -> str:
    if label.layer is None:
        inside = any(words.OUTSIDE_LAYERS.get(m) in ("embedding", "head") for m in path.modules)
        return "other" if inside or "emb" in label.projection else "final"
    if label.projection in ("LayerNorm", "layer_norm", "ln", "norm") and len(path.modules) > 1:
        owners = {words.IN_LAYER.get(module) for module in path.modules[:-1]} - {None}
        if owners:
            return "mlp" if owners <= {"mlp"} else "attention"
    serves = words.NORM_SERVES.get(label.projection, "other")
    if label.projection == "post_attention_layernorm":
        moved = words.POST_NORMS_BESIDE & beside.norms
        if moved and not words.SANDWICH_NORMS_BESIDE & beside.norms:
            return "attention"
    if serves == "attention" and "mlp" not in beside.served and beside.feed_forward:
        return "both"
    return serves
