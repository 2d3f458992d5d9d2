"""Blocks: each once an epoch, the same for the same position, every held-out token a target once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyana.data import Batch, EvalBlocks, ShardWriter, TokenShards, TrainBlocks
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


def equal(one, other):
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("tokens_BT", "targets_BT", "loss_mask_BT", "document_BT")
    )


def starts(batch):
    return batch.tokens_BT[:, 0].tolist()


@settings(max_examples=40, deadline=None)
@given(tokens=st.integers(2, 400), context=st.integers(1, 60), seed=st.integers(0, 1000), epoch=st.integers(0, 50))
def test_an_epoch_shows_every_block_once(tmp_path_factory, tokens, context, seed, epoch):
    shards = make(tmp_path_factory.mktemp("blocks"), tokens)
    if tokens <= context:
        with pytest.raises(PolyanaError, match="too few for one block"):
            TrainBlocks(shards, context, seed)
        return
    blocks = TrainBlocks(shards, context, seed)
    assert blocks.per_epoch == (tokens - 1) // context
    batch = blocks.batch(epoch * blocks.per_epoch, blocks.per_epoch)
    assert batch.tokens_BT.shape == (blocks.per_epoch, context)
    shown = np.sort(starts(batch))
    assert (np.diff(shown) == context).all()
    assert 0 <= shown[0] < context
    assert shown[-1] + context < tokens
    assert torch.equal(batch.targets_BT, batch.tokens_BT + 1)
    assert torch.equal(batch.document_BT, batch.tokens_BT // 13)
    assert batch.loss_mask_BT.all()
    assert batch.tokens_BT.dtype == batch.targets_BT.dtype == batch.document_BT.dtype == torch.int64


def test_epochs_differ_in_order_and_in_where_the_blocks_begin(shards):
    blocks = TrainBlocks(shards, 32, seed=3)
    epochs = [starts(blocks.batch(number * blocks.per_epoch, blocks.per_epoch)) for number in range(8)]
    assert len({tuple(epoch) for epoch in epochs}) == 8
    assert len({min(epoch) for epoch in epochs}) > 3
    assert epochs[0] != starts(TrainBlocks(shards, 32, seed=4).batch(0, blocks.per_epoch))


def test_a_position_gives_the_same_batch_whatever_was_asked_before(shards):
    blocks = TrainBlocks(shards, 32, seed=3)
    fresh = [TrainBlocks(shards, 32, seed=3).batch(first, 4) for first in range(0, 200, 4)]
    for index in [7, 49, 0, 7, 8, 31, 1, 30, 7]:
        assert equal(blocks.batch(4 * index, 4), fresh[index])


def test_a_batch_may_reach_over_the_end_of_epochs(shards):
    blocks = TrainBlocks(shards, 32, seed=3)
    one_by_one = [starts(blocks.batch(number, 1))[0] for number in range(3 * blocks.per_epoch)]
    assert starts(blocks.batch(0, 3 * blocks.per_epoch)) == one_by_one
    first = blocks.per_epoch - 3
    assert starts(blocks.batch(first, 7)) == one_by_one[first : first + 7]


def test_how_a_batch_is_cut_does_not_change_the_sequences(shards):
    """So another batch size, or another number of devices, sees the same text in the same order."""
    blocks = TrainBlocks(shards, 32, seed=3)
    for size in (1, 3, 8, 24):
        cut = [start for first in range(0, 48, size) for start in starts(blocks.batch(first, size))]
        assert cut == starts(blocks.batch(0, 48))


def test_a_text_too_short_says_what_context_fits(tmp_path):
    shards = make(tmp_path, 20)
    with pytest.raises(
        PolyanaError, match=r"has 20 tokens, too few .* `context: 20` .* make `context` at most 19, or add"
    ):
        TrainBlocks(shards, 20, seed=0)
    assert TrainBlocks(shards, 19, seed=0).per_epoch == 1


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(0, 300),
    context=st.integers(1, 60),
    size=st.integers(1, 9),
    limit=st.none() | st.integers(0, 400),
)
def test_every_held_out_token_but_the_first_is_a_target_once(tmp_path_factory, tokens, context, size, limit):
    shards = make(tmp_path_factory.mktemp("blocks"), tokens)
    blocks = EvalBlocks(shards, context, limit)
    batches = [blocks.batch(starts) for starts in blocks.batches(size)]
    targets = [target for batch in batches for target in batch.targets_BT[batch.loss_mask_BT].tolist()]
    assert targets == list(range(1, min(tokens, tokens if limit is None else limit)))
    for batch in batches:
        mask = batch.loss_mask_BT
        assert batch.sequences <= size
        assert batch.tokens_BT.shape[1] == context
        assert torch.equal(batch.tokens_BT[mask] + 1, batch.targets_BT[mask])
        assert torch.equal(batch.tokens_BT[mask] // 13, batch.document_BT[mask])
        assert batch.real_tokens == int(mask.sum())
        assert (batch.tokens_BT[~mask] == 0).all()
        assert (batch.targets_BT[~mask] == 0).all()


@pytest.mark.parametrize("size", [1, 3, 8, 24, 100])
def test_micro_batches_put_together_are_the_batch(shards, size):
    batch = TrainBlocks(shards, 32, seed=3).batch(5, 24)
    parts = batch.micro_batches(size)
    assert all(part.sequences <= size for part in parts)
    assert len(parts) == -(-24 // size)
    columns = [[getattr(part, name) for part in parts] for name in Batch.__slots__]
    assert equal(Batch(*(torch.cat(column) for column in columns)), batch)
    assert sum(part.real_tokens for part in parts) == batch.real_tokens
