"""The pretraining task with an adapter over its fresh, frozen model: what the engine does with frozen weights."""

from polyana.models import AdapterConfig, attach_adapter, save_adapter
from polyana.tasks import PretrainTask


def train_an_adapter(setattr, settings: dict) -> None:
    """`setattr`: of a monkeypatch, or the builtin."""
    begin = PretrainTask.__init__

    def begin_adapted(self, config, tokens, tokenizer, seed, precision):
        begin(self, config, tokens, tokenizer, seed, precision)
        attach_adapter(self.model, AdapterConfig.model_validate(settings), seed, precision.dtype)

    def save(self, directory, weights):
        save_adapter(self.model, directory, "base", None, weights)

    setattr(PretrainTask, "__init__", begin_adapted)
    setattr(PretrainTask, "save", save)
