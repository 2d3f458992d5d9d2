"""WARC, EPUB and PDF, made here byte by byte, become the text that was put in."""

import base64
import gzip
import zipfile

import pytest
import zstandard

from polyana.corpus import Document, SourceConfig, read_source
from polyana.corpus.document import Dropped
from polyana.corpus.readers import markup

PAGE = "<html><body><nav><a href='/'>Меню</a></nav><main><p>{}</p></main><footer>Все права</footer></body></html>"


def read(base, path, **settings):
    return list(read_source(SourceConfig(path=path, **{"max_damaged": 1.0} | settings), base))


# ---- WARC


def response(number, body, kind="text/html; charset=utf-8", status="200 OK", headers=""):
    """One record as crawlers write it."""
    http = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{headers}\r\n".encode() + body
    return (
        "WARC/1.0\r\nWARC-Type: response\r\n"
        f"WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-{number:012}>\r\n"
        f"WARC-Target-URI: https://example.org/{number}\r\nWARC-Date: 2024-05-18T01:58:{number:02}Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    ).encode() + http + b"\r\n\r\n"  # fmt: skip


def info():
    return b"WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 5\r\n\r\nhello\r\n\r\n"


def identifier(name, number, record=None):
    return f"{name}/{name}#{number} 2024-05-18T01:58:{record or number:02}Z https://example.org/{record or number}"


def chunked(body):
    return b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (10, body[:10], len(body) - 10, body[10:])


@pytest.mark.parametrize("packed", ["", ".gz", ".zst", ".bz2", ".xz"])
def test_the_pages_of_a_warc_by_their_number_time_and_address(tmp_path, packed):
    import bz2
    import lzma

    compress = {
        "": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress, ".bz2": bz2.compress,
        ".xz": lzma.compress,
    }[packed]  # fmt: skip
    name = f"a.warc{packed}"
    pages = [response(number, PAGE.format(f"Страница {number}").encode()) for number in (2, 3, 4)]
    (tmp_path / name).write_bytes(b"".join(compress(record) for record in [info(), *pages]))  # one by one
    assert read(tmp_path, name) == [Document(identifier(name, n), f"Страница {n}") for n in (2, 3, 4)]


@pytest.mark.parametrize(
    ("sent", "kind", "meta"),
    [
        ("cp1251", "text/html; charset=windows-1251", ""),
        ("koi8-r", "text/html;charset=KOI8-R", ""),
        ("cp1251", "text/html", "<meta charset=windows-1251>"),
        ("cp1251", "text/html; charset=utf-8", "<meta http-equiv=Content-Type content='text/html; charset=cp1251'>"),
        ("utf-8", "text/html; charset=windows-1251", ""),  # what is UTF-8 is read as UTF-8, whatever is said
        ("utf-16", "text/html", ""),
    ],
)
def test_the_encoding_is_what_the_bytes_the_headers_or_the_page_say(tmp_path, sent, kind, meta):
    page = PAGE.replace("<body>", meta + "<body>").format("Я ё")  # too short to guess from
    (tmp_path / "a.warc").write_bytes(response(1, page.encode(sent), kind))
    assert [item.text for item in read(tmp_path, "a.warc")] == ["Я ё"]


def test_packed_and_chunked_bodies_are_unpacked(tmp_path):
    body = PAGE.format("Текст").encode()
    (tmp_path / "a.warc").write_bytes(
        response(1, gzip.compress(body), headers="Content-Encoding: gzip\r\n")
        + response(2, chunked(body), headers="Transfer-Encoding: chunked\r\n")
        + response(3, chunked(gzip.compress(body)), headers="Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n")
    )
    assert [item.text for item in read(tmp_path, "a.warc")] == ["Текст"] * 3


def test_what_is_no_page_is_dropped_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(markup, "_RESPONSE", 1 << 20)
    (tmp_path / "a.warc").write_bytes(
        response(1, b"\x89PNG", "image/png")
        + response(2, b"<p>gone</p>", status="404 Not Found")
        + response(3, b"<p>cut", headers="Content-Encoding: gzip\r\n")
        + response(4, gzip.compress(bytes(1 << 22)), headers="Content-Encoding: gzip\r\n")
        + response(5, bytes(1 << 21))
        + response(6, PAGE.format("kept").encode(), "application/xhtml+xml")
    )
    found = read(tmp_path, "a.warc")
    assert [item.reason for item in found[:-1]] == [
        "a response that is no HTML", "a response of status 404", "broken HTTP", "a response of more than 1 MiB",
        "a response of more than 1 MiB",
    ]  # fmt: skip
    assert found[-1] == Document(identifier("a.warc", 6), "kept")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("cut", [3, 100, 400])
def test_a_warc_that_is_cut_keeps_the_pages_before(tmp_path, packed, cut):
    records = [response(number, PAGE.format(f"Страница {number} " * 20).encode()) for number in range(1, 30)]
    name = "a.warc.gz" if packed else "a.warc"
    content = b"".join(map(gzip.compress, records)) if packed else b"".join(records)[:-4]
    (tmp_path / name).write_bytes(content[:-cut])
    *kept, damage = read(tmp_path, name)
    assert [item.id for item in kept] == [identifier(name, number) for number in range(1, len(kept) + 1)]
    assert len(kept) >= 27
    assert damage == Dropped(f"{name}/{name}", "damaged file", len(content) - cut)


def test_a_file_that_is_no_warc_is_damaged(tmp_path):
    (tmp_path / "a.warc").write_bytes(b"no warc at all\r\n" * 10)
    assert [item.reason for item in read(tmp_path, "a.warc")] == ["damaged file"]


# ---- EPUB


def epub(path, chapters, *, folder="OEBPS/", order=None, more=None, method=zipfile.ZIP_DEFLATED):
    """A book whose files lie in another order than they are read in."""
    names = list(chapters)
    items = "".join(
        f'<item id="i{n}" href="{name.replace(" ", "%20")}" media-type="application/xhtml+xml"/>'
        for n, name in enumerate(names)
    )
    spine = "".join(f'<itemref idref="i{n}"/>' for n in (order or range(len(names))))
    with zipfile.ZipFile(path, "w", method) as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            f'<rootfile full-path="{folder}content.opf"/></rootfiles></container>',
        )
        book.writestr(
            f"{folder}content.opf",
            '<package xmlns="http://www.idpf.org/2007/opf"><manifest>'
            '<item id="css" href="a.css" media-type="text/css"/>'
            '<item id="toc" href="toc.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
            f'{items}</manifest><spine><itemref idref="toc"/>{spine}</spine></package>',
        )
        book.writestr(f"{folder}toc.xhtml", "<html><body><ol><li>Contents</li></ol></body></html>")
        for name, text in chapters.items():
            book.writestr(f"{folder}{name}", text)
        for name, text in (more or {}).items():
            book.writestr(name, text)


