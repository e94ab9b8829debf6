"""Task files that name each feature of lm-evaluation-harness which a score depends on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

WORDS = ("ash", "bee", "cod", "doe", "elk", "fox", "gnu", "hen", "ibis", "jay")
ROWS = [
    {
        "id": f"q{i}",
        "question": f"What is {word}?",
        "choices": ["a cat", "dog", word * 2, "a"],
        "answer": i % 4,
        "yes": i % 3 == 0,
        "text": f"The {word} is {i}.\n" + word * (3 * i),
        "words": word if i % 2 else "e",
    }
    for i, word in enumerate(WORDS)
]

FUNCTIONS = """
import math

def text(doc):
    return "Tell me: " + doc["question"]

def choices(doc):
    return [one.upper() for one in doc["choices"]]

def target(doc):
    return doc["answer"]

def shots():
    return [
        {"question": "Why?", "choices": ["so", "no", "yes", "ah"], "answer": 2, "id": "s1"},
        {"question": "Who?", "choices": ["I", "you", "it", "we"], "answer": 0, "id": "s2"},
    ]

def even(dataset):
    return dataset.filter(lambda doc: doc["answer"] % 2 == 0)

def last(resps, docs):
    return [[row[-1].strip()[:2]] for row in resps]

def judged(doc, results):
    said = results[0] if isinstance(results[0], str) else results[0][0]
    made = {"length": float(len(said)), "first": said[:1] == doc["words"][:1]}
    if doc["answer"] != 1:
        made["some"] = len(said) % 2
    if doc["answer"] == 2:
        made["unlisted"] = 1.0
    return made

def paired(doc, results):
    pair = (len(results[0]), doc["answer"] + 1)
    return {**judged(doc, results), "pair": pair, "maybe": math.nan if pair[1] == 4 else 2.0}

def share(pairs):
    return sum(a for a, _ in pairs) / sum(b for _, b in pairs)

