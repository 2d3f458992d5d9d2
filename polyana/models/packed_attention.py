"""Causal attention over texts that lie one behind the other, each attending to itself alone.

A text may go on from an earlier one, its trunk, of which it sees everything: two answers to one prompt, say, each of
which knows nothing of the other. So the prompt is computed once.

Shapes: N tokens of all texts, H query heads, K key-value heads, G = H / K, D size of a head; of S texts of equal length
T that follow one another, tile by tile, R rows of queries against the C keys that they may look at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch.nn import functional as F

__all__ = ["ATTENTION", "attention_on", "packed_causal_attention", "register_with_transformers"]

ATTENTION = "polyana_packed"
"""The name under which transformers knows it, as `attn_implementation`."""

_TILES = {512: 128, 1 << 62: 256}
"""Texts of up to so many tokens: queries of one tile. Milliseconds of one core for forward and backward at 64, 128, 256
and 512 queries, bf16: 4 texts of 1024 with 12 heads of 64: 175, 146, 143, 160; 8 of 512 with 6 of 64: 48, 41, 42, 52;
4 of 256 with 8 of 32: 6.7, 6.2, 7.1, 7.6. torch's flash attention for CPUs (2.13) takes 1.9 times the best of these."""


def packed_causal_attention(
    query_HND: torch.Tensor,
    key_KND: torch.Tensor,
    value_KND: torch.Tensor,
    lengths: Sequence[int],
    *,
    scale: float,
    dropout: float = 0.0,
    after: Sequence[int | None] = (),
    unread: Sequence[int] = (),
) -> torch.Tensor:
    """softmax(scale Q K^T) V within each text, [N, H, D]; the texts have `lengths`, which add up to N.

    `after`: for each text the number of its trunk, which stands before it and has none itself; () where none has one.
    `unread`: for each text how many of its first tokens nobody reads the output of; on a CPU it is 0 for them.
    `dropout`: share of attention weights set to zero, by torch's random numbers. Query head h reads key-value head
    h // G (Ainslie et al. 2023). Raises ValueError when the lengths do not add up.
    """
    if sum(lengths) != query_HND.shape[1]:
        raise ValueError(f"texts of {sum(lengths)} tokens in all, but {query_HND.shape[1]} tokens to attend with")
    query_HND, key_KND = query_HND.to(value_KND.dtype), key_KND.to(value_KND.dtype)
    if query_HND.device.type == "cpu":
        texts = tuple(lengths), tuple(after), tuple(unread)
        return _PackedCausalAttention.apply(query_HND, key_KND, value_KND, texts, scale, dropout)  # type: ignore[no-any-return,no-untyped-call]
    if any(trunk is not None for trunk in after):
        own, whole, sizes = _written_out(lengths, after, query_HND.device)
        query, key, value = (tensor[:, whole] for tensor in (query_HND, key_KND, value_KND))
        return _on_gpu(query, key, value, sizes, scale, dropout)[own]
    return _on_gpu(query_HND, key_KND, value_KND, lengths, scale, dropout)


