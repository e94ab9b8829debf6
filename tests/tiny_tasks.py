"""Tasks of lm-evaluation-harness over a few rows of local JSON."""

from __future__ import annotations

import json
from pathlib import Path

ROWS = [
    {
        "id": f"q{i}",
        "question": f"What is {word}?",
        "choices": ["a cat", "dog", word * 2, "a"],
        "answer": i % 4,
        "text": f"The {word} is {i}.\n" + word * (3 * i),
    }
    for i, word in enumerate(["ash", "bee", "cod", "doe", "elk", "fox", "gnu", "hen"])
]
_HEAD = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{train: {folder}/train.json, test: {folder}/test.json}}}}
test_split: test
training_split: train
fewshot_split: train
metadata: {{version: 1}}
"""
_TASKS = {
    "tiny_choice": """output_type: multiple_choice
doc_to_text: "Q: {{question}}\\nA:"
doc_to_choice: choices
doc_to_target: answer
num_fewshot: 2
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "tiny_words": """output_type: generate_until
doc_to_text: "Q: {{question}}\\nA:"
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["e", "zz"], max_gen_toks: 12}
filter_list:
  - {name: whole, filter: [{function: take_first}]}
  - {name: first, filter: [{function: regex, regex_pattern: "(.)"}, {function: take_first}]}
metric_list: [{metric: exact_match}]
""",
    "tiny_next": """output_type: loglikelihood
doc_to_text: "{{question}}"
doc_to_target: " {{choices[answer]}}"
metric_list: [{metric: perplexity}, {metric: acc}]
""",
    "tiny_text": """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}]
""",
}
NAMES = tuple(_TASKS)


def write(folder: Path) -> Path:
    """A folder of task files, with two more in a group."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder, ROWS)
    for name, task in _TASKS.items():
        head = _HEAD.format(name=name, folder=folder)
        (folder / f"{name}.yaml").write_text(head + task, encoding="utf-8")
    (folder / "group.yaml").write_text(
        "group: tiny_group\ntask: [tiny_choice, tiny_next]\n", encoding="utf-8"
    )
    return folder


def write_rows(folder: Path, rows: list[dict[str, object]]) -> None:
    """The tasks' data: what is asked, and other rows that are shown as examples."""
    text = "\n".join(json.dumps(row) for row in rows)
    (folder / "test.json").write_text(text, encoding="utf-8")
    shown = "\n".join(json.dumps(row | {"question": f"Is it {row['id']}?"}) for row in rows)
    (folder / "train.json").write_text(shown, encoding="utf-8")
