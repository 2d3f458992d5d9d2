"""C4's rules and near copies decide as datatrove's do, on real text and on text made to be hard."""

import io
import json
import random

import numpy as np
import pytest
from spoiled import texts

from polyana.corpus import Corpus, CorpusConfig, build_corpus
from polyana.corpus.steps.c4 import C4Rule
from polyana.corpus.steps.near import NearDuplicates, permutations
from polyana.corpus.steps.step import Block, Surroundings
from polyana.corpus.word_rules import plain_text
from polyana.corpus.words import Words, WordTable
from polyana.tracking import Console

HARD = [
    "", " ", "\n\n", "one.", "One. Two! Three? Four... Five. Six", "A.  B.\tC.\n D .\n\n.",
    'He said: "No." She left.\n',
    "Mr. Smith went to Washington. He was 5.5 ft. tall. U.S. and e.g. that. Really?! Yes... no. (What?) Fine.",
    "[1] a citation[2] in the middle[citation needed] of it. [edit] And so on. Then again. What now? Well. Good.",
    "This line has { a bracket.\nAnd this one is good and long.", "Two {\nwords {\nThis line is good and long enough.",
    "Please enable JavaScript to read this page.\n" + "This is a good line with a full stop.\n" * 6,
    "We use cookies to make it better.\nRead the Privacy Policy here now.\n" + "A good line it is. And one more.\n" * 5,
    *(f"The {phrase} of it is here.\n" + "A good line it is. And one more.\n" * 5 for phrase in (
        "JAVASCRIPT", "TERMS OF USE", "Privacy Policy", "COOKIE POLICY", "site uses coo\u212aies", "use of Cookies",
        "LOREM IPSUM", "lorem  ipsum", "terms of us", "java script", "[12] sum", "[edit]", "[Edit]", "[]", "[1 ]",
    )),
    "Lorem ipsum dolor sit amet.\n" * 6, "Ends with three dots...\nEnds with one dot.\n" * 4,
    "x" * 1001 + " is a long word.\n" + "A good line it is. And one more.\n" * 5,
    " spaces before it. And behind it. \r\nA line for Windows. It goes on.\r\nThird line here.\x0bTab of old. And new.",
    "Это первое предложение. Это второе! А это третье? Да, и четвёртое. И пятое тоже. Вот и всё…",
    "One.Two.Three. Four.Five . . . ! ? Six seven eight.", "no end in sight here\nand none here either\n" * 5,
    "A sentence.\u00a0Another one.\u2003And a third.\u00a0\u00a0Fourth. Fifth. Sixth.",
    "«Да». «Нет». — Как? — Так. И что. Всё.",
]  # fmt: skip


def cut(rule, documents, language):
    words = Words([language], {}, plain=True)
    block = Block([str(at) for at in range(len(documents))], list(documents), np.zeros(len(documents), np.int16))
    found = rule.worker(Surroundings((language,), words=words))(block)
    few, nothing = rule.verdicts(found.columns, language)
    assert not (nothing.thrown & ~few.thrown).any() or rule.min_sentences == 0
    return found, few.thrown


@pytest.mark.parametrize("language", ["en", "ru"])
@pytest.mark.parametrize("ended", [True, False])
def test_c4_decides_and_edits_as_datatrove(language, ended, shared_data):
    pytest.importorskip("datatrove")
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter

    draws = random.Random(3)
    documents = HARD + texts(shared_data, language)
    documents += [" ".join(draws.sample(HARD, 4)) for _ in range(60)]
    theirs = C4QualityFilter(filter_no_terminal_punct=ended, language=language)
    found, few = cut(C4Rule(ended_lines=ended), documents, language)
    seen = set()
    for at, text in enumerate(documents):
        document = Document(text=text, id="")
        verdict = theirs.filter(document)
        reason = None if verdict is True else verdict[1]
        ours = {"lorem ipsum": "lorem_ipsum", "a curly bracket": "curly_bracket"}.get(found.dropped.get(at))
        ours = ours or ("too_few_sentences" if few[at] else None)
        assert ours == reason, text[:200]
        if reason is None:
            edited = found.edited[at].text if at in found.edited else text
            assert edited.strip() == document.text
        seen.add(reason)
    assert seen == {None, "lorem_ipsum", "curly_bracket", "too_few_sentences"}


def test_what_c4_takes_out_adds_up():
    found, _ = cut(C4Rule(min_sentences=0), HARD, "en")
    assert len(found.edited) > 5
    for at, edit in found.edited.items():
        assert len(HARD[at].encode()) - len(edit.text.encode()) == sum(edit.taken.values())
    assert set().union(*(edit.taken for edit in found.edited.values())) >= {
        "lines that do not end a sentence", "lines of few words", "lines about javascript", "lines about policies",
    }  # fmt: skip


