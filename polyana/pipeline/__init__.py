"""What each stage of a recipe is made from, and how: the steps that run.py takes in order.

pipeline     the stages of one recipe, each made by its kind
texts        corpora, judges of text, tokenizers, token shards
parallel     sentences with their translations
models       bases, models that are only asked, what training starts from
finetuning   examples, judged answers, what the reference makes of them
rewards      synthesis, rewards, the gold measure
training     what a training stage needs, and its run
evaluating   what saves score
"""

from polyana.pipeline.models import start_step
from polyana.pipeline.pipeline import Pipeline
from polyana.pipeline.texts import corpus_step, tokenizer_step

__all__ = ["Pipeline", "corpus_step", "start_step", "tokenizer_step"]
