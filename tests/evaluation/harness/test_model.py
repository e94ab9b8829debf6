"""All modes are computed when the first is asked, and nothing is ever another mode's."""

import math

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

from lm_eval.api.instance import Instance

from taia.errors import MismatchError, RunError
from taia.evaluation.harness.model import ModesLM
from taia.runtime.rating import Likelihood

#: Mode → what it adds to every log-probability.
SHIFT = {"base": 1.0, "tuned": 2.0, "taia": 3.0}


class Encoder:
    """A token per character."""

    def pairs(self, texts):
        return [(tuple(map(ord, a)), tuple(map(ord, b))) for a, b in texts]

    def windows(self, text):
        ids = tuple(map(ord, text))
        return [((0,), ids[i : i + 4]) for i in range(0, len(ids), 4)]

    def prompt(self, text, room):
        return tuple(map(ord, text))


class Backend:
    """Answers that tell who gave them, and a record of what was asked."""

    encoder = Encoder()
    tokenizer_name = "none"

    def __init__(self, losses=None):
        self.calls = []
        self.losses = losses or {}

    def rate(self, mode, pairs, watch):
        self.calls.append((mode, len(pairs)))
        watch("rating", 0, len(pairs))
        return [
            Likelihood(self.losses.get((mode, a + b), -SHIFT[mode] - len(a)), mode == "base")
            for a, b in pairs
        ]

    def generate(self, asked, watch):
        self.calls.append([(one.mode, one.prompt, one.seed) for one in asked])
        return [f"{one.mode}:{one.prompt}:{one.seed}" for one in asked]


def model(backend, *wanted, **options):
    lm = ModesLM(backend, lambda *_: None, **options)
    lm.wanted = wanted
    return lm


def ask(kind, *arguments):
    return [Instance(kind, {}, one, 0) for one in arguments]


def test_likelihoods_of_all_modes_are_computed_once():
    backend = Backend()
    lm = model(backend, "base", "tuned", "taia")
    requests = ask("loglikelihood", ("ab", "c"), ("ab", "d"), ("ab", "c"))
    for mode in ("base", "tuned", "taia"):
        lm.mode = mode
        value = -SHIFT[mode] - 2
        assert lm.loglikelihood(requests) == [(value, mode == "base")] * 3
    assert backend.calls == [("base", 2), ("tuned", 2), ("taia", 2)]


def test_generations_of_all_modes_are_one_batch():
    backend = Backend()
    lm = model(backend, "base", "taia", seed=5)
    requests = ask("generate_until", ("p", {}), ("q", {}))
    found = {}
    for mode in ("base", "taia"):
        lm.mode = mode
        found[mode] = lm.generate_until(requests)
    ((first, second, *_),) = backend.calls
    seeds = (first[2], second[2])
    assert found == {m: [f"{m}:{p}:{s}" for p, s in zip("pq", seeds, strict=True)] for m in found}
    assert backend.calls == [
        [(m, p, s) for m in ("base", "taia") for p, s in zip("pq", seeds, strict=True)]
    ]


DRAWN = {"do_sample": True, "temperature": 1.0}


def drawn(lm, *items):
    """Seeds of what is drawn for items (task, number) of one prompt."""
    lm.mode = "base"
    asked = [Instance("generate_until", {}, ("p", DRAWN), 0, (*item, 1)) for item in items]
    return [text.rpartition(":")[2] for text in lm.generate_until(asked)]


def test_a_repeated_request_is_drawn_anew():
    lm = model(Backend(), "base")
    seeds = drawn(lm, ("t", 0), ("t", 0), ("t", 0))
    assert len(set(seeds)) == 3
    assert drawn(lm, ("t", 0), ("t", 0)) == seeds[:2]