def _written_out(
    lengths: Sequence[int], after: Sequence[int | None], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """(where each token stands when every text is written out with its trunk, which token stands there, the lengths of
    the texts then)."""
    ends = torch.tensor([0, *lengths]).cumsum(0).tolist()
    own: list[int] = []
    whole: list[int] = []
    sizes: list[int] = []
    for text, trunk in enumerate(after):
        before = range(ends[trunk], ends[trunk + 1]) if trunk is not None else range(0)
        size = len(before) + lengths[text]
        own += range(sum(sizes) + len(before), sum(sizes) + size)
        whole += [*before, *range(ends[text], ends[text + 1])]
        sizes.append(size)
    return torch.tensor(own, device=device), torch.tensor(whole, device=device), sizes


def attention_on(device: torch.device, dtype: torch.dtype, dropout: float) -> tuple[str, str]:
    """How `packed_causal_attention` computes there, and why, in a clause each."""
    if device.type == "cpu":
        return "whole rows of weights", "twice as fast on a CPU as torch's flash attention; kept for the backward pass"
    if _varlen_applies(device, dtype, dropout):
        return "variable-length flash", "on a GPU in half precision without dropout, all texts in one call"
    return "torch's, text by text", "flash attention over many texts needs CUDA, half precision and no dropout"


def _varlen_applies(device: torch.device, dtype: torch.dtype, dropout: float) -> bool:
    return device.type == "cuda" and dtype in (torch.bfloat16, torch.float16) and not dropout


def _on_gpu(
    query_HND: torch.Tensor,
    key_KND: torch.Tensor,
    value_KND: torch.Tensor,
    lengths: Sequence[int],
    scale: float,
    dropout: float,
) -> torch.Tensor:
    """torch's variable-length flash attention where it applies, else one text at a time. Not run on a GPU yet."""
    if _varlen_applies(query_HND.device, query_HND.dtype, dropout):
        from torch.nn.attention.varlen import varlen_attn

        ends = torch.tensor([0, *lengths], dtype=torch.int32, device=query_HND.device).cumsum(0, dtype=torch.int32)
        query, key, value = (tensor.transpose(0, 1).contiguous() for tensor in (query_HND, key_KND, value_KND))
        longest = max(lengths)
        output = varlen_attn(
            query, key, value, ends, ends, longest, longest, scale=scale, window_size=(-1, 0), enable_gqa=True
        )
        assert isinstance(output, torch.Tensor)  # it gives a pair only when asked for more
        return output
    parts = [
        F.scaled_dot_product_attention(
            query[None], key[None], value[None], is_causal=True, scale=scale, dropout_p=dropout, enable_gqa=True
        )[0].transpose(0, 1)
        for query, key, value in zip(
            *(torch.split(tensor, list(lengths), dim=1) for tensor in (query_HND, key_KND, value_KND)), strict=True
        )
    ]
    return torch.cat(parts)


class _PackedCausalAttention(torch.autograd.Function):
    """Whole rows of weights at a time, so that a row's softmax is torch's own; the weights stay for the backward pass.

    Twice as fast on a CPU as torch's flash attention, which recomputes the weights; costs 2 H T bytes a token in bf16.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query_HND: torch.Tensor,
        key_KND: torch.Tensor,
        value_KND: torch.Tensor,
        texts: Texts,
        scale: float,
        dropout: float,
    ) -> torch.Tensor:
        heads, tokens, size = query_HND.shape
        output_NHD = query_HND.new_empty(tokens, heads, size)
        saved: list[torch.Tensor] = []
        most = min(tokens, max(_TILES.values()))
        later = torch.full((most, most), -torch.inf, dtype=query_HND.dtype, device=query_HND.device).triu_(1)
        with torch.autocast(query_HND.device.type, enabled=False):
            for run, trunk, skipped in _runs(*texts):
                query = _gather(query_HND, run, key_KND.shape[0])
                key, value = (_gather_seen(tensor, run, trunk) for tensor in (key_KND, value_KND))
                saved += [query, key, value]
                output = torch.zeros_like(query) if skipped else torch.empty_like(query)
                before = trunk[2] if trunk else 0
                for first, last in _tiles(run[2], skipped):
                    seen_last = before + last
                    weights = _weights(query[:, :, first:last], key[:, :seen_last], later, scale)
                    saved.append(weights)
                    if dropout:
                        kept = keep_mask(weights.shape, dropout, weights.device)
                        saved.append(kept)
                        weights = weights * kept.to(weights.dtype).mul_(1 / (1 - dropout))
                    rows = torch.bmm(weights, value[:, :seen_last])
                    output[:, :, first:last] = rows.view(output[:, :, first:last].shape)
                _scatter(output, run, output_NHD.transpose(0, 1))
        ctx.save_for_backward(*saved)
        ctx.texts, ctx.scale, ctx.dropout = texts, scale, dropout
        ctx.shapes = query_HND.shape, key_KND.shape
        return output_NHD

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad_NHD,) = grad_outputs
        (heads, tokens, size), (kv_heads, _, _) = ctx.shapes
        grads = [grad_NHD.new_empty(tokens, count, size).transpose(0, 1) for count in (heads, kv_heads, kv_heads)]
        saved: Iterator[torch.Tensor] = iter(ctx.saved_tensors)
        with torch.autocast(grad_NHD.device.type, enabled=False):
            for run, trunk, skipped in _runs(*ctx.texts):
                query, key, value = next(saved), next(saved), next(saved)
                before = trunk[2] if trunk else 0
                grad = _gather(grad_NHD.transpose(0, 1), run, kv_heads)
                grad_query, grad_key, grad_value = torch.empty_like(query), key, value
                if skipped:  # and perhaps all of it
                    grad_query, grad_key, grad_value = map(torch.zeros_like, (query, key, value))
                tiles = list(_tiles(run[2], skipped))
                kept = [(next(saved), next(saved) if ctx.dropout else None) for _ in tiles]
                for (first, last), (weights, mask) in zip(reversed(tiles), reversed(kept), strict=True):
                    seen_last = before + last
                    rows, queries = (tensor[:, :, first:last].flatten(1, 2) for tensor in (grad, query))
                    slope = torch.bmm(rows, value[:, :seen_last].mT)
                    seen = weights
                    if mask is not None:
                        scales = mask.to(weights.dtype).mul_(1 / (1 - ctx.dropout))
                        seen = weights * scales
                        slope.mul_(scales)
                    of_value = torch.bmm(seen.mT, rows)
                    slope = torch._softmax_backward_data(slope, weights, -1, weights.dtype).mul_(ctx.scale)
                    grad_query[:, :, first:last] = torch.bmm(slope, key[:, :seen_last]).view(
                        grad_query[:, :, first:last].shape
                    )
                    of_key = torch.bmm(slope.mT, queries)
                    if last == run[2]:  # the last tile sees all keys, so the others are added to its part
                        grad_key, grad_value = (
                            (each.float() if len(tiles) > 1 else each) for each in (of_key, of_value)
                        )
                    else:
                        grad_key[:, :seen_last] += of_key
                        grad_value[:, :seen_last] += of_value
                if trunk:  # whose own part is there already
                    for part, whole in zip((grad_key, grad_value), grads[1:], strict=True):
                        whole[:, trunk[0] : trunk[0] + before] += part[:, :before].to(whole.dtype)
                own = (grad_query, grad_key[:, None, before:], grad_value[:, None, before:])
                for part, whole in zip(own, grads, strict=True):
                    _scatter(part, run, whole)
        return *grads, None, None, None


Texts = tuple[tuple[int, ...], tuple[int | None, ...], tuple[int, ...]]
"""lengths, after, unread"""

Run = tuple[int, int, int]
"""(first token, S, T): S texts of the same length T that follow one another."""


def _runs(
    lengths: Sequence[int], after: Sequence[int | None], unread: Sequence[int]
) -> Iterator[tuple[Run, Run | None, int]]:
    """All texts in runs, each with its trunk and how many first tokens of a text are unread. One that has a trunk is a
    run of its own."""
    trunks, skips = after or [None] * len(lengths), unread or [0] * len(lengths)
    first = 0
    starts: list[int] = []  # torch.compile cannot trace `list[int]()`
    for (length, trunk, skipped), same in groupby(zip(lengths, trunks, skips, strict=True)):
        count = len(list(same))
        for run in (
            [(first, count, length)] if trunk is None else [(first + i * length, 1, length) for i in range(count)]
        ):
            starts += range(run[0], run[0] + run[1] * length, length)
            yield run, (starts[trunk], 1, lengths[trunk]) if trunk is not None else None, skipped
        first += count * length


def _tiles(length: int, skipped: int) -> Iterator[tuple[int, int]]:
    """(first, last) query of each tile; it looks at the keys before `last`."""
    size = next(tile for longest, tile in _TILES.items() if length <= longest)
    for first in range(skipped, length, size):
        yield first, min(first + size, length)


def _gather_seen(tensor_KND: torch.Tensor, run: Run, trunk: Run | None) -> torch.Tensor:
    """What the run's queries may see of keys or values, [S K, T, D], those of its trunk before its own."""
    own = _gather(tensor_KND, run, tensor_KND.shape[0])[:, 0]
    return own if trunk is None else torch.cat([_gather(tensor_KND, trunk, tensor_KND.shape[0])[:, 0], own], 1)


def _gather(tensor_HND: torch.Tensor, run: Run, kv_heads: int) -> torch.Tensor:
    """The run's part as [S K, G, T, D], contiguous, so that all heads of all its texts are one batched product."""
    first, count, length = run
    heads, _, size = tensor_HND.shape
    part = tensor_HND[:, first : first + count * length].view(heads, count, length, size).transpose(0, 1)
    return part.reshape(count * kv_heads, heads // kv_heads, length, size).contiguous()


def _scatter(part: torch.Tensor, run: Run, tensor_HND: torch.Tensor) -> None:
    """Put [S K, G, T, D] where `_gather` took it from."""
    first, count, length = run
    heads, _, size = tensor_HND.shape
    target = tensor_HND[:, first : first + count * length].view(heads, count, length, size)
    target.copy_(part.reshape(count, -1, length, part.shape[-1]).transpose(0, 1))


def _weights(query: torch.Tensor, key: torch.Tensor, later: torch.Tensor, scale: float) -> torch.Tensor:
    """The attention weights of a tile, [S K, G R, C]; the last R of its C keys are the queries' own places. `later`:
    minus infinity above the diagonal, of R rows or more."""
    batch, group, rows, _ = query.shape
    columns = key.shape[1]
    scores = query.new_empty(batch, group * rows, columns)
    torch.baddbmm(scores, query.flatten(1, 2), key.mT, beta=0, alpha=scale, out=scores)
    scores.view(batch, group, rows, columns)[..., columns - rows :] += later[:rows, :rows]
    return torch.softmax(scores, -1)


def keep_mask(shape: torch.Size, dropout: float, device: torch.device) -> torch.Tensor:
    """True with probability 1 - `dropout`, in steps of 2^-16: 16 of torch's random bits decide each place.

    Two and a half times as fast as `bernoulli_` (24 million places: 50 against 125 ms of one core).
    """
    count = shape.numel()
    bits = torch.randint(-(2**63), 2**63 - 1, ((count + 3) // 4,), device=device).view(torch.int16)
    return (bits[:count] >= round(dropout * 2**16) - 2**15).view(shape)


def _attend(
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    lengths: Sequence[int] | None = None,
    after: Sequence[int | None] = (),
    unread: Sequence[int] = (),
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The form in which transformers calls attention: [1, H, N, D] in, [1, N, H, D] out."""
    if lengths is None or attention_mask is not None or query.shape[0] != 1:
        raise ValueError("packed attention needs one row of tokens, the lengths of its texts and no mask")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    output = packed_causal_attention(
        query[0], key[0], value[0], lengths, scale=scale, dropout=dropout, after=after, unread=unread
    )
    return output[None], None


def register_with_transformers() -> None:
    """Make it known under its name; importing transformers takes seconds, so only where a model is built."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, _attend)
