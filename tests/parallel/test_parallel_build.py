"""Parallel text on disk: what is thrown out and why, what is held out, and that everything adds up."""

import json
import random

import pytest

from polyana.config import read_config, read_yaml_text
from polyana.errors import PolyanaError, UserError
from polyana.parallel import (
    HeldOut,
    LanguagesConfig,
    ParallelConfig,
    ParallelText,
    Segment,
    as_sentences,
    build_parallel,
    parallel_inputs,
    report_lines,
    split_sentences,
)
from polyana.storage import ContentDigests
from polyana.tracking import Console

pytest.importorskip("py3langid")
pytest.importorskip("babel")
pytest.importorskip("sentencex")

ENGLISH = "The committee has decided to publish the results of the inquiry next year, number {}."
RUSSIAN = "Комитет решил опубликовать результаты расследования в следующем году, номер {}."
WORDS = {"en": "table river house cloud paper garden winter bread letter stone", "ru": "стол река дом туча бумага сад"}


def pair(number: int) -> tuple[str, str]:
    """A pair that shares no run of twelve words with another."""
    one, other = (random.Random(number).choices(WORDS[code].split(), k=3) for code in ("en", "ru"))
    return f"{number} {' '.join(one)} {number} is here.", f"{number} {' '.join(other)} {number} тут."