def test_every_item_draws_by_itself_whatever_runs_beside_it():
    items = [("t", number) for number in range(50)]
    seeds = dict(zip(items, drawn(model(Backend(), "base"), *items), strict=True))
    assert len(set(seeds.values())) == 50
    some = [*items[40:], ("t", 3), *items[10:12]]
    assert drawn(model(Backend(), "base", "tuned"), *some) == [seeds[one] for one in some]
    assert drawn(model(Backend(), "base"), ("u", 3)) != [seeds["t", 3]]
    others = drawn(model(Backend(), "base", seed=1), *items)
    assert not set(others) & set(seeds.values())


def test_what_is_not_drawn_is_computed_once():
    backend = Backend()
    lm = model(backend, "base")
    lm.mode = "base"
    asked = [Instance("generate_until", {}, ("p", {}), 0, ("t", n, 3)) for n in (0, 0, 0, 1)]
    assert len(set(lm.generate_until(asked))) == 1
    assert [len(call) for call in backend.calls] == [1]


def test_other_arguments_are_other_requests():
    backend = Backend()
    lm = model(backend, "base")
    lm.mode = "base"
    short, long = ask("generate_until", ("p", {"max_gen_toks": 1}), ("p", {"max_gen_toks": 2}))
    lm.generate_until([short])
    lm.generate_until([long])
    assert len(backend.calls) == 2


def test_only_what_is_missing_is_computed():
    backend = Backend()
    lm = model(backend, "base")
    lm.mode = "base"
    lm.loglikelihood(ask("loglikelihood", ("a", "b")))
    lm.wanted, lm.mode = ("base", "taia"), "taia"
    assert lm.loglikelihood(ask("loglikelihood", ("a", "b"))) == [(-4.0, False)]
    lm.loglikelihood(ask("loglikelihood", ("a", "b"), ("a", "z")))
    assert backend.calls == [("base", 1), ("taia", 1), ("base", 1), ("taia", 1)]


def test_a_new_task_remembers_nothing():
    backend = Backend()
    lm = model(backend, "base")
    lm.mode = "base"
    for _ in range(2):
        lm.loglikelihood(ask("loglikelihood", ("a", "b")))
        lm.forget()
    assert len(backend.calls) == 2
    assert lm.seconds == 0


def test_a_text_is_the_sum_of_its_windows():
    lm = model(Backend(), "tuned")
    lm.mode = "tuned"
    found = lm.loglikelihood_rolling(ask("loglikelihood_rolling", ("abcdefghi",), ("ab",)))
    assert found == [3 * -3.0, -3.0]


LOSSES = {
    ("base", tuple(map(ord, "one"))): -2.0,
    ("tuned", tuple(map(ord, "one"))): -1.0,
    ("base", tuple(map(ord, "two"))): -1.0,
    ("tuned", tuple(map(ord, "two"))): -4.0,
}


def test_loracl_answers_each_prompt_by_the_lower_loss():
    lm = model(Backend(LOSSES), "loracl", "taia")
    lm.mode = "loracl"
    found = lm.generate_until(ask("generate_until", ("one", {}), ("two", {})))
    assert [text.rpartition(":")[0] for text in found] == ["tuned:one", "base:two"]
    rated = lm.loglikelihood(ask("loglikelihood", ("one", "x"), ("two", "x")))
    assert rated == [(-2.0 - 3, False), (-1.0 - 3, True)]


def test_loracl_of_one_model_is_refused():
    same = dict.fromkeys(LOSSES, -1.0)
    lm = model(Backend(same), "loracl")
    lm.mode = "loracl"
    with pytest.raises(MismatchError, match="one model"):
        lm.generate_until(ask("generate_until", ("one", {}), ("two", {})))


def test_loracl_needs_prompts_of_two_tokens():
    lm = model(Backend(), "loracl")
    lm.mode = "loracl"
    with pytest.raises(MismatchError, match="not a number"):
        lm.generate_until(ask("generate_until", ("x", {}), ("yy", {})))


def test_what_is_no_number_is_refused():
    lm = model(Backend({("base", (97, 98)): math.nan}), "base")
    lm.mode = "base"
    with pytest.raises(RunError, match="mode base"):
        lm.loglikelihood(ask("loglikelihood", ("a", "b")))
