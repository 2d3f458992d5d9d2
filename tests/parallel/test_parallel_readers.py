"""Aligned files of every form to segments; what is not aligned is named with its line."""

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from polyana.errors import UserError
from polyana.parallel import LanguagesConfig, ParallelSource, Rejected, Segment, read_source

LANGUAGES = LanguagesConfig(source="en", target="ru")
HELP = Path(__file__).parents[3] / "shared" / "data" / "libreoffice_help_en_ru"


@pytest.fixture
def read(tmp_path):
    """read(**source): the segments and what was rejected."""

    def call(**settings):
        source = ParallelSource(**settings)
        assert not list(source.problems())
        items = list(read_source(source, LANGUAGES, tmp_path, tmp_path / "cache"))
        segments = [item for item in items if isinstance(item, Segment)]
        return segments, [item for item in items if isinstance(item, Rejected)]

    return call


def texts(segments):
    return [(segment.source, segment.target) for segment in segments]


def test_two_files_of_lines(tmp_path, read):
    (tmp_path / "a.en").write_bytes("\ufeffOne.\r\nTwo\u2028still two.\nThree.".encode())
    with gzip.open(tmp_path / "a.ru.gz", "wb") as file:
        file.write("Раз.\nДва\x85всё ещё два.\nТри.\n".encode())
    segments, _ = read(source="a.en", target="a.ru.gz")
    # only \n and \r\n end a line: what Python's splitlines takes for line ends would shift all lines after it
    assert texts(segments) == [("One.", "Раз."), ("Two still two.", "Два всё ещё два."), ("Three.", "Три.")]
    assert [segment.where for segment in segments] == ["a.en:1", "a.en:2", "a.en:3"]
    assert {segment.document for segment in segments} == {"a.en/a.en"}
    assert [segment.paragraph for segment in segments] == [None] * 3


def test_blank_lines_end_documents_or_paragraphs(tmp_path, read):
    (tmp_path / "a.en").write_text("1\n2\n\n\n3\n")
    (tmp_path / "a.ru").write_text("а\nб\n\n\nв\n", encoding="utf-8")
    segments, _ = read(source="a.en", target="a.ru", document="blank_line")
    assert [(segment.document, segment.number) for segment in segments] == [
        ("a.en/a.en#1", 0), ("a.en/a.en#1", 1), ("a.en/a.en#2", 0),
    ]  # fmt: skip
    segments, _ = read(source="a.en", target="a.ru", paragraph="blank_line")
    assert [(segment.document, segment.number, segment.paragraph) for segment in segments] == [
        ("a.en/a.en", 0, 0), ("a.en/a.en", 1, 0), ("a.en/a.en", 2, 1),
    ]  # fmt: skip
    segments, _ = read(source="a.en", target="a.ru", document="line")
    assert [segment.document for segment in segments] == ["a.en/a.en#1", "a.en/a.en#2", "a.en/a.en#5"]


def sentences(count: int) -> list[str]:
    """Lines of uneven lengths, as prose has."""
    return ["word " * (1 + number * 7 % 23) + str(number) for number in range(count)]


@pytest.mark.parametrize(("lost", "shorter", "longer"), [("ru", "a.ru", "a.en"), ("en", "a.en", "a.ru")])
def test_an_unaligned_pair_is_named_with_the_line(tmp_path, read, lost, shorter, longer):
    for language in ("en", "ru"):
        lines = sentences(100)
        if language == lost:
            del lines[60]
        (tmp_path / f"a.{language}").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError) as error:
        read(source="a.en", target="a.ru")
    letter = str(error.value)
    assert letter.startswith(f"{shorter}:61  has 99 lines and {longer} 100: they are not aligned")
    assert f"{longer} has 1 line too many at line 61" in letter


def test_a_file_that_ends_early(tmp_path, read):
    (tmp_path / "a.en").write_text("\n".join(sentences(100)))
    (tmp_path / "a.ru").write_text("\n".join(sentences(90)))
    with pytest.raises(UserError, match=r"a\.ru:91  has 90 lines .* agree to the end of the shorter one"):
        read(source="a.en", target="a.ru")


