"""Parts that ask a model: a classifier of the mill, an embedding, a reward model, a preference-trained model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from polyana.config import StageReference
from polyana.corpus import Embedder
from polyana.errors import UserError
from polyana.examples import question
from polyana.losses import answer_log_probs
from polyana.models import head_weight, hidden_states, load_base, longest_text
from polyana.rewards.part import Answered, Part, PartConfig, Surroundings, stage_in

__all__ = ["ClassifierPartConfig", "ImplicitPartConfig", "RewardModelPartConfig", "SimilarityPartConfig"]

ABOUT_MODEL = "a stage, `hub:org/name@revision` or a directory as `./model`"
LANGUAGE_MODELS = ("pretrain", "sft", "translate", "preference")


class ClassifierPartConfig(PartConfig):
    """How probably an answer is of a class, by what a stage `quality` or `classifier` has learnt."""

    kind: Literal["classifier"]
    model: Annotated[str, StageReference(("quality", "classifier"))] = Field(description="the stage that has learnt it")
    label: str = Field("good", description="the class: of a stage `quality` good or bad, else the name of a source")
    needs: ClassVar = {"model": "stage"}

    def open(self, surroundings: Surroundings) -> Part:
        from polyana.corpus.linear import LinearModel  # compiles, which takes a second

        model = LinearModel.load(surroundings.models["model"] / "model.npz")
        if self.label not in model.classes:
            raise UserError(f"`{self.model}` has not learnt `label: {self.label}`; it knows {', '.join(model.classes)}")
        return _Classifier(model, model.classes.index(self.label))


class _Classifier:
    batch, watched = 64, True

    def __init__(self, model: Any, place: int) -> None:
        self._model, self._place = model, place

    def score(self, answers: Sequence[Answered]) -> list[float]:
        found = self._model.probabilities([each.answer for each in answers])
        return [float(each) for each in found[:, self._place]]


class SimilarityPartConfig(PartConfig):
    """How near an answer's meaning is to the row's `reference`: the cosine of their vectors, -1 to 1."""

    kind: Literal["similarity"]
    model: str = Field(description="what makes vectors of text: `hub:org/name`, `package:NAME` or a directory")
    tokens: int = Field(256, ge=1, description="of a text, the first that are looked at")
    needs: ClassVar = {"model": "embedder"}

    def open(self, surroundings: Surroundings) -> Part:
        return _Similarity(Embedder(surroundings.models["model"], self.tokens))


class _Similarity:
    batch, watched = 16, True

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def score(self, answers: Sequence[Answered]) -> list[float]:
        references = [each.reference for each in answers]
        if not all(references):
            raise ValueError("the row has no `reference` to compare with")
        vectors = torch.tensor(self._embedder([each.answer for each in answers] + list(map(str, references))))
        written, right = vectors.double().chunk(2)
        return [float(each) for each in torch.nn.functional.cosine_similarity(written, right)]


class RewardModelPartConfig(PartConfig):
    """What a reward model gives: a stage `reward`, or any AutoModelForSequenceClassification with one output."""

    kind: Literal["reward_model"]
    model: Annotated[str, StageReference(("reward",), stage_in)] = Field(description=ABOUT_MODEL)
    needs: ClassVar = {"model": "sequence_classifier"}

    def open(self, surroundings: Surroundings) -> Part:
        return _RewardModel(surroundings.models["model"])


class _RewardModel:
    batch, watched = 8, True

    def __init__(self, directory: Path) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        model: Any
        model, told = AutoModelForSequenceClassification.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
        if told["missing_keys"]:
            raise UserError(
                f"the reward model lacks {', '.join(sorted(told['missing_keys'])[:3])}: it has learnt no score"
            )
        if model.config.num_labels != 1:
            raise UserError(f"the reward model has {model.config.num_labels} outputs; one that gives a score has one")
        self._model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def score(self, answers: Sequence[Answered]) -> list[float]:
        """One text at a time: what stands beside it in a batch would change its last digits, and models differ in where
        they look for the end of a padded one."""
        with torch.inference_mode():
            return [float(self._model(input_ids=self._tokens(each)).logits[0, 0]) for each in answers]

    def _tokens(self, answered: Answered) -> torch.Tensor:
        if self._tokenizer.chat_template is not None:
            said = [*answered.messages, {"role": "assistant", "content": answered.answer}]
            text = self._tokenizer.apply_chat_template(said, tokenize=False)
            ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            ids = self._tokenizer(f"{answered.prompt}\n{answered.answer}")["input_ids"]
        return torch.tensor([ids[-longest_text(self._model) :]], device=self._model.device)


class ImplicitPartConfig(PartConfig):
    """What a preference-trained model has come to value: beta (log p(answer) - log p of the reference), in nats
    (Rafailov et al. 2023, eq. 5 without its last term, which the answers to one prompt have in common)."""

    kind: Literal["implicit"]
    model: Annotated[str, StageReference(LANGUAGE_MODELS, stage_in)] = Field(
        description=f"the trained one: {ABOUT_MODEL}"
    )
    reference: Annotated[str, StageReference(LANGUAGE_MODELS, stage_in)] = Field(
        description="the one that its training began with"
    )
    beta: float = Field(0.1, gt=0, description="that of its training; 0.1 in Rafailov et al. 2023, appendix B")
    needs: ClassVar = {"model": "causal", "reference": "causal"}

    def open(self, surroundings: Surroundings) -> Part:
        return _Implicit(surroundings.models, self.beta)


class _Implicit:
    batch, watched = 8, True

    def __init__(self, models: Any, beta: float) -> None:
        from transformers import AutoTokenizer

        self._beta = beta
        self._models = [load_base(models[name]).eval() for name in ("model", "reference")]
        self._tokenizers: list[Any] = [
            AutoTokenizer.from_pretrained(models[name], local_files_only=True) for name in ("model", "reference")
        ]

    def score(self, answers: Sequence[Answered]) -> list[float]:
        pairs = list(zip(self._models, self._tokenizers, strict=True))
        trained, reference = (log_probs_of(model, tokenizer, answers) for model, tokenizer in pairs)
        return [float(each) for each in self._beta * (trained - reference)]


def log_probs_of(model: Any, tokenizer: Any, answers: Sequence[Answered]) -> torch.Tensor:
    """log p of each answer after what was asked, with the end of its turn; [A], in fp32 and nats."""
    tokens, lengths, rows = list[int](), list[int](), list[int]()
    places, targets = list[int](), list[int]()
    for each in answers:
        if tokenizer.chat_template is not None:
            asked = question(tokenizer, each.messages)
        else:
            asked = tokenizer.encode(each.prompt) or [tokenizer.eos_token_id]
        said = [*tokenizer.encode(each.answer, add_special_tokens=False), tokenizer.eos_token_id]
        said = said[: max(longest_text(model) - 2, 1)]
        text = [*asked, *said][-longest_text(model) :]
        begin = len(text) - len(said)
        places += [len(tokens) + place - 1 for place in range(begin, len(text))]
        targets += said
        lengths.append(len(text))
        rows.append(len(said))
        tokens += text
    device = next(model.parameters()).device
    position_N = torch.cat([torch.arange(length) for length in lengths]).to(device)
    with torch.inference_mode():
        hidden_ND = hidden_states(model, torch.tensor(tokens, device=device), position_N, lengths)[places]
        return answer_log_probs(
            hidden_ND, head_weight(model), torch.tensor(targets, device=device), rows, torch.float32
        )  # fmt: skip
