"""Blocks: each once an epoch, the same for the same position, every held-out token a target once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyana.data import Batch, EvalSequences, ShardWriter, TokenShards, TrainSequences, best_fit
from polyana.errors import PolyanaError


def make(directory, tokens, document_size=13, shard_tokens=50):
    """Token n stands at position n, so a block tells where it comes from."""
    writer = ShardWriter(directory, "train", 1 << 20, shard_tokens)
    for start in range(0, tokens, document_size):
        writer.write(str(start), np.arange(start, min(start + document_size, tokens), dtype=np.uint32))
    writer.close()
    return TokenShards(directory, "train")


@pytest.fixture
def shards(tmp_path):
    return make(tmp_path, 1007)


COLUMNS = ("tokens_N", "targets_N", "weight_N", "position_N", "document_N")


def equal(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in COLUMNS) and one.texts == other.texts


def starts(batch):
    return [part.tokens_N[0].item() for part in batch.micro_batches(1)]


@settings(max_examples=40, deadline=None)
@given(tokens=st.integers(2, 400), context=st.integers(1, 60), seed=st.integers(0, 1000), epoch=st.integers(0, 50))
def test_an_epoch_shows_every_block_once(tmp_path_factory, tokens, context, seed, epoch):
    shards = make(tmp_path_factory.mktemp("blocks"), tokens)
    if tokens <= context:
        with pytest.raises(PolyanaError, match="too few for one block"):
            TrainSequences(shards, context, "concat", seed)
        return
    blocks = TrainSequences(shards, context, "concat", seed)
    assert blocks.per_epoch == (tokens - 1) // context
    batch = blocks.batch(epoch * blocks.per_epoch, blocks.per_epoch)
    assert batch.texts == ((context,),) * blocks.per_epoch
    assert batch.position_N.tolist() == list(range(context)) * blocks.per_epoch
    assert batch.tokens == blocks.tokens_per_epoch
    shown = np.sort(starts(batch))
    assert (np.diff(shown) == context).all()
    assert 0 <= shown[0] < context
    assert shown[-1] + context < tokens
    assert torch.equal(batch.targets_N, batch.tokens_N + 1)
    assert torch.equal(batch.document_N, batch.tokens_N // 13)
    assert (batch.weight_N == 1).all()
    assert batch.tokens_N.dtype == batch.targets_N.dtype == batch.document_N.dtype == torch.int64


def test_epochs_differ_in_order_and_in_where_the_blocks_begin(shards):
    blocks = TrainSequences(shards, 32, "concat", seed=3)
    epochs = [starts(blocks.batch(number * blocks.per_epoch, blocks.per_epoch)) for number in range(8)]
    assert len({tuple(epoch) for epoch in epochs}) == 8
    assert len({min(epoch) for epoch in epochs}) > 3
    assert epochs[0] != starts(TrainSequences(shards, 32, "concat", seed=4).batch(0, blocks.per_epoch))


def test_a_position_gives_the_same_batch_whatever_was_asked_before(shards):
    blocks = TrainSequences(shards, 32, "concat", seed=3)
    fresh = [TrainSequences(shards, 32, "concat", seed=3).batch(first, 4) for first in range(0, 200, 4)]
    for index in [7, 49, 0, 7, 8, 31, 1, 30, 7]:
        assert equal(blocks.batch(4 * index, 4), fresh[index])


def test_a_batch_may_reach_over_the_end_of_epochs(shards):
    blocks = TrainSequences(shards, 32, "concat", seed=3)
    one_by_one = [starts(blocks.batch(number, 1))[0] for number in range(3 * blocks.per_epoch)]
    assert starts(blocks.batch(0, 3 * blocks.per_epoch)) == one_by_one
    first = blocks.per_epoch - 3
    assert starts(blocks.batch(first, 7)) == one_by_one[first : first + 7]


def test_how_a_batch_is_cut_does_not_change_the_sequences(shards):
    """So another batch size, or another number of devices, sees the same text in the same order."""
    blocks = TrainSequences(shards, 32, "concat", seed=3)
    for size in (1, 3, 8, 24):
        cut = [start for first in range(0, 48, size) for start in starts(blocks.batch(first, size))]
        assert cut == starts(blocks.batch(0, 48))


def test_a_text_too_short_says_what_context_fits(tmp_path):
    shards = make(tmp_path, 20)
    with pytest.raises(
        PolyanaError, match=r"has 20 tokens, too few .* `context: 20` .* make `context` at most 19, or add"
    ):
        TrainSequences(shards, 20, "concat", seed=0)
    assert TrainSequences(shards, 19, "concat", seed=0).per_epoch == 1


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(0, 300),
    context=st.integers(1, 60),
    size=st.integers(1, 9),
    limit=st.none() | st.integers(0, 400),
)
def test_every_held_out_token_but_the_first_is_a_target_once(tmp_path_factory, tokens, context, size, limit):
    shards = make(tmp_path_factory.mktemp("blocks"), tokens)
    blocks = EvalSequences(shards, context, "concat", limit)
    batches = [blocks.batch(numbers) for numbers in blocks.batches(size * context)]
    targets = [target for batch in batches for target in batch.targets_N.tolist()]
    assert targets == list(range(1, min(tokens, tokens if limit is None else limit)))
    for batch in batches:
        assert batch.sequences <= size
        assert max(batch.lengths) <= context
        assert torch.equal(batch.tokens_N + 1, batch.targets_N)
        assert torch.equal(batch.tokens_N // 13, batch.document_N)
        assert batch.labelled == batch.tokens


@pytest.mark.parametrize("size", [1, 3, 8, 24, 100])
def test_micro_batches_put_together_are_the_batch(shards, size):
    batch = TrainSequences(shards, 32, "concat", seed=3).batch(5, 24)
    parts = batch.micro_batches(size)
    assert all(part.sequences <= size for part in parts)
    assert len(parts) == -(-24 // size)
    columns = [torch.cat([getattr(part, name) for part in parts]) for name in COLUMNS]
    assert equal(Batch(*columns, texts=tuple(text for part in parts for text in part.texts)), batch)
    assert sum(part.labelled for part in parts) == batch.labelled


# Whole documents: `documents` and `none`

END = 9


def write_documents(directory, lengths, split="train"):
    """Document d is d, d, ..., END: the ids tell where each token comes from; END is end-of-text."""
    writer = ShardWriter(directory, split, 1 << 20, shard_tokens=40)
    for number, length in enumerate(lengths):
        writer.write(str(number), np.array([100 + number] * (length - 1) + [END], dtype=np.uint32))
    writer.close()
    return TokenShards(directory, split)


lengths_of_documents = st.lists(st.integers(1, 70), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(lengths=lengths_of_documents, context=st.integers(1, 40), packing=st.sampled_from(["none", "documents"]))
def test_every_token_of_every_document_is_learned_once_an_epoch(tmp_path_factory, lengths, context, packing):
    shards = write_documents(tmp_path_factory.mktemp("documents"), lengths)
    sequences = TrainSequences(shards, context, packing, seed=1)
    assert sequences.tokens_per_epoch == sum(lengths)
    batch = sequences.batch(0, sequences.per_epoch)
    assert sorted(batch.targets_N.tolist()) == sorted(shards.read(0, len(shards))[0].tolist())
    assert max(map(sum, batch.texts)) <= context
    if packing == "none":
        assert all(len(sequence) == 1 for sequence in batch.texts)
        assert batch.sequences == sum(-(-length // context) for length in lengths)
    first = 0
    for length in batch.lengths:
        tokens, targets, documents, positions = (
            getattr(batch, name)[first : first + length].tolist()
            for name in ("tokens_N", "targets_N", "document_N", "position_N")
        )
        assert len(set(documents)) == 1
        own = 100 + documents[0]
        assert set(targets) <= {own, END}
        assert tokens[1:] == targets[:-1]
        assert tokens[0] in (own, END)  # the piece before, or the end-of-text that every document follows
        assert positions == list(range(length))
        first += length
    assert first == batch.tokens


@settings(max_examples=60, deadline=None)
@given(lengths=lengths_of_documents, context=st.integers(1, 40), limit=st.none() | st.integers(1, 300))
def test_every_held_out_token_of_whole_documents_is_a_target_once(tmp_path_factory, lengths, context, limit):
    shards = write_documents(tmp_path_factory.mktemp("documents"), lengths, "eval")
    sequences = EvalSequences(shards, context, "documents", limit)
    batches = [sequences.batch(numbers) for numbers in sequences.batches(50)]
    targets = [target for batch in batches for target in batch.targets_N.tolist()]
    assert targets == shards.read(0, sequences.tokens)[0].tolist()
    assert sequences.tokens == min(sum(lengths), limit or 10**9)


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(1, 50), max_size=200))
def test_best_fit_is_johnsons(lengths):
    """Oracle: the same rule written the slow way."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms[rooms.index(min(fitting))] -= length
        else:
            rooms.append(50 - length)
    bins = best_fit(np.array(lengths, dtype=np.int64), 50)
    filled = np.bincount(bins, weights=lengths, minlength=len(rooms)) if lengths else np.empty(0)
    assert sorted(filled.tolist()) == sorted(50 - room for room in rooms)


def test_real_lengths_fill_more_than_99_percent():
    lengths = np.clip(np.random.default_rng(0).lognormal(5.0, 0.7, 2000), 16, 512).astype(np.int64)
    assert lengths.sum() / (512 * (best_fit(lengths, 512).max() + 1)) > 0.99
