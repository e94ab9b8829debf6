"""Which tensor is which component of which layer."""

from taia.anatomy.anatomy import Anatomy
from taia.anatomy.components import COMPONENTS
from taia.anatomy.labels import Label, Layout, Segment, TensorInfo

__all__ = ["COMPONENTS", "Anatomy", "Label", "Layout", "Segment", "TensorInfo"]