def typical(values):
    return sorted(values)[len(values) // 3]
"""

_CHOICE: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_text": "Q: {{question}}\nA:",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
}
_SAID: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_text": "Q: {{question}}\nA:",
    "doc_to_target": "{{words}}",
    "generation_kwargs": {"until": ["e", "zz"], "max_gen_toks": 9},
}
_YES = {**_CHOICE, "doc_to_choice": ["no", "yes"], "doc_to_target": "{{yes|int}}"}
_TEXT = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"}
_TAKE = {"function": "take_first"}
_LETTER = {"function": "regex", "regex_pattern": "([a-z])"}


def _metrics(*names: str, **more: Any) -> dict[str, Any]:
    return {"metric_list": [{"metric": name, **more} for name in names]}


#: A text that stands for a function until the file is written.
def _function(name: str) -> str:
    return f"<{name}>"


_OWN = {"function": "custom", "filter_fn": _function("last")}
_BOTH = {"higher_is_better": True}
TASKS: dict[str, dict[str, Any]] = {
    "choice_plain": {**_CHOICE},
    "choice_norm_first": {**_CHOICE, **_metrics("acc_norm", "acc", "acc_bytes", "exact_match")},
    "choice_mutual": {**_CHOICE, **_metrics("acc_mutual_info", "acc")},
    "choice_shown": {**_CHOICE, "num_fewshot": 2, **_metrics("acc", "acc_norm")},
    "choice_described": {
        **_CHOICE,
        "description": "Answer, please.\n",
        "target_delimiter": "",
        "fewshot_delimiter": "\n##\n",
        "num_fewshot": 1,
    },
    "choice_listed": {
        **_CHOICE,
        "num_fewshot": 1,
        "fewshot_config": {
            "sampler": "first_n",
            "samples": [{"question": "So?", "choices": ["x", "y"], "answer": 1}],
        },
    },
    "choice_functions": {
        **_CHOICE,
        "doc_to_text": _function("text"),
        "doc_to_choice": _function("choices"),
        "doc_to_target": _function("target"),
        "num_fewshot": 2,
        "fewshot_config": {"sampler": "first_n", "samples": _function("shots")},
    },
    "choice_dictionary": {
        **_CHOICE,
        "doc_to_choice": {"a": "one", "b": "two", "c": "ah", "d": "o"},
    },
    "choice_of_inputs": {
        **_CHOICE,
        "doc_to_text": "answer",
        "doc_to_choice": "choices",
        "doc_to_target": "{{text}}",
    },
    "choice_of_targets": {**_CHOICE, "doc_to_target": "{{[answer, (answer + 1) % 4]}}"},
    "choice_some": {**_CHOICE, "process_docs": _function("even")},
    "choice_brier": {**_CHOICE, **_metrics("brier_score", "acc")},
    "yes_f1": {**_YES, **_metrics("f1", "mcc", "acc")},
    "yes_mcc": {**_YES, **_metrics("mcc", "acc")},
    "next_perplexity": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{question}}",
        "doc_to_target": " {{words}}",
        **_metrics("perplexity", "acc"),
    },
    "next_acc": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{question}}",
        "doc_to_target": " {{words}}",
        "num_fewshot": 1,
        **_metrics("acc", "perplexity"),
    },
    "text_words": {**_TEXT},
    "text_bits": {**_TEXT, **_metrics("bits_per_byte", "byte_perplexity", "word_perplexity")},
    "said_plain": {**_SAID},
    "said_shown": {**_SAID, "num_fewshot": 2, "gen_prefix": "So it is"},
    "said_of_targets": {
        **_SAID,
        "doc_to_target": "{{['e', words]}}",
        **_metrics("exact_match", ignore_case=True, ignore_punctuation=True),
    },
    "said_filtered": {
        **_SAID,
        "filter_list": [
            {"name": "letter", "filter": [_LETTER, _TAKE]},
            {"name": "whole", "filter": [_TAKE]},
            {"name": "upper", "filter": [{"function": "uppercase"}, _TAKE]},
            {
                "name": "own",
                "filter": [{"function": "custom", "filter_fn": _function("last")}, _TAKE],
            },
        ],
        **_metrics("exact_match"),
    },
    "said_voted": {
        **_SAID,
        "repeats": 3,
        "filter_list": [
            {"name": "vote", "filter": [_LETTER, {"function": "majority_vote"}, _TAKE]},
            {
                "name": "two",
                "filter": [
                    {"function": "take_first_k", "k": 2},
                    {"function": "majority_vote"},
                    _TAKE,
                ],
            },
        ],
        **_metrics("exact_match"),
    },
    "said_bleu": {**_SAID, **_metrics("bleu", "chrf", "ter", "exact_match")},
    "said_own": {
        **_SAID,
        "process_results": _function("paired"),
        "metric_list": [
            {"metric": "pair", "aggregation": _function("share"), **_BOTH},
            {"metric": "length", "aggregation": "median", **_BOTH},
            {"metric": "first", "aggregation": "mean", **_BOTH},
            {"metric": "some", "aggregation": "mean", **_BOTH},
            {"metric": "maybe", "aggregation": "nanmean", **_BOTH},
        ],
    },
    "said_typical": {
        **_SAID,
        "process_results": _function("judged"),
        "metric_list": [
            {"metric": "length", "aggregation": _function("typical"), "higher_is_better": False},
            {"metric": "some", "aggregation": "mean", **_BOTH},
        ],
    },
    "said_some": {
        **_SAID,
        "process_results": _function("judged"),
        "metric_list": [{"metric": "some", "aggregation": "mean", **_BOTH}],
    },
}


def _average(metric: str, *, by_size: bool, **more: Any) -> dict[str, Any]:
    own = {"metric": metric, "aggregation": "mean", "weight_by_size": by_size, **more}
    return {"aggregate_metric_list": [own]}


GROUPS: dict[str, dict[str, Any]] = {
    "list_only": {"task": ["choice_plain", "choice_some"]},
    "by_size": {"task": ["choice_plain", "choice_some"], **_average("acc", by_size=True)},
    "all_the_same": {"task": ["choice_plain", "choice_some"], **_average("acc", by_size=False)},
    "inner_size": {"task": ["choice_some", "choice_shown"], **_average("acc", by_size=True)},
    "outer_same": {
        "task": ["inner_size", "choice_brier"],
        **_average("acc", by_size=False, filter_list=["none"]),
    },
    "outer_size": {"task": ["inner_size", "yes_f1"], **_average("acc", by_size=True)},
    "mixed": {"task": ["choice_norm_first", "said_filtered"], **_average("acc", by_size=True)},
    "filtered": {
        "task": ["said_filtered", "said_voted"],
        **_average("exact_match", by_size=True, filter_list=["whole", "vote"]),
    },
    "found_filters": {
        "task": ["said_filtered", "said_plain"],
        **_average("exact_match", by_size=False),
    },
    "nothing_of_it": {"task": ["said_plain"], **_average("acc", by_size=True)},
    "texts": {"task": ["text_words", "text_bits"], **_average("word_perplexity", by_size=True)},
    "several": {
        "task": ["choice_norm_first", "choice_shown"],
        "aggregate_metric_list": [
            {"metric": "acc_norm", "weight_by_size": False},
            {"metric": "acc", "weight_by_size": True},
        ],
    },
    "inline": {
        "task": [
            "choice_plain",
            {
                "group": "within",
                "task": ["choice_some", "yes_mcc"],
                **_average("acc", by_size=False),
            },
        ],
        **_average("acc", by_size=True),
    },
}
#: Everything at once, which lm-evaluation-harness takes only as one group.
EVERYTHING = "everything"


def write(folder: Path) -> Path:
    """A folder of these tasks and groups, with their data and functions."""
    folder.mkdir(parents=True)
    for name, rows in {"test": ROWS, "train": [row | {"id": "x"} for row in ROWS[::-1]]}.items():
        text = "\n".join(json.dumps(row) for row in rows)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    (folder / "own.py").write_text(FUNCTIONS, encoding="utf-8")
    files = {split: str(folder / f"{split}.json") for split in ("train", "test")}
    shared = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "test_split": "test",
        "training_split": "train",
        "metadata": {"version": 1},
    }
    for name, task in TASKS.items():
        _save(folder / f"{name}.yaml", {"task": name, **shared, **task})
    for name, group in GROUPS.items():
        _save(folder / f"{name}.yaml", {"group": name, **group})
    _save(folder / f"{EVERYTHING}.yaml", {"group": EVERYTHING, "task": [*GROUPS, *TASKS]})
    return folder


def _save(file: Path, content: dict[str, Any]) -> None:
    text = yaml.safe_dump(content, sort_keys=False)
    text = re.sub(r"<([a-z]+)>", r"!function own.\1", text)
    file.write_text(text, encoding="utf-8")
