"""What was given, as items that can be put into parts, and then as tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from taia.errors import DataError, InputError
from taia.evaluation.harness.drive import Asking, Prepared
from taia.mending.examples import Example
from taia.mending.sources import GivenData, Prompt, said_key
from taia.mending.split import key_of
from taia.training.data.row import Row
from taia.training.data.template import UnrenderedError
from taia.training.data.tokens import RowEncoder

if TYPE_CHECKING:
    from taia.evaluation.harness.encoder import Encoder
    from taia.evaluation.harness.model import ModesLM
    from taia.evaluation.harness.tasks import LmTask, Tasks

#: Of a task, at most so many items: a task of many thousands would take minutes to format.
MOST: Final = 1_000
#: Tokens of a row, at most; it is cut at its end.
LENGTH: Final = 1_024


@dataclass(frozen=True, slots=True)
class TaskItem:
    """One item of a task.

    Attributes:
        task: The task's name.
        place: Its place in the task.
        context: The prompt as the model gets it; empty where a text is rated whole.
        target: The right answer, or the whole text; None where no answer is right.
        is_text: Whether the text is rated whole.
    """

    task: str
    place: int
    context: str
    target: str | None
    is_text: bool = False


What: TypeAlias = Row | Prompt | TaskItem


@dataclass(frozen=True, slots=True)
class MendItem:
    """Something to be learnt or kept.

    Attributes:
        key: The hash of what it asks.
        source: The file or task it is of.
        what: It.
    """

    key: str
    source: str
    what: What


def items_of(given: GivenData, tasks: Tasks | None, lm: ModesLM, asking: Asking) -> list[MendItem]:
    """All items of what was given.

    Raises:
        InputError: If a task cannot make its prompts.
    """
    found = [
        MendItem(said_key(said), file.name, said) for file in given.files for said in file.said
    ]
    for name, task in (tasks.tasks if tasks else {}).items():
        found += [MendItem(key, name, one) for key, one in _of_task(lm, name, task, asking)]
    return found


def in_turn(items: Sequence[MendItem]) -> list[MendItem]:
    """Items of each source in turn, so that the first few are a few of every source."""
    of: dict[str, list[MendItem]] = {}
    for item in items:
        of.setdefault(item.source, []).append(item)
    return [item for item in chain(*zip_longest(*of.values())) if item is not None]


class Tokeniser:
    """Items to tokens, as the model is trained and asked.

    Args:
        encoder: Of texts, with the model's tokenizer.
        room: Tokens that stay free behind a prompt.
    """

    def __init__(self, encoder: Encoder, room: int) -> None:
        self._encoder = encoder
        self._room = room
        self._length = min(LENGTH, encoder.max_length)
        self._before = max(1, self._length - room)
        self._rows = RowEncoder(encoder.tokenizer, max_length=self._length)

    def example(self, item: MendItem) -> Example | None:
        """An item whose answer is known, in tokens; None where nothing of its answer is left.

        Raises:
            DataError: If the chat template does not render it.
            InputError: If it is of a task whose items have no right answer.
        """
        if isinstance(item.what, Row):
            (found,) = self._rows.encode([item.what])
            if isinstance(found, UnrenderedError):
                raise DataError(
                    f"A row of {item.source} cannot be put in the chat format: {found}.",
                    "Mend the row, or give others.",
                )
            if found is None:
                return None
            places = tuple(int(place) for place in found.counts.nonzero()[0])
            return Example(item.key, tuple(found.input_ids.tolist()), places)
        if isinstance(item.what, TaskItem) and item.what.target is not None:
            return self._rated(item, item.what, item.what.target)
        raise InputError(
            f"{item.source} has no right answers to learn.",
            "Give rows with answers, or a task that has them.",
        )

    def prompt(self, item: MendItem) -> tuple[int, ...] | None:
        """A prompt's tokens, with room behind it; None where it has an answer already."""
        what = item.what
        if isinstance(what, TaskItem) and not what.is_text:
            return self._encoder.prompt(what.context, self._room)[-self._before :]
        if not isinstance(what, Prompt):
            return None
        tokenizer = self._encoder.tokenizer
        chat = [{"role": turn.role, "content": turn.content} for turn in what.turns]
        if tokenizer.chat_template:
            text = self._encoder.apply_chat_template(chat)
            ids = tokenizer(text, add_special_tokens=False).input_ids
        else:
            asked = "\n\n".join(turn["content"] for turn in chat)
            ids = tokenizer(f"Question: {asked}\nAnswer:").input_ids
        return tuple(ids[-self._before :])

    def _rated(self, item: MendItem, what: TaskItem, target: str) -> Example | None:
        if what.is_text:
            pairs = self._encoder.windows(target)[:1]
        else:
            pairs = self._encoder.pairs([(what.context, target)])
        for context, continuation in pairs:
            ids = (*context, *continuation)[: self._length]
            places = tuple(range(max(1, len(context)), len(ids)))
            return Example(item.key, ids, places) if places else None
        return None


def _of_task(
    lm: ModesLM, name: str, task: LmTask, asking: Asking
) -> Iterator[tuple[str, TaskItem]]:
    prepared = Prepared(lm, name, task, asking)
    seen = set()
    for request in prepared.task.instances:
        if request.doc_id in seen:
            continue
        kind, asked = request.request_type, str(request.args[0])
        if kind == "loglikelihood_rolling":
            seen.add(request.doc_id)
            yield _key(request.doc, asked), TaskItem(name, request.doc_id, "", asked, True)
            continue
        gold = _gold(task, request, asking.chat)
        if gold is _OTHER:
            continue  # another option of the same question
        seen.add(request.doc_id)
        yield _key(request.doc, asked), TaskItem(name, request.doc_id, asked, gold)


#: Marks an option that is not the right one.
_OTHER: Final = "\0"


def _gold(task: LmTask, request: Any, chat: bool) -> str | None:  # noqa: ANN401 - lm_eval has no types
    """A request's right answer as it follows the prompt; None where there is none."""
    args, kind = request.args, request.request_type
    target = task.doc_to_target(request.doc)
    if kind == "loglikelihood" and task.OUTPUT_TYPE == "multiple_choice":
        right = target if isinstance(target, int) else None
        if right is None and isinstance(target, list) and target:
            right = target[0]
        return str(args[1]) if right in (None, request.idx) else _OTHER
    if kind == "loglikelihood":
        return str(args[1])
    if isinstance(target, list):
        target = target[0] if target else ""
    if not str(target).strip() or request.doc.get("kind") == "rules":
        return None  # what a rule checks has many right answers
    return str(target) if chat else f"{task.config.target_delimiter}{target}"


def _key(doc: object, asked: str) -> str:
    """By the question's own words where the data tell them, not the format around them."""
    own = doc.get("prompt") if isinstance(doc, dict) else None
    return key_of(own if isinstance(own, str) and own.strip() else asked)
