"""Reading and printing: exact trees, exact errors, and inverses of one another."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taia.errors import SelectionError
from taia.selection import MODES, Selection
from taia.selection.parser import parse
from taia.selection.tree import Name, Node, Pattern, Range, Scaled, Sliced, Sum, Term

A, B, C = Name("a"), Name("b"), Name("c")

# --- what texts mean ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("attention", Name("attention")),
        ("attention.c_proj", Name("c_proj", within="attention")),
        ("taia-strict", Name("taia-strict")),
        ("taia - strict", Sum(Name("taia"), (Term("-", Name("strict")),))),
        ("taia-stricter", Sum(Name("taia"), (Term("-", Name("stricter")),))),
        ("all-mlp", Sum(Name("all"), (Term("-", Name("mlp")),))),
        ("taia-strict-mlp", Sum(Name("taia-strict"), (Term("-", Name("mlp")),))),
        ("a + b - c", Sum(A, (Term("+", B), Term("-", C)))),
        ("(a + b) - c", Sum(A, (Term("+", B), Term("-", C)))),
        ("a + (b - c)", Sum(A, (Term("+", Sum(B, (Term("-", C),))),))),
        ("a - (b + c)", Sum(A, (Term("-", Sum(B, (Term("+", C),))),))),
        ("0.5*a + b", Sum(Scaled(0.5, A), (Term("+", B),))),
        ("a + 0.5*b", Sum(A, (Term("+", Scaled(0.5, B)),))),
        ("a*.5", Scaled(0.5, A)),
        ("2*a*3", Scaled(2.0, Scaled(3.0, A))),
        ("1e-3*a", Scaled(0.001, A)),
        ("0.5*a[1:2]", Scaled(0.5, Sliced(A, Range(1, 2)))),
        ("(0.5*a)[1:2]", Sliced(Scaled(0.5, A), Range(1, 2))),
        ("a[3]", Sliced(A, Range(3, single=True))),
        ("a[-1]", Sliced(A, Range(-1, single=True))),
        ("a[:]", Sliced(A, Range(None))),
        ("a[::2]", Sliced(A, Range(None, None, 2))),
        ("a[-8:-1:-2]", Sliced(A, Range(-8, -1, -2))),
        ("a[:, 3]", Sliced(A, Range(None), Range(3, single=True))),
        ("a[1:2, :4]", Sliced(A, Range(1, 2), Range(None, 4))),
        ("a[1:][:2]", Sliced(Sliced(A, Range(1, None)), Range(None, 2))),
        ("(a + b)[8:]", Sliced(Sum(A, (Term("+", B),)), Range(8, None))),
        (r"re:\.mlp\.", Pattern(r"\.mlp\.")),
        ('re:"a b" + c', Sum(Pattern("a b"), (Term("+", C),))),
        ("re:'x[0-9]+'[1]", Sliced(Pattern("x[0-9]+"), Range(1, single=True))),
        (r're:"say \"a\""', Pattern(r"say \"a\"")),
        ("""re:'say "a"'""", Pattern(r"say \"a\"")),
    ],
)
def test_reads_as(text: str, tree: Node) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        (" all-mlp[ 20 : ] ", "all - mlp[20:]"),
        ("((a)+(b))", "a + b"),
        ("(a+b)+c", "a + b + c"),
        ("a+(b+c)", "a + (b + c)"),
        ("a*0.50", "0.5*a"),
        ("1.0*a", "1*a"),
        ("0.5*(a+b)", "0.5*(a + b)"),
        ("(a+b)[1:,2]", "(a + b)[1:, 2]"),
        ("(0.5*a)[::2]", "(0.5*a)[::2]"),
        ("(a)[0][1]", "a[0][1]"),
        ("attention . c_proj", "attention.c_proj"),
        (r"re:\.mlp\.", r're:"\.mlp\."'),
    ],
)
def test_prints_as(text: str, printed: str) -> None:
    assert str(Selection.parse(text)) == printed


def test_selections_that_read_alike_are_equal() -> None:
    assert Selection.parse("all-mlp") == Selection.parse("(all) -  mlp")
    assert hash(Selection.parse("all-mlp")) == hash(Selection.parse("(all) -  mlp"))
    assert Selection.parse("all - mlp") != Selection.parse("all + mlp")
    assert Selection.parse("a + b") != Selection.parse("b + a")


@pytest.mark.parametrize("mode", MODES)
def test_modes_are_names(mode: str) -> None:
    assert parse(mode) == Name(mode)
    assert str(parse(mode)) == mode


# --- errors ---------------------------------------------------------------------------------------

ERRORS = [
    ("", 1, "the selection is empty"),
    ("  ", 1, "the selection is empty"),
    ("attention +", 12, "expected a component, a projection or a mode, found the end"),
    ("attention + ", 12, "expected a component, a projection or a mode, found the end"),
    ("-mlp", 1, "expected a component, a projection or a mode, found '-'"),
    ("(attention", 11, "expected ')', found the end"),
    ("attention)", 10, "expected '+', '-' or the end, found ')'"),
    ("attention  mlp", 12, "expected '+', '-' or the end, found 'mlp'"),
    ("0.5", 4, "expected '*' after a number, found the end"),
    ("all + 0.5 mlp", 11, "expected '*' after a number, found 'mlp'"),
    ("mlp*attention", 5, "expected a number after '*', found 'attention'"),
    ("1e999*mlp", 1, "1e999 is too large a number"),
    ("all - mlp[", 11, "expected a layer or a range such as 0:16, found the end"),
    ("mlp[]", 5, "expected a layer or a range such as 0:16, found ']'"),
    ("mlp[:, ]", 8, "expected a layer or a range such as 0:16, found ']'"),
    ("mlp[1", 6, "expected ']', found the end"),
    ("mlp[1,2,3]", 8, "expected ']', found ','"),
    ("mlp[1:8:0]", 5, "a range cannot go in steps of 0"),
    ("mlp[:1.5]", 6, "expected a whole number, found '1.5'"),
    ("mlp[1e3]", 5, "expected a whole number, found '1e3'"),
    ("mlp[-:]", 6, "expected a whole number after '-', found ':'"),
    ("mlp[" + "9" * 10 + "]", 5, "too large a number"),
    ("mlp[" + "9" * 5000 + "]", 5, "too large a number"),
    ("attention.", 11, "expected a projection after '.', found the end"),
    ("attention.[1]", 11, "expected a projection after '.', found '['"),
    ("mlp & attention", 5, "'&' has no meaning here"),
    ("all - re:", 7, "no regular expression after 're:'"),
    ("(re:mlp)", 8, "')' in a regular expression without quotes"),
    ("re:mlp.*[8:]", 8, "'*' in a regular expression without quotes"),
    ("re:mlp[8:]", 7, "'[' in a regular expression without quotes"),
    ("re:attn-mlp", 8, "'-' in a regular expression without quotes"),
    ('all - re:"mlp', 10, "a quote that does not close, or follows no 're:'"),
    (
        'all - re:"("',
        7,
        "not a regular expression: missing ), unterminated subpattern at position 0",
    ),
    ('re:"a{99999999999}"', 1, "not a regular expression: the repetition number is too large"),
]


@pytest.mark.parametrize(("text", "character", "problem"), ERRORS, ids=lambda v: str(v)[:30])
def test_errors_point_at_the_character(text: str, character: int, problem: str) -> None:
    with pytest.raises(SelectionError) as caught:
        parse(text)
    assert caught.value.problem == (
        f"selection, character {character}: {problem}\n  {text}\n  {' ' * (character - 1)}^"
    )
    assert caught.value.mend
    assert caught.value.exit_code == 2


def test_the_caret_stands_under_its_character_whatever_came_before() -> None:
    with pytest.raises(SelectionError) as caught:
        parse("all\n-\tmlp &")
    assert caught.value.problem.splitlines()[1:] == ["  all - mlp &", "            ^"]


@pytest.mark.parametrize(
    "text",
    ["(" * 5000 + "a" + ")" * 5000, "a" + "[0:1]" * 5000, "1*" * 5000 + "a", "(1*" * 51 + "a"],
    ids=["brackets", "slices", "factors", "both"],
)
def test_deep_nesting_is_an_error_and_no_crash(text: str) -> None:
    with pytest.raises(SelectionError, match="more than 50 brackets, factors or slices"):
        parse(text)


def test_some_nesting_is_not_an_error() -> None:
    text = "a" + "[0:1]" * 40
    assert str(parse(text)) == text
    assert parse("(" * 40 + "a" + ")" * 40) == A


def test_a_weight_for_every_projection_of_every_layer_is_no_deep_tree() -> None:
    text = " + ".join(f"0.5*q_proj[{i}]" for i in range(5000))
    selection = Selection.parse(text)
    assert str(selection) == text
    assert hash(selection) == hash(Selection.parse(text))


# --- printing and parsing are inverse -------------------------------------------------------------

_WORDS = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8) | st.just("re")
_NAMES = st.builds(Name, st.sampled_from([*MODES, "attention", "q_proj", "é2"]) | _WORDS)
_QUALIFIED = st.builds(Name, _WORDS, within=_WORDS)
_NUMBERS = st.floats(0, allow_infinity=False, allow_nan=False).map(abs)
_INTEGERS = st.integers(-999_999_999, 999_999_999)
_MAYBE = st.none() | _INTEGERS
_RANGES = st.builds(Range, _INTEGERS, single=st.just(True)) | st.builds(
    Range, _MAYBE, _MAYBE, _MAYBE.filter(lambda step: step != 0)
)


def _is_regex(text: str) -> bool:
    try:
        re.compile(text)
    except (re.error, OverflowError):
        return False
    return True


def _escaped(text: str) -> str:
    return re.sub(r'(\\.)|"', lambda m: m[1] or r"\"", text, flags=re.DOTALL)


_PATTERNS = st.builds(
    Pattern, st.text(string.printable, max_size=12).map(_escaped).filter(_is_regex)
)


_LEAVES = _NAMES | _QUALIFIED | _PATTERNS
_SLICED = st.deferred(lambda: st.builds(Sliced, TREES, _RANGES, st.none() | _RANGES))
_SCALED = st.deferred(lambda: st.builds(Scaled, _NUMBERS, TREES))
_TERMS = st.deferred(lambda: st.builds(Term, st.sampled_from("+-"), TREES))
_SUMS = st.builds(  # never a sum first: brackets there change nothing
    Sum, _LEAVES | _SLICED | _SCALED, st.lists(_TERMS, min_size=1, max_size=4).map(tuple)
)
TREES: st.SearchStrategy[Node] = _LEAVES | _SLICED | _SCALED | _SUMS


@given(TREES)
@example(Pattern('\\\n"'.replace('"', r"\"")))
def test_every_tree_prints_as_it_reads(tree: Node) -> None:
    assert parse(str(tree)) == tree


def _bracketed(node: Node) -> str:
    """The tree with brackets around everything that can have them."""
    if isinstance(node, Sum):
        rest = "".join(f" {sign} {_bracketed(part)}" for sign, part in node.rest)
        return f"({_bracketed(node.first)}{rest})"
    if isinstance(node, Scaled):
        return f"({node.factor!r}*{_bracketed(node.of)})"
    if isinstance(node, Sliced):
        heads = "" if node.heads is None else f",{node.heads}"
        return f"({_bracketed(node.of)}[{node.layers}{heads}])"
    return f"({node})"


@given(TREES)
def test_needless_brackets_do_not_matter(tree: Node) -> None:
    assert parse(_bracketed(tree)) == tree


_TOKENS = re.compile(r're:"(?:[^"\\]|\\.)*"|taia-\w+|[\d.]+(?:e[+-]?\d+)?|\w+|\S', re.DOTALL)


@given(TREES, st.data())
def test_white_space_does_not_matter(tree: Node, data: st.DataObject) -> None:
    tokens = _TOKENS.findall(str(tree))
    spaces = st.sampled_from(["", " ", "  ", "\t", "\n "])
    assert parse("".join(t + data.draw(spaces) for t in tokens)) == tree


# --- any text -------------------------------------------------------------------------------------

_PIECES = [*"+-*()[]:,. ", "re:", 're:"', "'", '"', "\\", "\n", "mlp", "taia-strict", "0", "1.5"]
_PIECES += ["1e9", "..", "٣", "²", "é", "\x00", "all", "[0:1]", "(", "99999999999999999999"]
_SOUP = st.lists(st.sampled_from(_PIECES), max_size=30).map("".join)


@given(_SOUP | st.text(max_size=40) | TREES.map(str).map(lambda t: t[: len(t) // 2]))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        tree = parse(text)
    except SelectionError as error:
        first, _, caret = error.problem.split("\n")
        found = re.match(r"selection, character (\d+): ", first)
        assert found is not None
        assert 1 <= int(found[1]) <= len(text) + 1
        assert caret == " " * (int(found[1]) + 1) + "^"
    else:
        assert parse(str(tree)) == tree
