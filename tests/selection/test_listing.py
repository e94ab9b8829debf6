import pytest

from taia.errors import SelectionError
from taia.selection.listing import read_modes


@pytest.mark.parametrize(
    ("text", "modes"),
    [
        ("base,tuned", {"base": "none", "tuned": "all"}),
        (" taia , mlp ", {"taia": "all - mlp", "mlp": "mlp"}),
        ("attention[:, 0],base", {"attention[:, 0]": "attention[:, 0]", "base": "none"}),
        ("half=attention + 0.5*mlp, taif", {"half": "attention + 0.5*mlp", "taif": "mlp"}),
        ("base,", {"base": "none"}),
    ],
)
def test_a_list_is_read(text, modes):
    assert read_modes(text) == modes
    assert list(read_modes(text)) == list(modes)


@pytest.mark.parametrize("text", ["", " , ", "base,base", "a=all,a=none", "half=", "0.5*", "x=y["])
def test_a_bad_list_is_refused(text):
    with pytest.raises(SelectionError):
        read_modes(text)


def test_other_names_are_let_through_only_where_they_are_allowed():
    assert read_modes("base,loracl", also=["loracl"]) == {"base": "none", "loracl": ""}
    with pytest.raises(SelectionError):
        read_modes("base,loracl=", also=["loracl"])
