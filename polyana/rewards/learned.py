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
from polyana.examples import ChatTemplate, Conversation
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
        self._beta = beta
        trained, reference = (models[name] for name in ("model", "reference"))
        self._trained = load_base(trained).eval(), ChatTemplate(trained)
        self._reference = load_base(reference).eval(), ChatTemplate(reference)

    def score(self, answers: Sequence[Answered]) -> list[float]:
        trained, reference = (_log_probs(*each, answers) for each in (self._trained, self._reference))
        return [float(each) for each in self._beta * (trained - reference)]


def _log_probs(model: Any, template: ChatTemplate, answers: Sequence[Answered]) -> torch.Tensor:
    """log p of each answer after what was asked, with the end of its turn; [A], in fp32 and nats. Of what is too long
    for the model the prompt's beginning is left out, then the answer's end."""
    longest = longest_text(model)
    tokens, lengths, rows, places = list[int](), list[int](), list[int](), list[int]()
    for each in answers:
        text, begin = _written(template, each)
        left_out = min(max(len(text) - longest, 0), begin - 1)
        text, begin = text[left_out:][:longest], begin - left_out
        places += range(len(tokens) + begin, len(tokens) + len(text))
        lengths.append(len(text))
        rows.append(len(text) - begin)
        tokens += text
    device = next(model.parameters()).device
    tokens_N, places_R = torch.tensor(tokens, device=device), torch.tensor(places, device=device)
    position_N = torch.cat([torch.arange(length) for length in lengths]).to(device)
    with torch.inference_mode():
        hidden_RD = hidden_states(model, tokens_N, position_N, lengths)[places_R - 1]
        return answer_log_probs(hidden_RD, head_weight(model), tokens_N[places_R], rows, torch.float32)


def _written(template: ChatTemplate, answered: Answered) -> tuple[list[int], int]:
    """(the tokens of prompt and answer to the end of its turn, where the answer begins), as training has them."""
    tokenizer = template.tokenizer
    if tokenizer.chat_template is None:
        asked = tokenizer.encode(answered.prompt) or [tokenizer.eos_token_id]
        said = tokenizer.encode(answered.answer, add_special_tokens=False)
        return [*asked, *said, tokenizer.eos_token_id], len(asked)
    messages = [*answered.messages, {"role": "assistant", "content": answered.answer}]
    conversation = Conversation(messages, [0.0] * len(answered.messages) + [1.0])
    ((tokens, weights),) = template.encode([template.write(conversation)])
    learned = weights.nonzero()[0]
    return tokens[: learned[-1] + 1].tolist(), int(learned[0])
