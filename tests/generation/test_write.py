import json

import pytest
import torch
import transformers

from polyana.errors import UserError
from polyana.generation import GenerationConfig, draw_answers, generate, load_for_generation
from polyana.models import longest_text


@pytest.fixture(scope="module")
def stories():
    from conftest import SHARED

    directory = SHARED / "stories260k" / "hf"
    if not directory.is_dir():
        pytest.skip("../shared/data is not beside the checkout")
    return load_for_generation(directory)


def test_writing_is_repeatable_streams_and_leaves_random_numbers_alone(stories):
    model, tokenizer = stories
    settings = GenerationConfig(max_tokens=30, temperature=1.0, seed=5)
    before = torch.get_rng_state()
    pieces: list[str] = []
    text = generate(model, tokenizer, "Once upon a time", settings, pieces.append)
    assert torch.equal(before, torch.get_rng_state())
    assert "".join(pieces) == text
    assert len(pieces) > 10
    assert text == generate(model, tokenizer, "Once upon a time", settings)
    other = GenerationConfig(max_tokens=30, temperature=1.0, seed=6)
    assert text != generate(model, tokenizer, "Once upon a time", other)


def test_greedy_writing_is_transformers_own(stories):
    model, tokenizer = stories
    ids = tokenizer("Once upon a time", return_tensors="pt")
    theirs = model.generate(**ids, max_new_tokens=20, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    whole = tokenizer.decode(theirs[0], skip_special_tokens=True)
    written = generate(model, tokenizer, "Once upon a time", GenerationConfig(max_tokens=20, temperature=0))
    assert "Once upon a time" + written == whole


def test_a_text_goes_on_with_the_space_that_begins_the_next_word(stories):
    """SentencePiece drops one that begins a text."""
    pieces: list[str] = []
    greedy = GenerationConfig(max_tokens=3, temperature=0)
    text = generate(*stories, "Once", greedy, pieces.append)
    assert text.startswith(" upon")
    assert "".join(pieces) == text


@pytest.mark.parametrize(
    "recommended", [{"min_p": 0.9}, {"no_repeat_ngram_size": 1}, {"suppress_tokens": list(range(300, 500))},
                    {"temperature": 0.1, "top_k": 1, "repetition_penalty": 3.0}, {"typical_p": 0.1}],
)  # fmt: skip
def test_answers_are_drawn_from_the_model_itself_whatever_it_recommends_for_chat(stories, recommended, monkeypatch):
    """Else their mean is not the model's, and neither is its KL from a reference."""
    model, tokenizer = stories
    asked = [tokenizer.encode("Once upon a time"), tokenizer.encode("Tom")]
    drawn = draw_answers(model, tokenizer, asked, 2, 3, 20)
    own = transformers.GenerationConfig(**model.generation_config.to_diff_dict() | recommended)
    monkeypatch.setattr(model, "generation_config", own)
    assert draw_answers(model, tokenizer, asked, 2, 3, 20) == drawn
    assert model.generation_config is own
    long = [tokenizer.encode("Once upon a time " * 200)]  # of which some is left out
    ((cut,),) = draw_answers(model, tokenizer, long, 1, 3, 20)
    assert cut.asked == tuple(long[0][20 - longest_text(model) :])


def test_each_setting_changes_what_is_written(stories):
    model, tokenizer = stories
    base = {"max_tokens": 40, "temperature": 1.5, "top_k": None, "top_p": None, "seed": 1}
    texts = {generate(model, tokenizer, "Once", GenerationConfig(**base))}
    for change in ({"temperature": 0.3}, {"top_k": 3}, {"top_p": 0.3}, {"seed": 2}, {"max_tokens": 9}):
        texts.add(generate(model, tokenizer, "Once", GenerationConfig(**base | change)))
    assert len(texts) == 6


def test_the_prompt_counts_even_when_more_is_asked_for_than_fits(stories):
    model, tokenizer = stories
    settings = GenerationConfig(max_tokens=100_000, temperature=0)
    texts = {generate(model, tokenizer, f"{name} went to the", settings) for name in ("Tom and the old dog", "Anna")}
    assert len(texts) == 2


def test_a_prompt_longer_than_the_context_keeps_its_end(stories):
    model, tokenizer = stories
    longest = model.config.max_position_embeddings
    assert isinstance(generate(model, tokenizer, "a cat " * longest, GenerationConfig(max_tokens=5)), str)
    assert isinstance(generate(model, tokenizer, "", GenerationConfig(max_tokens=5)), str)


@pytest.mark.parametrize(
    ("file", "told"),
    [("config.json", {"architectures": ["LlamaForSequenceClassification"]}),
     ("adapter_config.json", {"task_type": "SEQ_CLS"})],
)  # fmt: skip
def test_what_gives_scores_writes_nothing(tmp_path, file, told):
    (tmp_path / file).write_text(json.dumps(told))
    with pytest.raises(UserError, match="gives texts scores and writes none"):
        load_for_generation(tmp_path, tmp_path if file == "adapter_config.json" else None)
