"""Runs shared with an evaluation set are those that a Python set of word tuples finds, and datatrove where its rules
are ours; what is cut around them, what goes, and what is counted."""

import json
import random
import re
import unicodedata

import numpy as np
import pytest

pytest.importorskip("numba")

from polyana.corpus.steps import grams
from polyana.corpus.steps.contamination import ContaminationConfig
from polyana.corpus.steps.grams import RunIndex
from polyana.corpus.steps.step import Block, Surroundings
from polyana.errors import UserError


def is_mark(sign):
    return unicodedata.category(sign) in {"Mn", "Mc", "Me", "Cf"}


def words_of(text):
    """(word, first character, end) by another way: one expression on the text without accents."""
    kept = [(unicodedata.normalize("NFD", sign.casefold())[0], at) for at, sign in enumerate(text) if not is_mark(sign)]
    plain, places = "".join(sign for sign, _ in kept), [at for _, at in kept]
    found = []
    for match in re.finditer(r"[^\W_]+", plain):
        end = places[match.end() - 1] + 1
        while end < len(text) and is_mark(text[end]):
            end += 1
        found.append((match[0], places[match.start()], end))
    return found


def runs_of(items, length, shortest):
    """Every run of `length` words in items, and items as a whole that are shorter."""
    known = set()
    for item in items:
        words = tuple(word for word, _, _ in words_of(item))
        if len(words) >= length:
            known |= {words[at : at + length] for at in range(len(words) - length + 1)}
        elif len(words) >= shortest:
            known.add(words)
    return known


def shared_runs(known, text, length, shortest):
    """{(first character, end)} of the runs of a text that are known."""
    found = words_of(text)
    words = tuple(word for word, _, _ in found)
    return {
        (found[at][1], found[at + size - 1][2])
        for size in range(shortest, length + 1)
        for at in range(len(words) - size + 1)
        if words[at : at + size] in known
    }


def novels(shared_data):
    paths = [*sorted((shared_data / "rus_prose" / "Tolstoy").glob("*.txt"))[:4]]
    paths.append(shared_data / "eng_tinyshakespeare" / "input.txt")
    return [path.read_text()[:150_000] for path in paths]


def rephrased(text, draws):
    """The same words with other signs between them, other case, composed and decomposed accents."""
    text = re.sub(r"\s+", lambda _: draws.choice([" ", "\n", " -- ", ", "]), text)
    return unicodedata.normalize(draws.choice(["NFC", "NFD"]), draws.choice([text.upper(), text.lower(), text]))


