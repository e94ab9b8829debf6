"""From logits to tokens: greedy or drawn, a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from taia.runtime.generation import Generation, Token


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
    return logits.index_put(
        tuple(places), torch.tensor(biases, device=logits.device), accumulate=True
    )


def _drawn(
    scores: torch.Tensor, requests: Sequence[Generation], uniforms: Sequence[float]
) -> torch.Tensor:
    """Tokens ``[rows]`` where the cumulative probability, likeliest first, passes the uniforms."""
    device, size = scores.device, scores.shape[-1]

    def column(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, device=device)[:, None]

    ordered, order = scores.sort(dim=-1, descending=True, stable=True)
    # Differences to the best, so that no temperature is too small.
    ordered = (ordered - ordered[:, :1]) / column([request.temperature for request in requests])
    beyond = torch.arange(size, device=device) >= column([r.top_k or size for r in requests])
    likely = ordered.masked_fill(beyond, -torch.inf).softmax(-1)
    enough = likely.cumsum(-1) - likely >= column([request.top_p for request in requests])
    likely = likely.masked_fill(enough, 0.0)
    passed = likely.cumsum(-1)
    place = (passed <= column(uniforms) * passed[:, -1:]).sum(-1, keepdim=True)
    place = torch.minimum(place, (likely > 0).sum(-1, keepdim=True) - 1)
    return order.gather(-1, place)[:, 0]


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