@pytest.mark.parametrize("language", ["en", "ru"])
def test_signatures_are_datatroves(language, shared_data):
    pytest.importorskip("datatrove")
    pytest.importorskip("xxhash")
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.text import simplify_text

    accents = "Ça déjà naïve Ёлка й Й İstanbul ΣΑΣ 1,234.5 12.5% №5 ½ ² e\u0301 \u0301x ___ a_b C++ don't 'tis"
    documents = [*HARD, accents * 3, *texts(shared_data, language)[::3]]
    theirs = MinhashDedupSignature(output_folder="memory://", config=MinhashConfig(), language=language)
    table = WordTable(language, plain=True)
    signatures, shingles = table.sign(table.batch(documents), 5, *permutations(112, 1))
    compared = 0
    for at, text in enumerate(documents):
        assert " ".join(plain_text(text).split()) == simplify_text(text)
        expected = theirs.get_shingles(text)
        assert shingles[at] == len(expected), text[:200]
        if len(expected):
            assert signatures[at].tolist() == [hash for band in theirs.get_signature(expected) for hash in band]
            compared += 1
    assert compared > 20


def jaccard(one, other):
    a, b = ({tuple(words[at : at + 5]) for at in range(len(words) - 4)} for words in (one.split(), other.split()))
    return len(a & b) / len(a | b)


def test_planted_copies_are_found_as_often_as_they_should(tmp_path, shared_data):
    """Recall and precision against the exact share of common rows of words."""
    draws = random.Random(5)
    vocabulary = [f"w{number}" for number in range(5000)]
    vocabulary = ["".join(draws.choices("abcdefghij", k=6)) for _ in vocabulary]
    rows, pairs = {}, []
    for number in range(300):
        words = draws.choices(vocabulary, k=200)
        rows[f"a{number}"] = " ".join(words)
        for _ in range(draws.randint(0, 24)):
            words[draws.randrange(200)] = draws.choice(vocabulary)
        rows[f"b{number}"] = " ".join(words)
        pairs.append((number, jaccard(rows[f"a{number}"], rows[f"b{number}"])))
    lines = [json.dumps({"name": name, "text": text}) for name, text in rows.items()]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    (tmp_path / "out").mkdir()
    config = CorpusConfig.model_validate(
        {
            "kind": "corpus", "sources": [{"path": "rows.jsonl", "id": "name"}], "eval": 0, "language": "en",
            "steps": ["near_duplicates"], "drop_duplicates": False,
        }
    )  # fmt: skip
    build_corpus(config, tmp_path, tmp_path / "out", Console(io.StringIO()))
    kept = {document.id.rpartition("#")[2] for document in Corpus(tmp_path / "out").documents("train")}
    assert all(f"a{number}" in kept for number in range(300))
    found = {number for number in range(300) if f"b{number}" not in kept}
    above = [number for number, share in pairs if share > 0.8]
    below = [number for number, share in pairs if share < 0.5]
    assert len(above) > 40
    assert len(below) > 40
    expected = sum(1 - (1 - share**8) ** 14 for _, share in pairs)
    spread = sum((1 - (1 - share**8) ** 14) * (1 - share**8) ** 14 for _, share in pairs) ** 0.5
    assert abs(len(found) - expected) < 4 * spread
    assert len(found & set(above)) > 0.9 * len(above)
    assert len(found & set(below)) < 0.1 * len(below)


@pytest.mark.parametrize(("keep", "name"), [("first", "short"), ("longest", "long")])
def test_which_copy_is_kept_is_a_rule(tmp_path, keep, name):
    text = " ".join(f"word{chr(97 + number % 26)}{chr(97 + number // 26)}" for number in range(300))
    rows = [
        {"name": "short", "text": text},
        {"name": "other", "text": text[::-1]},
        {"name": "long", "text": text + " end"},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "out").mkdir()
    config = CorpusConfig.model_validate(
        {
            "kind": "corpus", "sources": [{"path": "rows.jsonl", "id": "name"}], "eval": 0, "language": "en",
            "steps": [{"kind": "near_duplicates", "keep": keep}],
        }
    )  # fmt: skip
    report = build_corpus(config, tmp_path, tmp_path / "out", Console(io.StringIO()))
    kept = {document.id.rpartition("#")[2] for document in Corpus(tmp_path / "out").documents("train")}
    assert kept == {name, "other"}
    (example,) = report["examples"]["near_duplicates: copy of another document"]
    assert example["twin"]["id"] == f"rows.jsonl/rows.jsonl#{name}"
    assert NearDuplicates(keep=keep).deciding == {"keep"}