@pytest.mark.parametrize(("length", "shortest"), [(13, 8), (12, 12), (5, 2)])
def test_shared_runs_are_those_of_a_set_of_tuples(length, shortest, shared_data):
    draws, texts = random.Random(0), novels(shared_data)
    items, documents = [], []
    for text in texts:
        for _ in range(60):
            at, size = draws.randrange(len(text) - 2000), draws.choice([20, 60, 90, 150, 1000])
            items.append(text[at : at + size])
            if draws.random() < 0.5:
                documents.append(f"{draws.choice(texts)[at : at + 800]} {rephrased(items[-1], draws)} the end")
            documents.append(text[at + size // 2 : at + 1500])
    index = RunIndex([items], length, shortest)
    found = [{(start, end) for start, end, _ in index.matches(document).tolist()} for document in documents]
    known = runs_of(items, length, shortest)
    expected = [shared_runs(known, document, length, shortest) for document in documents]
    assert found == expected
    assert sum(map(bool, expected)) > len(documents) // 3
    assert not all(expected)


def test_a_long_document_is_read_in_pieces(shared_data, monkeypatch):
    text = novels(shared_data)[0]
    items = [text[at : at + 70] for at in range(0, len(text), 1500)] + [text[7000:12_000]]
    index = RunIndex([items], 13, 8)
    whole = index.matches(text)
    assert len(whole) > 500
    for size in (257, 4096):
        monkeypatch.setattr(grams, "_PIECE", size)
        assert index.matches(text).tolist() == whole.tolist()
    monkeypatch.setattr(grams, "_PIECE", 64)
    assert len(index.matches("a" * 10_000)) == 0


def test_scripts_without_spaces_have_a_word_a_sign():
    item = "我们的目标是在没有任何监督的情况下学习语言。"
    index = RunIndex([[item]], 13, 8)
    assert len(index.matches(f"据说{item}好")) == len(item) - 1 - 12
    assert len(index.matches("我们的目标是学习语言，别的都不要紧，真的。")) == 0


def test_decisions_are_datatroves(shared_data, tmp_path):
    """Where its rules are ours: English without digits, weekdays and months; it takes 12 words and splits as spaCy
    does, so text where an apostrophe makes another number of words is left out."""
    pytest.importorskip("datatrove")
    from datatrove.data import Document
    from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter, NGramsDecontIndexer
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.text import TextNormConfig

    draws = random.Random(1)
    text = re.sub(
        r"\w*'\w*|cannot|gonna|[^\x00-\x7f]|\d", "so", (shared_data / "eng_tinyshakespeare" / "input.txt").read_text()
    )
    items, documents = [], []
    for _ in range(150):
        at = draws.randrange(len(text) - 2000)
        items.append(text[at : at + 300])
        documents += [text[at + draws.choice([0, 200, 250, 290]) : at + 900], rephrased(text[at : at + 120], draws)]
    config = NGramsDecontConfig(
        norm_config=TextNormConfig(norm_numbers=False, norm_weekdays=False, norm_monthnames=False),
        hash_config=HashConfig(hash_fc="sha1"),
    )
    judge = NGramsDecontFilter(str(tmp_path), config=config)
    # the indexer itself asks for lighteval, to fetch sets; the filter has all that its rule reads
    known = {number for item in items for number in NGramsDecontIndexer.compute_hashes(judge, item)}
    (tmp_path / "shakespeare.index.hashes").write_bytes(np.array(list(known), np.uint64).tobytes())
    index = RunIndex([items], 12, 12)
    theirs = [judge.filter(Document(text=document, id="")) is not True for document in documents]
    assert [len(index.matches(document)) > 0 for document in documents] == theirs
    assert 50 < sum(theirs) < len(theirs) - 50


ITEM = (
    "Weng earns twelve dollars an hour for babysitting. Yesterday, she just did fifty minutes of babysitting. "
    "How much did she earn?"
)
SHORT = "Who has painted the roof of the old mill red?"
FILLER = "The river was full of ice, and the miller waited for the thaw with his hands in his pockets. " * 30


@pytest.fixture
def place(tmp_path):
    rows = [{"question": ITEM, "answer": "ten"}, {"question": "Who?", "answer": "He."}]
    (tmp_path / "school.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mill.csv").write_text(
        f'text,n\n"{SHORT}",1\n"And when was the old mill of the town first built here",2\n'
    )
    return tmp_path


AGAINST = [{"path": "school.jsonl", "text": ["question", "answer"]}, "mill.csv"]


def run(place, texts, against=AGAINST, **settings):
    config = ContaminationConfig.model_validate({"against": against} | settings)
    files = {f"against.{index}": place / each.path for index, each in enumerate(config.against)}
    work = config.worker(Surroundings(("en",), files))
    found = work(Block([str(at) for at in range(len(texts))], list(texts), np.zeros(len(texts), np.int16)))
    gone = np.full(len(texts), "", object)
    for verdict in config.verdicts(found.columns, "en"):
        gone[verdict.thrown & (gone == "")] = verdict.reason
    return found, gone.tolist()


def test_words_around_a_match_go(place):
    text = f"{FILLER}\n{ITEM.upper()}\n{FILLER}"
    found, gone = run(place, [text, FILLER, ITEM, f"{FILLER}{SHORT} {FILLER}"])
    assert gone == ["", "", "overlaps school.jsonl", ""]
    assert found.columns["pieces"].tolist() == [2, 1, 0, 2]
    assert sorted(found.edited) == [0, 3]
    edit = found.edited[0]
    before, behind = edit.text.split("\n\n")
    assert FILLER.startswith(before)
    assert FILLER.rstrip().endswith(behind)
    assert 200 <= len(FILLER) - len(before) <= 300  # to the border of a word
    assert 200 <= len(FILLER) - len(behind) <= 300
    assert FILLER[len(before)].isspace()
    assert edit.taken == {"overlaps school.jsonl": len(text) - len(edit.text)}
    assert found.columns["items of school.jsonl"].tolist() == [1, 0, 1, 0]
    assert found.columns["items of mill.csv"].tolist() == [0, 0, 0, 1]


def test_the_reason_names_the_sets(place):
    both = f"{FILLER}{ITEM} {SHORT} {FILLER}"
    found, gone = run(place, [both, SHORT], [{**AGAINST[0], "name": "sums"}, "mill.csv"])
    assert list(found.edited[0].taken) == ["overlaps sums and mill.csv"]
    assert gone == ["", "overlaps mill.csv"]
    _, gone = run(place, [both, FILLER, SHORT], action="drop")
    assert gone == ["overlaps school.jsonl", "", "overlaps mill.csv"]


def test_pieces_that_are_short_or_many(place):
    close = f"{FILLER}{ITEM} {FILLER[:550]} {ITEM} {FILLER}"
    found, gone = run(place, [close], margin=200)
    assert found.columns["pieces"].tolist() == [2]  # fewer than 200 characters were left between the two
    assert set(found.edited[0].taken) == {"overlaps school.jsonl", "little beside it"}
    assert sum(found.edited[0].taken.values()) == len(close) - len(found.edited[0].text)
    assert gone == [""]
    many = f"{FILLER}{ITEM} " * 11 + FILLER
    assert run(place, [many])[1] == ["in more than 10 pieces"]
    assert run(place, [many], max_pieces=12)[1] == [""]
    assert run(place, [f"{SHORT} {SHORT}"], margin=0)[1] == ["overlaps mill.csv"]


def test_documents_can_go_instead(place):
    found, gone = run(place, [f"{FILLER}{ITEM}", FILLER, SHORT], action="drop")
    assert gone == ["overlaps school.jsonl", "", "overlaps mill.csv"]
    assert found.edited == {}


def test_short_items_count_as_a_whole(place):
    half = " ".join(SHORT.split()[:9])
    assert run(place, [f"{half} green, he said"])[1] == [""]
    assert run(place, [SHORT], min_words=11)[1] == [""]  # it has 10
    with pytest.raises(UserError, match="no item of the evaluation sets has 13 words"):
        run(place, [SHORT], against=["mill.csv"], min_words=13)


def test_every_format_and_place(place):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    directory = place / "sets"
    directory.mkdir()
    nested = {"choices": [ITEM.split(". "), ["no", "yes"]], "label": [0, 1]}
    parquet.write_table(pyarrow.table(nested), directory / "a.parquet")
    (directory / "b.txt").write_text(f"{FILLER[:50]}\n\n{SHORT}\n")
    for against in (
        [{"path": "sets/a.parquet", "text": "choices"}, {"path": "sets/b.txt", "document": "paragraph"}],
        [{"path": "sets", "text": "choices", "document": "line"}],
        [{"path": "sets/*", "text": "choices", "document": "line"}],
    ):
        gone = run(place, [ITEM, SHORT, FILLER], against)[1]
        assert [reason.partition(" ")[0] for reason in gone] == ["overlaps", "overlaps", ""]
    config = ContaminationConfig.model_validate({"against": ["sets", "mill.csv"]})
    assert config.files(place) == {
        "against.0": [("a.parquet", directory / "a.parquet"), ("b.txt", directory / "b.txt")],
        "against.1": [("mill.csv", place / "mill.csv")],
    }
    with pytest.raises(UserError, match="`nowhere` does not exist"):
        ContaminationConfig.model_validate({"against": ["nowhere"]}).files(place)


def test_a_set_that_cannot_be_read_is_a_letter(place):
    with pytest.raises(UserError, match=r"`school.jsonl` has no text under `text`; its columns: answer, question"):
        run(place, [ITEM], ["school.jsonl"])
    (place / "broken.jsonl").write_text('{"text": "a"}\n{"text":\n')
    with pytest.raises(UserError, match=r"broken.jsonl` cannot be read: row 2 is no JSON object"):
        run(place, [ITEM], ["broken.jsonl"])
    (place / "broken.txt.gz").write_bytes(b"\x1f\x8b\x08\x00 nothing")
    with pytest.raises(UserError, match=r"broken.txt.gz` cannot be read: damaged file"):
        run(place, [ITEM], ["broken.txt.gz"])


def test_a_wrong_setting_is_a_letter(monkeypatch):
    def letters(**settings):
        return [
            what for _, what in ContaminationConfig.model_validate({"against": ["a/x.jsonl"]} | settings).problems()
        ]

    assert letters() == []
    assert letters(words=5) == ["`min_words: 8` is for items of fewer than `words: 5`; write less"]
    assert letters(against=["a/x.jsonl", "b/x.jsonl"]) == [
        "two evaluation sets are called `x.jsonl`; give one of them another `name: ...`"
    ]
    monkeypatch.setattr("polyana.corpus.steps.contamination.find_spec", lambda _: None)
    assert letters() == ["words are compared by numba; run: pip install 'polyana[mill]'"]


def test_a_school_set_meets_its_own_test_set_seldom(shared_data):
    """GSM8K's train and test questions were written apart; their own items are all found."""
    directory = shared_data / "gsm8k"
    against = [{"path": "test.jsonl", "text": ["question"]}]
    questions = {
        split: [json.loads(line)["question"] for line in (directory / f"{split}.jsonl").read_text().splitlines()][:1300]
        for split in ("train", "test")
    }
    found, _ = run(directory, questions["test"], against, action="drop")
    words = [len(words_of(question)) for question in questions["test"]]
    assert [count > 0 for count in found.columns["items of test.jsonl"]] == [count >= 8 for count in words]
    found, _ = run(directory, questions["train"], against, action="drop")
    assert (found.columns["items of test.jsonl"] > 0).mean() < 0.02
