"""From logits to tokens: greedy or drawn, a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from taia.runtime.generation import Generation, Token

#: So many likeliest tokens are looked at first.
_FEW: Final = 256


def choose(
    logits: torch.Tensor, requests: Sequence[Generation], uniforms: Sequence[float]
) -> list[Token]:
    """Choose each row's next token.

    Log-probabilities are the model's own, before bias, temperature, top-k and top-p.

    Args:
        logits: ``[rows, vocabulary]``.
        requests: What each row asks for.
        uniforms: A number in [0, 1) for each row, which decides its draw.

    Returns:
        A token per row.
    """
    logits = logits.float()
    scores = _biased(logits, requests)
    ids = scores.argmax(-1)
    drawn = [row for row, request in enumerate(requests) if request.temperature > 0]
    if drawn:
        ids[drawn] = _drawn(
            scores[drawn], [requests[row] for row in drawn], [uniforms[row] for row in drawn]
        )
    chosen = [Token(index) for index in ids.tolist()]
    asked = [row for row, request in enumerate(requests) if request.logprobs is not None]
    if asked:
        logged = _logged(logits[asked], ids[asked], [requests[row].logprobs or 0 for row in asked])
        for row, token in zip(asked, logged, strict=True):
            chosen[row] = token
    return chosen


def _biased(logits: torch.Tensor, requests: Sequence[Generation]) -> torch.Tensor:
    entries = [
        (row, token, bias)
        for row, request in enumerate(requests)
        for token, bias in request.logit_bias.items()
    ]
    if not entries:
        return logits
    rows, tokens, biases = zip(*entries, strict=True)
    places = torch.tensor([rows, tokens], device=logits.device)
    added = torch.tensor(biases, dtype=logits.dtype, device=logits.device)
    return logits.index_put(tuple(places), added, accumulate=True)


def _drawn(
    scores: torch.Tensor, requests: Sequence[Generation], uniforms: Sequence[float]
) -> torch.Tensor:
    """Tokens ``[rows]`` where the cumulative probability, likeliest first, passes the uniforms.

    The likeliest few decide nearly always; only where they do not is the whole vocabulary sorted.
    """
    ids, decided = _among(scores, requests, uniforms, min(_FEW, scores.shape[-1]))
    if left := torch.nonzero(~decided)[:, 0].tolist():
        some = [requests[row] for row in left], [uniforms[row] for row in left]
        ids[left], _ = _among(scores[left], *some, scores.shape[-1])
    return ids


def _among(
    scores: torch.Tensor, requests: Sequence[Generation], uniforms: Sequence[float], few: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw among so many likeliest tokens.

    Returns:
        Tokens ``[rows]``, and whether each is what it would be among all.
    """
    device, whole = scores.device, few == scores.shape[-1]

    def column(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, device=device)[:, None]

    ordered, order = _ordered(scores, few)
    temperature = column([request.temperature for request in requests])
    top_k = column([request.top_k or scores.shape[-1] for request in requests])
    top_p = column([request.top_p for request in requests])
    # Differences to the best, so that no temperature is too small.
    weights = ((ordered - ordered[:, :1]) / temperature).exp()
    weights = weights.masked_fill(torch.arange(few, device=device) >= top_k, 0.0)
    ends = (top_k <= few) | whole
    mass = weights.sum(-1, keepdim=True)
    if not whole:
        mass = torch.where(
            ends, mass, ((scores - ordered[:, :1]) / temperature).exp().sum(-1, keepdim=True)
        )
    likely = weights / mass
    enough = likely.cumsum(-1) - likely >= top_p
    likely = likely.masked_fill(enough, 0.0)
    passed = likely.cumsum(-1)
    # What all that may be drawn have together: known if the last of them is here, or if none is
    # left out.
    ends |= (top_k >= scores.shape[-1]) & enough.any(-1, keepdim=True)
    everything = (top_k >= scores.shape[-1]) & (top_p >= 1)
    together = torch.where(ends, passed[:, -1:], torch.ones_like(mass))
    place = (passed <= column(uniforms) * together).sum(-1, keepdim=True)
    is_here = ends | (place < few)
    place = torch.minimum(place, (likely > 0).sum(-1, keepdim=True) - 1)
    # Of equals, some of which are not among the few, the order is not known.
    is_known = (ordered.gather(-1, place) > ordered[:, -1:]) | whole
    return order.gather(-1, place)[:, 0], ((ends | everything) & is_here & is_known)[:, 0]


def _ordered(scores: torch.Tensor, few: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest scores and their tokens; of equals the lowest token first."""
    if few == scores.shape[-1]:
        ordered, order = scores.sort(dim=-1, descending=True, stable=True)
        return ordered, order
    tokens = scores.topk(few, dim=-1, sorted=False).indices.sort(dim=-1).values
    ordered, places = scores.gather(-1, tokens).sort(dim=-1, descending=True, stable=True)
    return ordered, tokens.gather(-1, places)


def _logged(logits: torch.Tensor, ids: torch.Tensor, wanted: Sequence[int]) -> list[Token]:
    """Tokens with their log-probabilities and as many alternatives as wanted."""
    logs = logits.log_softmax(-1)
    own = logs.gather(-1, ids[:, None])[:, 0].tolist()
    best, places = logs.topk(min(max(wanted), logs.shape[-1]))
    return [
        Token(index, logprob, tuple(zip(tokens[:count], values[:count], strict=True)))
        for index, logprob, tokens, values, count in zip(
            ids.tolist(), own, places.tolist(), best.tolist(), wanted, strict=True
        )
    ]
