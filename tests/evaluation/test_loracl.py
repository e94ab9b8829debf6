"""LoRACL's rule, and the two mistakes that the authors' code makes of it."""

import math

import pytest

from taia.errors import MismatchError
from taia.evaluation.loracl import choose


def test_the_lower_loss_answers_and_base_answers_a_tie():
    assert choose([1.0, 2.0, 1.5], [2.0, 1.0, 1.5]) == ("base", "tuned", "base")
    assert choose([1.0], [1.0]) == ("base",)
    assert choose([], []) == ()


def test_having_chosen_base_once_does_not_bind_later_prompts():
    assert choose([1, 3, 1, 3], [2, 2, 2, 2]) == ("base", "tuned", "base", "tuned")


def test_one_model_under_two_names_is_refused():
    losses = [1.0, 2.0, 3.0]
    with pytest.raises(MismatchError, match="they are one model"):
        choose(losses, losses)
    assert choose(losses, [1.0, 2.0, 2.9]) == ("base", "base", "tuned")


@pytest.mark.parametrize("tuned", [[1.0], [1.0, math.nan]])
def test_losses_that_cannot_be_compared_are_refused(tuned):
    with pytest.raises(MismatchError):
        choose([1.0, 2.0], tuned)
