"""New rows by their definition; old texts keep their logits."""

import pytest
import torch
from small_models import logits, save, small_model, small_tokenizer

from polyana.models import extend_vocabulary, load_base


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [0, 3, 20])  # as many as tokens, and padded to more
def test_new_rows_are_the_mean_of_the_old_pieces(tmp_path, tied, rows):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = small_tokenizer()
    known = len(tokenizer)
    before = small_model(vocab_size=known + rows, tie_word_embeddings=tied)
    model = load_base(save(tmp_path / "before", before, tokenizer))
    tokens = ["<|user|>", "зима", "<|end|>", "<|user|>", "<|turn|>", "wxyz", "vw", "zz"]
    pieces = {token: tokenizer(token)["input_ids"] for token in tokens}
    assert extend_vocabulary(model, tokenizer, tokens) == 6
    assert len(tokenizer) == known + 6
    assert model.config.vocab_size == max(known + rows, known + 6)
    for layer, old in zip(
        (model.get_input_embeddings(), model.get_output_embeddings()),
        (before.get_input_embeddings(), before.get_output_embeddings()),
        strict=True,
    ):
        assert torch.equal(layer.weight[:known], old.weight[:known])
        for token in set(tokens) - {"<|end|>"}:
            row = layer.weight[tokenizer.convert_tokens_to_ids(token)]
            torch.testing.assert_close(row, old.weight[pieces[token]].mean(0))
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    assert tokenizer("a<|user|>зима")["input_ids"][1:] == tokenizer.convert_tokens_to_ids(["<|user|>", "зима"])
    assert extend_vocabulary(model, tokenizer, tokens) == 0
    after = save(tmp_path / "after", model, tokenizer)
    loaded, old_text = AutoModelForCausalLM.from_pretrained(after), torch.arange(12)
    torch.testing.assert_close(logits(loaded, old_text)[:, :known], logits(before, old_text)[:, :known])
    assert AutoTokenizer.from_pretrained(after)("<|turn|>")["input_ids"] == tokenizer("<|turn|>")["input_ids"]


def test_words_are_text_and_marks_are_not(tmp_path):
    model, tokenizer = small_model(), small_tokenizer()
    extend_vocabulary(model, tokenizer, ["зима"], special=False)
    extend_vocabulary(model, tokenizer, ["<|turn|>"])
    ids = tokenizer("зима<|turn|>")["input_ids"]
    assert len(ids) == 2
    assert tokenizer.decode(ids, skip_special_tokens=True) == "зима"
