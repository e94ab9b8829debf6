r"""The matching of the paper's authors, to compare with their numbers (``--protocol authors``).

It follows what ``eval_em.py`` of https://github.com/pixas/TAIA_LLM does, mistakes included:

- Of several ``\boxed{}``, and of several "The answer is", the first counts; ours takes the last.
  That holds for MATH's solutions, too.
- "The answer is" reaches to the first full stop: "3.14" is read as "3".
- What is not found is the text "None", which contains "e" and "on".
- MATH and BBH look for the right answer *inside* the given one: "1" is in "12", "No" in "Now". For
  BBH the given one is the whole response, or the first option in brackets.
- MATH looks for a boxed text that is no number inside the whole worked solution, if the right
  answer is a number or plain algebra; an empty ``\boxed{}`` is in every text.
- CommonsenseQA looks for the letter inside what follows "The answer is".
- MMedBench takes the first of the capitals A to E: "An infection" is the answer A.

Three things differ. Arithmetic is read here, where they evaluate what the model wrote as code.
Where their program stops with an error (no letter found), the answer is wrong. Their second stage
overwrote the stored right answer; here the right one is used.

Each rule here takes an item and all that the model wrote, without the white space around it; of a
two-stage answer, both stages joined. A task names its rule in ``by_authors``.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from taia.evaluation.tasks.answers.statements import boxed

if TYPE_CHECKING:
    from taia.evaluation.tasks.task import Item


def mathematics(item: Item, text: str) -> bool:
    """MATH: inside what is boxed or announced, by value where both are numbers."""
    gold = next(boxed(item.solution), item.gold)
    if "\\text{" in gold:
        gold = gold[gold.index("\\text{") + len("\\text{") : -1]
    boxes = list(boxed(text))
    if not boxes:
        return any(gold in found for found in _announced(text))
    right = _value(gold)
    if isinstance(right, str):
        return right in boxes[0]
    given = boxes[0] if right is None else _value(boxes[0])
    if isinstance(given, str):
        return given in (item.solution or item.gold)
    return given is not None and right is not None and abs(given - right) < 1e-3


def number(item: Item, text: str) -> bool:
    """SVAMP: by value, of what is boxed or announced."""
    gold = float(item.gold)
    boxes = list(boxed(text))
    if boxes:
        given = _value(boxes[0])
        if isinstance(given, str):
            return given in str(gold)
        return given is not None and abs(given - gold) < 1e-3
    found = _announced(text)
    try:
        return any(abs(float(x) - gold) < 1e-3 for x in found)
    except ValueError:
        return gold == int(gold) and any(str(int(gold)) in x for x in found)


def inside(item: Item, text: str) -> bool:
    """BBH: the right answer is anywhere in the response, or in its first option in brackets."""
    if "(" not in text or ")" not in text:
        return item.gold in text
    bracketed = re.findall(r"\((.*?)\)", text)
    for inner in bracketed:
        if inner in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
            return item.gold in f"({inner})"
    return item.gold in bracketed


def announced_letter(item: Item, text: str) -> bool:
    """CommonsenseQA, LogiQA: the letter is in what is announced, or all there is."""
    if len(text) == 1:
        return text == item.gold
    return any(item.gold in found for found in _announced(text))


def chinese_letter(item: Item, text: str) -> bool:
    """LogiQA in Chinese: the letter is what 答案是 announces, or all there is."""
    if len(text) == 1:
        return text == item.gold
    match = re.search(r"答案是 (.*?)。", text)
    return match is not None and match[1] == item.gold


def first_capital(item: Item, text: str) -> bool:
    """MMedBench: the first of the capitals A to E."""
    match = re.search(r"[A-E]", text)
    return match is not None and match[0] == item.gold


def letter(item: Item, text: str) -> bool:
    """MMLU, and whatever they did not have: the letter is all there is."""
    return text.removesuffix(".") == item.gold


def _announced(text: str) -> list[str]:
    """What follows the first "the answer is" and the first "The answer is", or the text "None"."""
    found = [re.search(rf"{the} answer is (.*?)\.", text) for the in ("the", "The")]
    return [match[1] for match in found if match] or ["None"]


def _value(text: str) -> float | str | None:
    """A number as a number, algebra as None, anything else as the text it is."""
    match = re.search(r"\\d?frac\{([^}]+)\}\{([^}]+)\}", text)
    if match:
        try:
            return float(match[1]) / float(match[2])
        except (ValueError, ZeroDivisionError):
            return text
    try:
        return _arithmetic(ast.parse(text.strip().replace("^", "**"), mode="eval").body)
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        return text


_OPERATORS: Final[dict[type, Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
}


def _arithmetic(node: ast.expr) -> float | None:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return float(str(node.value))
    if isinstance(node, ast.Name):
        return {"pi": math.pi, "E": math.e}.get(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _arithmetic(node.operand)
        return -value if value is not None and isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _arithmetic(node.left), _arithmetic(node.right)
        return None if left is None or right is None else _OPERATORS[type(node.op)](left, right)
    raise ValueError("neither a number nor algebra")
