"""Bytes become the text they were, whatever the encoding."""

import codecs
import io
import random
import re
from pathlib import Path

import pytest
from resiliparse.parse.encoding import detect_encoding

from polyana.corpus.compressed import CHUNK
from polyana.corpus.decode import decode, decode_stream, find_encoding

RUSSIAN = (
    "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. Все смешалось в доме "
    "Облонских. Жена узнала, что муж был в связи с бывшею в их доме француженкою-гувернанткой, и объявила мужу, что не "
    "может жить с ним в одном доме."
)
TOLSTOY = Path(__file__).parents[3] / "shared" / "data" / "rus_prose" / "Tolstoy"


@pytest.fixture(scope="module")
def sentences():
    """2,000 sentences of Tolstoy, 60 to 300 letters long, at least half of each in Russian."""
    if not TOLSTOY.is_dir():
        pytest.skip("../shared/data/rus_prose is not beside the checkout")
    texts = (path.read_text("utf-8") for path in sorted(TOLSTOY.glob("*.txt")))
    found = [text.strip() for text in re.split(r"(?<=[.!?])\s+", "\n".join(texts))]
    fitting = [text for text in found if 60 <= len(text) < 300 and len(re.findall("[а-яё]", text)) > len(text) / 2]
    return random.Random(0).sample(fitting, 2000)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1251", "koi8-r", "cp866", "iso8859-5", "mac-cyrillic"]
)
def test_a_russian_paragraph_is_read_in_every_encoding(encoding):
    assert decode(RUSSIAN.encode(encoding)) == RUSSIAN
    assert "".join(decode_stream(io.BytesIO(RUSSIAN.encode(encoding)))) == RUSSIAN
    assert decode(RUSSIAN.encode(encoding), encoding) == RUSSIAN


def test_both_byte_orders_of_utf_16_are_known_by_their_mark():
    for mark, name in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        assert decode(mark + RUSSIAN.encode(name)) == RUSSIAN


@pytest.mark.parametrize(("encoding", "least"), [("cp1251", 0.998), ("koi8-r", 0.998), ("mac-cyrillic", 0.98)])
def test_sentences_of_tolstoy_are_read_as_they_were_written(sentences, encoding, least):
    """Measured over 3,000 sentences: CP1251 99.9 %, KOI8-R 100 %, Mac Cyrillic 99.3 %."""
    pairs = []
    for sentence in sentences:
        try:
            pairs.append((sentence, sentence.encode(encoding)))
        except UnicodeEncodeError:  # KOI8-R has no dash
            continue
    assert len(pairs) > 900
    assert sum(decode(packed) == sentence for sentence, packed in pairs) >= least * len(pairs)


def test_cp1251_is_not_taken_for_mac_cyrillic():
    sentence = "– Я вчера на скачках только что хотела дойти до вас, а вы уехали."
    assert (
        detect_encoding(sentence.encode("cp1251"), html5_compatible=False) == "mac-cyrillic"
    )  # else this tests nothing
    assert decode(sentence.encode("cp1251")) == sentence


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "utf-16"])
def test_whole_books_are_read_as_they_were_written(shared_data, encoding):
    for path in sorted((shared_data / "rus_prose" / "Tolstoy").glob("А*.txt")):
        packed = path.read_text("utf-8").encode(encoding, "replace")
        assert decode(packed) == packed.decode(encoding), path.name


def test_utf_8_with_a_few_broken_bytes_stays_utf_8():
    packed = bytearray((RUSSIAN * 20).encode())
    for place in range(500, len(packed), 1000):
        packed[place : place + 1] = b"\xff"
    text = decode(bytes(packed))
    assert find_encoding(bytes(packed), whole=True) == "utf-8"
    assert "счастливые семьи похожи" in text
    assert 0 < text.count("\ufffd") <= 2 * len(range(500, len(packed), 1000))


def test_a_character_cut_by_the_border_of_two_chunks_is_whole_again():
    for encoding in ("utf-8", "utf-16", "utf-32"):
        text = "x" + RUSSIAN * (2 * CHUNK // len(RUSSIAN)) + "𝒳"
        assert "".join(decode_stream(io.BytesIO(text.encode(encoding)))) == text


def test_any_bytes_get_an_encoding_that_python_knows():
    noise = random.Random(3)
    for _ in range(500):
        codecs.lookup(find_encoding(noise.randbytes(noise.choice([1, 3, 30, 300])), whole=True))