def chapter(number, text):
    return (
        f'<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head>'
        f'<body><a id="x"/><h1>Глава {number}</h1><p>{text}</p></body></html>'
    ).encode()


BOOK = {"b.xhtml": chapter(2, "Вторая."), "deep/a b.xhtml": chapter(1, "Первая."), "c.xhtml": chapter(3, "Третья.")}
CHAPTERS = ["Глава 1\n\nПервая.", "Глава 2\n\nВторая.", "Глава 3\n\nТретья."]


@pytest.mark.parametrize("folder", ["", "OEBPS/"])
def test_a_book_is_read_in_its_order(tmp_path, folder):
    epub(tmp_path / "a.epub", BOOK, folder=folder, order=[1, 0, 2])
    assert read(tmp_path, "a.epub") == [Document("a.epub/a.epub", "\n\n".join(CHAPTERS))]
    chapters = read(tmp_path, "a.epub", document="chapter")
    assert chapters == [Document(f"a.epub/a.epub#{number}", text) for number, text in enumerate(CHAPTERS, 1)]
    paragraphs = read(tmp_path, "a.epub", document="paragraph")
    assert [item.text for item in paragraphs] == "\n\n".join(CHAPTERS).split("\n\n")


def test_an_epub_that_cannot_be_read_says_why(tmp_path):
    with zipfile.ZipFile(tmp_path / "1-no-book.epub", "w") as archive:
        archive.writestr("a.txt", "text")
    (tmp_path / "2-no-zip.epub").write_bytes(b"no zip")
    epub(tmp_path / "3-whole.epub", BOOK)
    (tmp_path / "4-cut.epub").write_bytes((tmp_path / "3-whole.epub").read_bytes()[:-200])
    locked = '<encryption xmlns:e="e"><e:CipherReference URI="OEBPS/b.xhtml"/></encryption>'
    epub(tmp_path / "5-locked.epub", BOOK, more={"META-INF/encryption.xml": locked})
    fonts = '<encryption xmlns:e="e"><e:CipherReference URI="OEBPS/font.otf"/></encryption>'
    epub(tmp_path / "6-fonts.epub", BOOK, more={"META-INF/encryption.xml": fonts})
    missing = {name: text for name, text in BOOK.items() if name != "c.xhtml"}
    epub(tmp_path / "7-missing.epub", missing)
    content = (tmp_path / "7-missing.epub").read_bytes().replace(b"b.xhtml", b"x.xhtml")  # not in the packed package
    (tmp_path / "7-missing.epub").write_bytes(content)
    broken = "<package"
    with zipfile.ZipFile(tmp_path / "8-broken.epub", "w") as archive:
        archive.writestr("META-INF/container.xml", broken)
    assert [(item.id[2:3], getattr(item, "reason", "kept")) for item in read(tmp_path, "*.epub", name="s")] == [
        ("1", "damaged file"), ("2", "damaged file"), ("3", "kept"), ("4", "damaged file"), ("5", "encrypted"),
        ("6", "kept"), ("7", "damaged file"), ("8", "damaged file"),
    ]  # fmt: skip