@pytest.mark.parametrize(("lost", "more", "way"), [(300, 600, "1 line further up"), (600, 300, "1 line further down")])
def test_a_shift_between_files_of_one_length_is_named(tmp_path, read, lost, more, way):
    lines = sentences(1000)
    theirs = [line for number, line in enumerate(lines) if number != lost]
    theirs.insert(more, "one more here")
    (tmp_path / "a.en").write_text("\n".join(lines))
    (tmp_path / "a.ru").write_text("\n".join(theirs))
    with pytest.raises(UserError, match=rf"a\.en:[45]00  .* {way}"):
        read(source="a.en", target="a.ru")
    assert len(read(source="a.en", target="a.ru", check_alignment=False)[0]) == 1000
    (tmp_path / "a.ru").write_text("\n".join(theirs[:-20]))  # of files of different lengths the place is found
    with pytest.raises(UserError, match=r"a\.ru:\d+  has 980 lines and a\.en 1,000"):
        read(source="a.en", target="a.ru")


@pytest.mark.skipif(not HELP.exists(), reason="no shared data: libreoffice_help_en_ru")
def test_shifts_in_real_text(tmp_path, read):
    pairs = list(pairs_of().values())
    sides = [[side.replace("\n", " ") for side in texts] for texts in zip(*pairs, strict=True)]
    (tmp_path / "a.en").write_text("\n".join(sides[0]), encoding="utf-8")
    (tmp_path / "a.ru").write_text("\n".join(sides[1]), encoding="utf-8")
    assert len(read(source="a.en", target="a.ru")[0]) == len(pairs)  # no false alarm in 359 blocks
    for start in range(0, 30_000, 3_000):
        (tmp_path / "b.en").write_text("\n".join(sides[0][start : start + 400]), encoding="utf-8")
        shifted = [*sides[1][start : start + 100], *sides[1][start + 101 : start + 401]]
        (tmp_path / "b.ru").write_text("\n".join(shifted), encoding="utf-8")
        with pytest.raises(UserError, match=r"b\.en:[234]00  .*1 line further up"):
            read(source="b.en", target="b.ru")


def test_an_empty_file_beside_a_full_one(tmp_path, read):
    (tmp_path / "a.en").write_text("a\nb\n")
    (tmp_path / "a.ru").write_text("")
    with pytest.raises(UserError, match=r"a\.ru:1  has 0 lines and a\.en 2"):
        read(source="a.en", target="a.ru")


def test_directories_pair_files_by_name(tmp_path, read):
    for language, names in {"en": ["x.en.txt", "sub/y.txt", "only.txt"], "ru": ["x.ru.txt", "sub/y.txt"]}.items():
        for name in names:
            path = tmp_path / language / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{language} {name}\n")
    segments, rejected = read(source="en", target="ru")
    assert [(segment.document, segment.where) for segment in segments] == [
        ("en/sub/y.txt", "en/sub/y.txt:1"), ("en/x.txt", "en/x.en.txt:1"),
    ]  # fmt: skip
    assert [(item.where, item.reason) for item in rejected] == [
        ("en/only.txt", "no file of its name on the other side")
    ]


def test_two_files_of_one_name_are_not_guessed_at(tmp_path, read):
    for name in ("en/a.en.txt", "en/a.txt", "ru/a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a\n")
    with pytest.raises(UserError, match="have one name but for the language's code"):
        read(source="en", target="ru")


@pytest.mark.parametrize("format_", ["lines", "tsv", "jsonl", "html"])
def test_an_encoding_that_is_given_is_used(tmp_path, read, format_):
    """KOI8-R read as CP1251 is other letters: what is given counts, not what a detector would say."""
    text = "мир"
    rows = {
        "lines": text, "tsv": f"peace\t{text}", "jsonl": json.dumps({"en": "peace", "ru": text}, ensure_ascii=False),
        "html": f"<p id=a>{text}</p>",
    }  # fmt: skip
    (tmp_path / "a.ru").write_bytes(rows[format_].encode("koi8-r"))
    (tmp_path / "a.en").write_text("<p id=a>peace</p>" if format_ == "html" else "peace")
    files = {"source": "a.en", "target": "a.ru"} if format_ in ("lines", "html") else {"path": "a.ru"}
    for encoding in ("koi8-r", "cp1251"):
        found = texts(read(**files, format=format_, encoding=encoding)[0])
        assert found == [("peace", text.encode("koi8-r").decode(encoding))]


def test_tsv_with_and_without_a_header(tmp_path, read):
    (tmp_path / "plain.tsv").write_text('He said "no.\tОн сказал «нет».\nonly one\n', encoding="utf-8")
    segments, rejected = read(path="plain.tsv")
    assert texts(segments) == [('He said "no.', "Он сказал «нет».")]
    assert rejected == [Rejected("plain.tsv:2", "1 columns, not 2", malformed=True)]
    (tmp_path / "named.tsv").write_text("doc\tRU\ten\nd1\tа\ta\nd1\tб\tb\nd2\tв\tc\n", encoding="utf-8")
    segments, _ = read(path="named.tsv", columns={"document": "doc"})
    assert [(segment.document, segment.source, segment.target, segment.where) for segment in segments] == [
        ("named.tsv/named.tsv#d1", "a", "а", "named.tsv:2"),
        ("named.tsv/named.tsv#d1", "b", "б", "named.tsv:3"),
        ("named.tsv/named.tsv#d2", "c", "в", "named.tsv:4"),
    ]
    (tmp_path / "numbers.tsv").write_text("0.9\ta\tа\n", encoding="utf-8")
    assert texts(read(path="numbers.tsv", columns={"source": 2, "target": 3})[0]) == [("a", "а")]


