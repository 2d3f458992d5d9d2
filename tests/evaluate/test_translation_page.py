from html.parser import HTMLParser

import pytest

from polyana.evaluate import Translation, compare_translations, score_translations, write_translation_page

pytest.importorskip("sacrebleu")
pytest.importorskip("snowballstemmer")

NASTY = '<script>alert("x")</script> & <img src=x onerror=alert(1)> \'"'
VOID = {"meta", "input"}


class Reader(HTMLParser):
    """The page as a browser reads it: which elements, which texts in which."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[tuple[str, str]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture
def written(tmp_path):
    def write(rows, *others, **options) -> str:
        systems = {name: (each, score_translations(each, "en", "ru"))
                   for name, each in zip(("new<", "old"), (rows, *others), strict=False)}  # fmt: skip
        path = tmp_path / "page.html"
        write_translation_page(path, NASTY, ("en", "ru"), systems, **options)
        return path.read_text(encoding="utf-8")

    return write


ROWS = [
    Translation("d&1", "One", "Совсем верно сказано", "Совсем верно сказано"),
    Translation("d&1", NASTY, NASTY + " конец", NASTY),
    Translation("d2", "Three", "Ничего общего здесь нет", "zzz"),
]


def test_text_is_shown_as_it_is_and_never_run(written):
    reader = read(written(ROWS))
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert not [tag for tag, _ in reader.tags if tag == "img"]
    assert "".join(text for tag, text in reader.texts if tag == "p").count(NASTY) == 3  # source, reference, translation
    assert ("h1", NASTY) in reader.texts


def test_the_page_asks_for_nothing_from_outside(written):
    page = written(ROWS)
    assert not [tag for tag, attributes in read(page).tags if attributes.keys() & {"src", "href", "srcset", "action"}]
    assert "@import" not in page
    assert "url(" not in page


def test_the_worst_come_first_and_differences_are_marked(written):
    reader = read(written(ROWS))
    order = [int(attributes["data-place"]) for tag, attributes in reader.tags if tag == "article"]
    assert order == [2, 1, 0]
    assert ("mark", "zzz") in reader.texts
    assert ("del", "Ничего общего здесь нет") in reader.texts
    assert ("p", "Совсем верно сказано") in reader.texts


def test_only_so_many_of_the_worst(written):
    page = written(ROWS, most=1)
    assert page.count("<article") == 1
    assert "The 1 worst segments" in page
    assert 'data-place="2"' in page


def test_two_systems_stand_side_by_side_with_what_chance_could_do(written):
    old = [Translation(each.document, each.source, each.reference, "") for each in ROWS]
    page = written(ROWS, old, comparisons=compare_translations(old, ROWS, "ru", samples=20))
    reader = read(page)
    assert [text for tag, text in reader.texts if tag == "span"].count("(nothing)") == 3
    gains = {attributes["data-place"]: float(attributes["data-gain"]) for tag, attributes in reader.tags
             if tag == "article"}  # fmt: skip
    assert gains["0"] == pytest.approx(100)
    assert "bs:20|seed:12345" in page
    assert "By chance?" in page


def test_what_cannot_be_encoded_is_still_written(written):
    assert "a?b" in written([Translation("d", "x", "y", "a\ud800b")])
