"""Token shards and the batches made of them."""

from polyana.data.batch import Batch
from polyana.data.blocks import EvalBlocks, TrainBlocks
from polyana.data.order import ShuffledOrder
from polyana.data.shards import ShardWriter, TokenShards
from polyana.data.tokenise import VERSION, TokenData, tokenise

__all__ = [
    "VERSION",
    "Batch",
    "EvalBlocks",
    "ShardWriter",
    "ShuffledOrder",
    "TokenData",
    "TokenShards",
    "TrainBlocks",
    "tokenise",
]