def test_csv_names_the_line_a_row_begins_in(tmp_path, read):
    (tmp_path / "a.csv").write_text(
        'source,target,part\n"two\nlines","две\nстроки",1\nb,б,1\nc,в,2\n', encoding="utf-8"
    )
    segments, _ = read(path="a.csv", columns={"paragraph": "part"})
    assert [(segment.source, segment.where, segment.paragraph) for segment in segments] == [
        ("two lines", "a.csv:2", 0), ("b", "a.csv:5", 0), ("c", "a.csv:6", 1),
    ]  # fmt: skip


def test_a_missing_column_is_named_with_those_there_are(tmp_path, read):
    (tmp_path / "a.tsv").write_text("english\trussian\na\tа\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.tsv:1  there is no column `ru`; the first line has: english, russian"):
        read(path="a.tsv", columns={"source": "english", "target": "ru"})


def test_jsonl(tmp_path, read):
    rows = [
        {"doc": "x", "en": "a", "ru": "а"},
        {"doc": "x", "translation": {"en": "b", "ru": "б"}},
        {"doc": "y", "en": "c"},
        {"doc": 7, "en": "d", "ru": "г"},
        {"dok": 7, "en": "d", "ru": "г"},
    ]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines[:2], "{broken", *lines[2:]]))
    segments, rejected = read(path="*.jsonl", columns={"document": "doc"})
    assert [(segment.document, segment.number, segment.source, segment.target) for segment in segments] == [
        ("files/a.jsonl#x", 0, "a", "а"), ("files/a.jsonl#x", 1, "b", "б"), ("files/a.jsonl#7", 0, "d", "г"),
    ]  # fmt: skip
    assert [(item.where, item.reason) for item in rejected] == [
        ("a.jsonl:3", "no JSON object"), ("a.jsonl:4", "no text under `target` or `ru`"), ("a.jsonl:6", "no key `doc`"),
    ]  # fmt: skip


def test_rows_of_a_document_stand_together(tmp_path, read):
    rows = [{"doc": name, "en": "a", "ru": "а"} for name in "xyx"]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(UserError, match=r"a\.jsonl:3  document `x` began further up"):
        read(path="a.jsonl", columns={"document": "doc"})


TMX = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en"/><body>
<tu><prop type="file">one</prop>
  <tuv xml:lang="EN-US">
  <seg>Press <bpt i="1">&lt;b&gt;</bpt>Enter<ept i="1">&lt;/b&gt;</ept> <hi>now</hi> &amp;
  wait<ph>{x}</ph>.</seg></tuv>
  <tuv xml:lang="ru"><seg>Нажмите Enter.</seg></tuv>
  <tuv xml:lang="de"><seg>Drücken.</seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>Alone</seg></tuv></tu>
<tu><prop type="file">two</prop><tuv xml:lang="en"><seg>b</seg></tuv><tuv xml:lang="ru"><seg>б</seg></tuv></tu>
"""


def test_tmx(tmp_path, read):
    (tmp_path / "a.tmx").write_text(TMX + "</body></tmx>", encoding="utf-8")
    segments, rejected = read(path="a.tmx", columns={"document": "file"})
    assert texts(segments) == [("Press Enter now & wait.", "Нажмите Enter."), ("b", "б")]
    assert [(segment.document, segment.where) for segment in segments] == [
        ("a.tmx/a.tmx#one", "a.tmx:4"), ("a.tmx/a.tmx#two", "a.tmx:11"),
    ]  # fmt: skip
    assert rejected == [Rejected("a.tmx:10", "no `ru` in it")]


def test_a_prop_that_no_unit_has(tmp_path, read):
    (tmp_path / "a.tmx").write_text(TMX + "</body></tmx>", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.tmx  no unit has a `prop` of type `document`; there are: `file`"):
        read(path="a.tmx", columns={"document": "document"})


def test_tmx_in_utf_16(tmp_path, read):
    text = TMX.replace('encoding="utf-8"', 'encoding="utf-16"') + "</body></tmx>"
    (tmp_path / "a.tmx").write_bytes(text.encode("utf-16"))
    assert len(read(path="a.tmx")[0]) == 2


def test_a_tmx_that_breaks_off_is_named_with_the_line(tmp_path, read):
    (tmp_path / "a.tmx").write_text(TMX + "<tu><tuv></wrong>", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.tmx:12  is no whole TMX: mismatched tag"):
        read(path="a.tmx")


def test_an_entity_of_a_tmx_reads_no_file(tmp_path, read):
    (tmp_path / "secret").write_text("secret")
    text = TMX.replace('SYSTEM "tmx14.dtd"', f'[<!ENTITY x SYSTEM "{tmp_path / "secret"}">]').replace("Alone", "&x;")
    (tmp_path / "a.tmx").write_text(text.replace("<seg>b<", "<seg>b&x;<") + "</body></tmx>", encoding="utf-8")
    assert texts(read(path="a.tmx")[0])[1] == ("b", "б")


PO = r"""
msgid ""
msgstr ""
"Content-Type: text/plain; charset=KOI8-R\n"
"Language: ru\n"
"Plural-Forms: nplurals=3; plural=(n%10==1 ? 0 : 1);\n"