def test_a_zip_that_is_no_book_has_no_reader(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.zip").write_bytes(b"PK")
    (tmp_path / "texts" / "a.txt").write_text("text")
    assert read(tmp_path, "texts") == [
        Dropped("texts/a.zip", "no reader for .zip: unpack it first", 2), Document("texts/a.txt", "text"),
    ]  # fmt: skip


# ---- PDF


def pdf(pages):
    """A paper with one line of text a page."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids = []
    for text in pages:
        stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode()
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream))
        kids.append(len(objects) + 1)
        page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R>>"
        objects.append(page % len(objects))
    shown = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects[1] = b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(kids), shown)
    content, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF"
    return content + end % (len(objects) + 1, table, len(objects) + 1, len(content))


LOCKED = base64.b64decode(
    "JVBERi0xLjQKJeLjz9MKMSAwIG9iago8PAovUHJvZHVjZXIgPGIxNWVjM2RhYTc+Cj4+CmVuZG9iagoyIDAgb2JqCjw8Ci9UeXBlIC9QYWdlcw"
    "ovQ291bnQgMQovS2lkcyBbIDQgMCBSIF0KPj4KZW5kb2JqCjMgMCBvYmoKPDwKL1R5cGUgL0NhdGFsb2cKL1BhZ2VzIDIgMCBSCi9PdXRsaW5l"
    "cyA3IDAgUgo+PgplbmRvYmoKNCAwIG9iago8PAovVHlwZSAvUGFnZQovTWVkaWFCb3ggWyAwIDAgNjEyIDc5MiBdCi9SZXNvdXJjZXMgPDwKL0"
    "ZvbnQgPDwKL0YxIDUgMCBSCj4+Cj4+Ci9Db250ZW50cyA2IDAgUgovUGFyZW50IDIgMCBSCj4+CmVuZG9iago1IDAgb2JqCjw8Ci9UeXBlIC9G"
    "b250Ci9TdWJ0eXBlIC9UeXBlMQovQmFzZUZvbnQgL0hlbHZldGljYQo+PgplbmRvYmoKNiAwIG9iago8PAovTGVuZ3RoIDM4Cj4+CnN0cmVhbQ"
    "ocTAMQAQGH2OTED6kOYC/ENJ8mzDsEiVgjIZY91EMxc40oZOiWBAplbmRzdHJlYW0KZW5kb2JqCjcgMCBvYmoKPDwKPj4KZW5kb2JqCjggMCBv"
    "YmoKPDwKL1YgMQovUiAyCi9MZW5ndGggNDAKL1AgNDI5NDk2NzI5MgovRmlsdGVyIC9TdGFuZGFyZAovTyA8YjIyZDRkYzg1MjExZjcxYzIyOT"
    "Q3ZjAxNmM2ZGY1Yjk1NzI3MjI1Y2MzZTMwNzgxYzUxZWRmNmVmMDNhNjZlND4KL1UgPGRiMDA3NzhiYTc2ZDgyZjRiMmI2OGMxZDM3ZTEzY2Y5"
    "MjUzYjczZTljM2ZlN2MyNTQ4ZDAwNDZiYWE2YjAyNDc+Cj4+CmVuZG9iagp4cmVmCjAgOQowMDAwMDAwMDAwIDY1NTM1IGYgCjAwMDAwMDAwMT"
    "UgMDAwMDAgbiAKMDAwMDAwMDA1OSAwMDAwMCBuIAowMDAwMDAwMTE4IDAwMDAwIG4gCjAwMDAwMDAxODMgMDAwMDAgbiAKMDAwMDAwMDMxMSAw"
    "MDAwMCBuIAowMDAwMDAwMzgxIDAwMDAwIG4gCjAwMDAwMDA0NjkgMDAwMDAgbiAKMDAwMDAwMDQ5MCAwMDAwMCBuIAp0cmFpbGVyCjw8Ci9TaX"
    "plIDkKL1Jvb3QgMyAwIFIKL0luZm8gMSAwIFIKL0lEIFsgPGNkZTQyNGIwOTIxZDFjYTU4ZTY1OTM1N2JmYjNjNzIyPiA8Y2RlNDI0YjA5MjFk"
    "MWNhNThlNjU5MzU3YmZiM2M3MjI+IF0KL0VuY3J5cHQgOCAwIFIKPj4Kc3RhcnR4cmVmCjcwNAolJUVPRgo="
)  # made by pypdf 7.1 with a password


def test_a_paper_is_read_page_after_page(tmp_path):
    (tmp_path / "a.pdf").write_bytes(pdf(["First page.", "Second page."]))
    (tmp_path / "b.pdf.gz").write_bytes(gzip.compress(pdf(["Third page."])))
    assert read(tmp_path, "*.pdf*", name="s") == [
        Document("s/a.pdf", "First page.\n\nSecond page."), Document("s/b.pdf.gz", "Third page."),
    ]  # fmt: skip
    paragraphs = read(tmp_path, "a.pdf", document="paragraph")
    assert [item.text for item in paragraphs] == ["First page.", "Second page."]


def test_a_pdf_that_cannot_be_read_says_why(tmp_path):
    (tmp_path / "1.pdf").write_bytes(b"")
    (tmp_path / "2.pdf").write_bytes(b"%PDF-1.4 and no more")
    (tmp_path / "3.pdf").write_bytes(LOCKED)
    assert [item.reason for item in read(tmp_path, "*.pdf")] == ["damaged file", "damaged file", "encrypted"]
