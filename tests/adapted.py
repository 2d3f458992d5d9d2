"""The pretraining task with an adapter over its fresh, frozen model: what the engine does with frozen weights."""

from polyana.models import AdapterConfig, attach_adapter, save_adapter_settings
from polyana.tasks import LanguageModelTask


def train_an_adapter(setattr, settings: dict) -> None:
    """`setattr`: of a monkeypatch, or the builtin."""
    begin = LanguageModelTask.__init__

    def begin_adapted(self, *arguments):
        begin(self, *arguments)
        attach_adapter(self.model, AdapterConfig.model_validate(settings), 7, self.precision.dtype)

    def save_settings(self, directory):
        save_adapter_settings(self.model, directory, "base", None)

    setattr(LanguageModelTask, "__init__", begin_adapted)
    setattr(LanguageModelTask, "save_settings", save_settings)