#: guide/one.rst:3
msgid "Open "
"the file."
msgstr "Откройте файл."

#: guide/two.rst:9
msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d файл"
msgstr[1] "%d файла"
msgstr[2] "%d файлов"

#: guide/one.rst:8
#, fuzzy
msgid "Save."
msgstr "Закройте."

msgid "Later."
msgstr ""

#~ msgid "Gone."
#~ msgstr "Нет."
"""


def test_po(tmp_path, read):
    pytest.importorskip("babel")
    (tmp_path / "ru.po").write_bytes(PO.encode("koi8-r"))
    segments, rejected = read(path="ru.po")
    assert [(segment.document, segment.source, segment.target, segment.where) for segment in segments] == [
        ("ru.po/ru.po#guide/one.rst", "Open the file.", "Откройте файл.", "ru.po:9"),
        ("ru.po/ru.po#guide/two.rst", "%d file", "%d файл", "ru.po:14"),
    ]
    assert sorted((item.reason, item.source) for item in rejected) == [
        ("marked fuzzy", "Save."),
        ("not translated", "Later."),
    ]
    (tmp_path / "ru.po").write_bytes(PO.replace("Language: ru", "Language: de").encode("koi8-r"))
    with pytest.raises(UserError, match="its translations are `de` by its header, not `ru`"):
        read(path="ru.po")
    (tmp_path / "ru.po").write_bytes(PO.replace('msgid "Later."', "<<<<<<< ours").encode("koi8-r"))
    with pytest.raises(UserError, match=r"ru\.po:2\d  is no PO"):
        read(path="ru.po")


def test_html_by_paragraph_id(tmp_path, read):
    (tmp_path / "a.html").write_text(
        "<body><nav><p>Menu</p></nav><h1 id=h><a name=x></a>A\n title</h1><li id=l><p id=p>Inner <b>text</b></p></li>"
        "<p id=p>again</p><p id=only>x</p></body>"
    )
    (tmp_path / "b.html").write_text("<body><p id=p>Текст</p><h1 id=h>Название</h1></body>", encoding="utf-8")
    segments, rejected = read(source="a.html", target="b.html")
    assert texts(segments) == [("A title", "Название"), ("Inner text", "Текст")]
    assert [segment.paragraph for segment in segments] == [0, 1]
    assert [(item.where, item.reason) for item in rejected] == [
        ("a.html#p", "its id stands twice in the page"),
        ("a.html#only", "no paragraph of its id on the other side"),
    ]


def pairs_of(documents: set[str] | None = None) -> dict[tuple[str, str], tuple[str, str]]:
    """(document, paragraph id) -> (English, Russian), extracted by others with another parser."""
    with gzip.open(HELP / "pairs.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = map(json.loads, lines)
        return {
            (row["doc"], row["id"]): (row["en"], row["ru"]) for row in rows if not documents or row["doc"] in documents
        }


@pytest.mark.skipif(not HELP.exists(), reason="no shared data: libreoffice_help_en_ru")
def test_raw_pages_of_libreoffice_against_the_pairs_made_of_them(tmp_path, read):
    source, target = HELP / "html_en", HELP / "html_ru"
    segments, _ = read(source=str(source), target=str(target), format="html")
    found = {
        (segment.document.partition("/")[2].replace("__", "/"), segment.where.partition("#")[2]): segment
        for segment in segments
    }
    wanted = pairs_of({name.name.replace("__", "/") for name in source.iterdir()})
    assert len(wanted) == 1570
    assert {place: (found[place].source, found[place].target) for place in wanted} == wanted
    # they left out what has no Russian letters
    more = [segment for place, segment in found.items() if place not in wanted and segment.source != segment.target]
    assert not any("а" <= letter <= "я" for segment in more for letter in segment.target.lower())


@pytest.mark.parametrize("cut", [0.5, 0.99])
def test_a_damaged_file_is_named(tmp_path, read, cut):
    data = gzip.compress("\n".join(sentences(100)).encode())
    (tmp_path / "a.en.gz").write_bytes(data[: int(len(data) * cut)])
    (tmp_path / "a.ru").write_text("\n".join(sentences(100)))
    with pytest.raises(UserError, match=r"a\.en\.gz and a\.ru  cannot be read to its end"):
        read(source="a.en.gz", target="a.ru")


def test_letters_about_files(tmp_path, read):
    (tmp_path / "a.en").write_text("a\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"`a\.ru` does not exist"):
        read(source="a.en", target="a.ru")
    with pytest.raises(UserError, match="is a file and the other a directory"):
        read(source="a.en", target="empty")
    with pytest.raises(UserError, match=r"its ending does not say how it holds two languages"):
        read(path="a.en")
    with pytest.raises(UserError, match=r"`empty` holds no file that can be read"):
        read(path="empty")
    with pytest.raises(UserError, match=r"`\*\.tmx` matches no file"):
        read(path="*.tmx")


# Packages


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """A stand-in for apt-get that finds packages of two pages, packed by the real dpkg-deb; the calls it has had."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb here")
    archives = tmp_path / "archives"
    archives.mkdir()
    for package, code, text in (("en-us", "en-US", "Cell"), ("ru", "ru", "Ячейка")):
        root = tmp_path / package
        page = root / "usr" / "share" / "libreoffice" / "help" / code / "text" / "scalc" / "a.html"
        page.parent.mkdir(parents=True)
        page.write_text(f"<p id=x>{text}</p>", encoding="utf-8")
        (root / "DEBIAN").mkdir()
        (root / "DEBIAN" / "control").write_text(
            f"Package: libreoffice-help-{package}\nVersion: 4:7.4-1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
        )
        root.chmod(0o755)
        archive = archives / f"libreoffice-help-{package}_4%3a7.4-1_all.deb"
        subprocess.run(["dpkg-deb", "-b", root, archive], check=True, capture_output=True)
    calls = tmp_path / "calls"
    calls.touch()
    tool = tmp_path / "bin" / "apt-get"
    tool.parent.mkdir()
    tool.write_text(
        f'#!/bin/sh\necho "$@" >> {calls}\ncp {archives}/"$2"_* . 2>/dev/null && exit 0\n'
        'echo "E: Unable to locate package $2" >&2\nexit 100\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    return calls


def test_help_is_fetched_once_and_unpacked(apt, read):
    for _ in range(2):
        segments, _ = read(package="libreoffice-help")
        assert [(segment.document, segment.source, segment.target, segment.where) for segment in segments] == [
            ("libreoffice-help/scalc/a.html", "Cell", "Ячейка", "en/scalc/a.html#x")
        ]
    assert apt.read_text().splitlines() == ["download libreoffice-help-en-us", "download libreoffice-help-ru"]


def test_a_language_without_help(apt, tmp_path):
    source = ParallelSource(package="libreoffice-help")
    with pytest.raises(UserError, match="knows no package `libreoffice-help-tlh`"):
        list(read_source(source, LanguagesConfig(source="en", target="tlh"), tmp_path, tmp_path / "cache"))


def test_without_apt_the_letter_says_what_to_do(read, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UserError, match=r"no apt-get and no dpkg-deb here.*Debian and Ubuntu; elsewhere unpack"
    ) as error:
        read(package="libreoffice-help")
    assert "{source: DIRECTORY/en-US/text, target: DIRECTORY/ru/text}" in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif(not HELP.exists(), reason="no shared data: libreoffice_help_en_ru")
def test_the_real_help_has_all_pairs(read, tmp_path):
    if shutil.which("apt-get") is None:
        pytest.skip("no apt-get here")
    segments, _ = read(package="libreoffice-help")
    found = {
        (segment.document.partition("/")[2], segment.where.partition("#")[2]): (segment.source, segment.target)
        for segment in segments
    }
    wanted = pairs_of()
    same = sum(found.get(place) == pair for place, pair in wanted.items())
    assert same > 0.95 * len(wanted)  # all of them in version 7.4.7; pages change with versions
