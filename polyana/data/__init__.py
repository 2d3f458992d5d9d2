"""Token shards and the batches made of them."""

from polyana.data.answers import AnswerBatch, AnswerSequences
from polyana.data.batch import Batch
from polyana.data.order import ShuffledOrder
from polyana.data.packing import best_fit
from polyana.data.sequences import EvalSequences, Packing, TrainSequences
from polyana.data.shards import ShardWriter, TokenShards
from polyana.data.tokenise import VERSION, TokenData, tokenise, write_examples

__all__ = [
    "VERSION",
    "AnswerBatch",
    "AnswerSequences",
    "Batch",
    "EvalSequences",
    "Packing",
    "ShardWriter",
    "ShuffledOrder",
    "TokenData",
    "TokenShards",
    "TrainSequences",
    "best_fit",
    "tokenise",
    "write_examples",
]
