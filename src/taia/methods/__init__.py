"""Methods: formulas on an update Δ = W_tuned − W_base, tensor by tensor, each found by its name.

W_infer = W_base + α · f(Δ), where f is the method and α the selection's. A method is one file
that says what it is (:class:`Method`) and has one of three functions:

``scale(label, depth, **values)``
    A number that the tensor's α is multiplied with. No tensor is read, and an adapter stays one.
``entries(given, **values)``
    f(Δ) from Δ and W_base, in the shape that the tensor is stored in. Full rank.
``spectrum(given, u, s, v, **values)``
    f(Δ) from Δ = u · diag(s) · vᵀ in the same form. A LoRA stays one of its rank.

Formulas are NumPy's, and load it when they are called. What they are applied with is
:mod:`taia.methods.calculate`, the same for files and for live models.
"""

from taia.methods.applied import Applied
from taia.methods.given import Given
from taia.methods.method import Method, Parameter
from taia.methods.registry import METHODS, find

__all__ = ["METHODS", "Applied", "Given", "Method", "Parameter", "find"]