@pytest.fixture
def build(tmp_path):
    """build(rows, test=rows, **settings): what was written; a row is (document, source, target)."""

    def call(rows, test=None, **settings):
        for name, given in (("train", rows), ("test", test or [])):
            lines = [
                json.dumps({"doc": row[0], "en": row[1], "ru": row[2]}) if len(row) == 3 else row[0] for row in given
            ]
            (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
        source = {"columns": {"document": "doc"}}
        settings = {
            "languages": {"source": "en", "target": "ru"},
            "data": [source | {"path": "train.jsonl"}],
        } | settings
        if test is not None:
            settings["test"] = [source | {"path": "test.jsonl"}]
        config = ParallelConfig.model_validate(settings)
        directory = tmp_path / "out"
        directory.mkdir(exist_ok=True)
        report = build_parallel(config, tmp_path, tmp_path / "cache", directory, Console())
        return ParallelText(directory), report

    return call


def test_every_pair_that_goes_has_its_reason(build, tmp_path):
    rows = [
        ("a", ENGLISH.format(1), RUSSIAN.format(1)),
        ("a", ENGLISH.format(2), ""),
        ("a", "LibreOffice Calc 7", "libreoffice  calc 7"),
        ("a", "Yes.", RUSSIAN.format(3)),
        ("a", ENGLISH.format(4), ENGLISH.format(5)),
        ("a", RUSSIAN.format(6), RUSSIAN.format(7)),
        ("a", "\x01\x02\x03", "три"),
        ("a", ENGLISH.format(8), RUSSIAN.format(8)),
    ]
    text, report = build(rows, test=[("t", *pair(1))])
    assert [segment.source for segment in text.segments("train")] == [ENGLISH.format(1), ENGLISH.format(8)]
    balance = report["sources"]["train.jsonl"]
    assert (balance["read"], balance["kept"]) == (8, 2)
    assert balance["dropped"] == {
        "empty target": 1, "identical sides": 1, "one side over 3 times as long": 1, "target in another language": 1,
        "source in another language": 1, "binary content in the source": 1,
    }  # fmt: skip
    drops = [json.loads(line) for line in (tmp_path / "out" / "drops.jsonl").read_text().splitlines()]
    assert [drop["where"] for drop in drops] == [f"train.jsonl:{line}" for line in (2, 3, 4, 5, 6, 7)]
    assert "train.jsonl: 8 pairs read, 2 kept" in report_lines(report)


@pytest.mark.parametrize(
    ("setting", "row"),
    [
        ("identical", ("Calc", "Calc")),
        ("max_ratio", ("Yes.", "Да, конечно, так и есть.")),
        ("wrong_language", (ENGLISH, ENGLISH.format(2))),
    ],
)
def test_each_check_can_be_turned_off(build, setting, row):
    rows = [("a", *row), ("b", *pair(1))]
    off = {"max_ratio": 100.0}.get(setting, False)
    assert build(rows, test=[("t", *pair(2))])[1]["sentences"]["train"] == 1
    assert build(rows, test=[("t", *pair(2))], hygiene={setting: off})[1]["sentences"]["train"] == 2


def test_what_stands_in_the_test_set_is_taken_out_and_counted(build):
    long = " ".join(f"word{number}" for number in range(20))
    test = [
        ("t", "It is raining today!", "Сегодня идёт дождь."),
        ("t", long + ".", "Много слов."),
        ("t", "Click OK.", "Да."),
    ]
    rows = [
        ("a", "it is raining, today", "Дождит."),  # the source, but for case and signs
        ("a", "Rain all the day.", "сегодня идёт дождь"),  # three words: too short to count
        ("a", "Before that " + " ".join(long.split()[3:15]), "Кусок."),  # twelve words in a row
        ("a", "Before that " + " ".join(long.split()[3:14]), "Кусок."),  # eleven
        ("a", "Click OK.", "Нажмите."),
    ]
    text, report = build(rows, test=test, hygiene={"wrong_language": False, "max_ratio": 100.0})
    assert [segment.where for segment in text.segments("train")] == [f"train.jsonl:{line}" for line in (2, 4, 5)]
    assert report["sentences"] == {"train": 3, "eval": 3, "overlap": 2}
    loose = {"wrong_language": False, "max_ratio": 100.0, "overlap": False}
    assert build(rows, test=test, hygiene=loose)[1]["sentences"]["train"] == 5
    strict = {"wrong_language": False, "max_ratio": 100.0, "overlap_words": 1}
    assert build(rows, test=test, hygiene=strict)[1]["sentences"]["train"] == 1


def test_overlap_in_a_language_without_spaces():
    held = HeldOut(LanguagesConfig(source="en", target="zh"), 4)
    held.add(Segment("d", 0, "One.", "今天天气很好。", "x:1"))
    assert held.holds(Segment("d", 0, "Two.", "今天天气很好！", "x:2"))
    assert not held.holds(Segment("d", 0, "Two.", "明天天气很好。", "x:2"))


def test_a_test_set_is_read_as_it_is(build):
    test = [("t", "Calc", "Calc"), ("t", "Yes.", RUSSIAN), ("t", ENGLISH, "")]
    text, report = build([("a", *pair(1))], test=test)
    assert [(segment.source, segment.target) for segment in text.segments("eval")] == [
        ("Calc", "Calc"),
        ("Yes.", RUSSIAN),
    ]
    assert report["sources"]["test.jsonl"]["dropped"] == {"empty target": 1}


def test_documents_are_held_out_whole_and_never_move(build):
    rows = [(f"d{number // 5}", *pair(number)) for number in range(500)]
    text, report = build(rows, held_out=0.2)
    held = {segment.document for segment in text.segments("eval")}
    kept = {segment.document for segment in text.segments("train")}
    assert not held & kept
    assert len(held | kept) == 100
    assert 10 <= len(held) <= 30  # 20 expected of 100, standard deviation 4
    assert sum(report["sentences"].values()) == 500
    again, _ = build(rows[100:], held_out=0.2)
    assert {segment.document for segment in again.segments("eval")} == held - {
        f"train.jsonl/train.jsonl#d{n}" for n in range(20)
    }


def test_too_many_malformed_rows_stop_the_run(build):
    rows = [("a", *pair(number)) for number in range(60)]
    rows[10:10] = [("{broken",), ('{"doc": "a", "en": "x"}',)]
    with pytest.raises(UserError) as error:
        build(rows, test=[("t", *pair(99))])
    letter = str(error.value).splitlines()
    assert letter[0].startswith("2 of 62 rows of `train.jsonl` cannot be read, more than `max_bad: 1.0%`")
    assert letter[1:] == ["train.jsonl:11  no JSON object", "train.jsonl:12  no text under `target` or `ru`"]
    _, report = build(rows, test=[("t", *pair(99))], hygiene={"max_bad": 0.05})
    assert report["sources"]["train.jsonl"]["malformed"] == 2


def test_letters_when_nothing_is_left(build):
    with pytest.raises(PolyanaError, match=r"left to train on: 1 identical sides"):
        build([("a", "x", "x")], test=[("t", *pair(1))])
    with pytest.raises(PolyanaError, match=r"no document fell to eval at `held_out: 2.0%`: name documents"):
        build([("a", *pair(1))])


def test_inputs_are_contents_and_mistakes_are_named_together(tmp_path):
    (tmp_path / "a.en").write_text("a\n")
    (tmp_path / "a.ru").write_text("а\n", encoding="utf-8")
    text = (
        "data: [{source: a.en, target: a.ru}, {path: none.tsv}]\n"
        "languages: {source: en, target: xx-what}\n"
        "unit: paragraph\n"
    )
    source = read_yaml_text(text, "recipe.yaml")
    config, problems = read_config(ParallelConfig, source.data, source, ())
    assert config is not None
    assert not problems
    digests = ContentDigests(tmp_path / "digests.json")
    with pytest.raises(UserError) as error:
        parallel_inputs(config, tmp_path, tmp_path / "cache", digests, lambda *path: source.where(path))
    letters = str(error.value).splitlines()
    assert any(letter.startswith("recipe.yaml:2  the detector of languages does not know `xx`") for letter in letters)
    assert any(letter.startswith("recipe.yaml:2  `xx-what` is no code of a language") for letter in letters)
    assert any(letter.startswith("recipe.yaml:1  `unit: paragraph`, but a.en does not say") for letter in letters)
    assert any(letter.startswith("recipe.yaml:1  `none.tsv` does not exist") for letter in letters)

    good = ParallelConfig.model_validate(
        {"data": [{"source": "a.en", "target": "a.ru"}], "languages": {"source": "en", "target": "ru"}}
    )
    before = parallel_inputs(good, tmp_path, tmp_path / "cache", digests, lambda *_: "")
    (tmp_path / "a.ru").write_text("бб\n", encoding="utf-8")
    assert parallel_inputs(good, tmp_path, tmp_path / "cache", digests, lambda *_: "") != before


def test_sentences_of_paragraphs():
    russian = "Это т.е. проверка и др. слова. «Нет?» — сказал он. См. рис. 5. Функция НОРМ.СТ.РАСП считает. Конец..."
    pieces = split_sentences(russian, "ru")
    assert " ".join(pieces) == russian
    assert "«Нет?» — сказал он." in pieces
    assert "Функция НОРМ.СТ.РАСП считает." in pieces
    assert split_sentences("今天天气很好。明天呢？", "zh") == ["今天天气很好。", "明天呢？"]
    one = Segment("d", 7, "First one. Second one.", "Первое. Второе.", "f:1", 0)
    other = Segment("d", 9, "Only one here.", "Одно. Два.", "f:2", 1)
    unknown = Segment("e", 3, "First one. Second one.", "Первое. Второе.", "f:3")
    cut = list(as_sentences([one, other, unknown], "en", "ru"))
    assert [(piece.number, piece.source, piece.target, piece.paragraph) for piece in cut] == [
        (0, "First one.", "Первое.", 0), (1, "Second one.", "Второе.", 0), (2, "Only one here.", "Одно. Два.", 1),
        (0, "First one. Second one.", "Первое. Второе.", None),
    ]  # fmt: skip


def letters(text: str) -> list[str]:
    source = read_yaml_text(text, "r.yaml")
    return [str(problem) for problem in read_config(ParallelConfig, source.data, source, ())[1]]


START = "languages: {source: en, target: ru}\n"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("data: [{source: a.en}]", "r.yaml:2  `target` is missing"),
        ("data: [{path: a.tsv, package: libreoffice-help}]", "write one of `{source: a.en, target: a.ru}`"),
        ("data: [{package: libreofice-help}]", "did you mean `libreoffice-help`?"),
        ("data: [{path: a.tsv, format: html}]", "`format: html` has a file of each language"),
        ("data: [{source: a, target: b, format: tmx}]", "a tmx file holds both languages; write it as `path: ...`"),
        ("data: [{source: a, target: b, columns: {source: x}}]", "`columns` is for files that hold both languages"),
        ("data: [{path: a.tsv, columns: {source: 1, target: b}}]", "a file has a header or it has none"),
        ("data: [{path: a.tsv, columns: {source: 0, target: 1}}]", "columns are numbered from 1"),
        ("data: [{path: a.tsv, document: blank_line}]", "`document: blank_line` is for two files of lines"),
        ("data: [{path: a.tsv, check_alignment: false}]", "`check_alignment` is for two files of lines"),
        ("data: [{path: a.tmx, format: tmx, encoding: cp1251}]", "a tmx file says its encoding itself"),
        ("data: [{path: a.tsv, encoding: utf-9}]", "`utf-9` is no encoding that Python knows"),
        ("data: [{path: a.tsv}, {path: a.tsv}]", "two sources are called `a.tsv`"),
        ("data: [{path: a.tsv}]\nheld_out: 0", "r.yaml:3  there is nothing to evaluate on"),
        ("data: [{path: a.tsv}]\nunit: {kind: chunk, max_sentences: 5}", "5` is below `min_sentences: 10`"),
        ("data: [{path: a.tsv}]\nunit: [sentence, {kind: sentence, context: 2}]", "`sentence` stands in the mix twice"),
        ("data: [{path: a.tsv}]\nunit: sentense", "`sentense` is not known; did you mean `sentence`?"),
        ("data: [{path: a.tsv}]\nprompt: {kind: chat, instruction: Translate}", "should hold {text} once"),
        ("data: [{path: a.tsv}]\nprompt: {kind: tags, tag: '<2ru>'}", "`tag` should hold {language} once"),
    ],
)  # fmt: skip
def test_letters_about_a_recipe(text, letter):
    found = letters(START + text)
    assert any(letter in one for one in found), found


def test_two_languages_are_two():
    assert letters("languages: {source: en, target: en}\ndata: [{path: a.tsv}]") == [
        "r.yaml:1  `target: en` is the source language too; name two languages"
    ]
