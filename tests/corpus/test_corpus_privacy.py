"""What is planted is found and what only looks like it is not; addresses as datatrove finds them, check digits as
python-stdnum computes them; nothing found ever shows; hostile text costs no more than its length."""

import random
import re
import sys
import time
from importlib.metadata import distributions
from itertools import product
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import pytest
from pipelines import lay_out

pytest.importorskip("phonenumbers")

from polyana.corpus.steps.personal import _IBAN_LENGTHS, KINDS, finder, is_card, is_iban, is_inn, is_snils
from polyana.corpus.steps.privacy import PrivacyConfig
from polyana.corpus.steps.step import Block, Surroundings
from polyana.errors import UserError

SURROUNDINGS = Surroundings(("en", "ru"))

ENGLISH = {
    "email": ["o.brien+lists@mail.example.co.uk", "KATE_99@web.de", "x@xn--80ak6aa92e.com", "jo'hara@uni.edu"],
    "phone": ["+44 20 7946 0958", "(212) 736-5000", "212-736-5000", "+1 (415) 429-6753", "020 7946 0958",
              "+49 30 901820", "+79161234567"],
    "card": ["4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005", "3782 822463 10005",
             "6011000990139424", "2200 0000 0000 0004", "30569309025904"],
    "iban": ["GB29 NWBK 6016 1331 9268 19", "DE89370400440532013000", "MT84MALT011000012345MTLCAST001S",
             "NO93 8601 1117 947", "LC55 HEMM 0001 0001 0012 0012 0002 3015"],
    "ip": ["93.184.216.34", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "2001:4860:4860::8888", "203.5.112.7"],
    "inn": ["500100732259"],
    "snils": ["112-233-445 95"],
}  # fmt: skip
RUSSIAN = {
    "email": ["ivanov.p@yandex.ru", "почта@пример.рф", "info@xn--e1afmkfd.xn--p1ai"],
    "phone": ["+7 916 123-45-67", "8 (495) 123-45-67", "8-916-123-45-67", "89161234567", "+7(812)3456789",
              "8 800 555 35 35", "(495) 123-45-67", "8\u00a0916\u00a0123\u201145\u201167"],
    "card": ["2202 2006 1234 5676", "4276 5500 1234 5677"],
    "snils": ["112-233-445 95", "087-654-303 00"],
    "inn": ["500100732259", "ИНН 7707083893", "ИНН/КПП: 7830002293"],
    "passport": ["паспорт 45 08 № 123456", "паспорт серии 4508 номер 123456", "Паспорт: 4508 123456",
                 "серия 45 08, номер 123456", "номер паспорта 4508123456"],
    "ip": ["93.184.216.34", "IP-адрес 5.61.23.41"],
}  # fmt: skip
BESIDE = re.compile(r"^(?:ИНН(?:/КПП:)?|[Пп]аспорт:?(?: серии)?|серия|номер паспорта|IP-адрес) ")
"""Words that name what follows, and stay."""

SENTENCES = {
    "en": ["It was late, and the clerk wrote {} into the book.", "Ask for {}; nobody else will know.",
           "The letter ({}) came back.", "He said: {}, then left.", "\n{}\n"],
    "ru": ["Было поздно, и писарь внёс {} в книгу.", "Спросите {}; больше никто не знает.", "Письмо ({}) вернулось.",
           "Он сказал: {}, и ушёл.", "\n{}\n"],
}  # fmt: skip
HARMLESS = [
    "12.05.1941", "1941-1945", "1941\u20131945 гг.", "2021-03-04", "2023-01-05 12:30:45.123456", "05/12/1998",
    "12:30:45", "2008:05:30 15:56:01", "$1,234,567.89", "1 234 567 890 руб.", "12 345 678,90 €", "+12,345.67",
    "version 1.2.3.4", "v10.20.130.40", "Chrome/91.0.4472.124", "numpy==1.26.4.5", "п. 3.2.1.4", "1.3.6.1.4.1.311",
    "libfoo-1.2.3.104.tar.gz", "V8 4.7.80.24", "ISBN 978-5-17-123456-7", "ISBN 0-306-40615-2", "9780306406157",
    "00:1a:2b:3c:4d:5e", "00-1A-2B-3C-4D-5E", "9fceb02d0ae598e95dc970b74767f19372d61af8",
    "550e8400-e29b-41d4-a716-446655440000", "1700000000", "1700000000123", "20230101120000", "3.14159265358979",
    "4111 1111 1111 1112", "4111111111111111.5", "GB29 NWBK 6016 1331 9268 18", "500100732258", "7707083893",
    "112-233-445 96", "11223344595", "4508 123456", "bugs/5229304507138048", "192.168.1.1", "10.0.0.7", "127.0.0.1",
    "256.300.1.1", "std::vector", "fe80::1", "icon@2x.png", "left-pad@1.3.0", "@app.route", "a@b", "user@localhost",
    "59.9343 30.3351", "123-45-67", "555-0199", "Decimal('+35236450.6')", "+1", "C++11 2014 2017 2020",
    "17 24 31 7 14 21 28 5 12", "8 15 16 23 42", "101 202 303 404 505 606", "0.125 0.250 0.375 0.500", "№ 1234567",
    "12 345 6789 2,345", "212 555 0123", "1-2-3-4-5-6-7-8-9-10", "1812, 1813 (1814)", "+/- 1000000000", "Ps. 119:105",
    "--------- 10 ---------", "1914-1918, 1939-1945", "68.95.23", "1:2:3:4:5:6:7", "2:0 3:1 4:2", "(1941) 12-34",
]  # fmt: skip


def block(texts, languages=0):
    return Block([f"d{at}" for at in range(len(texts))], list(texts), np.full(len(texts), languages, np.int16))


def run(texts, languages=0, **settings):
    return PrivacyConfig(**settings).worker(SURROUNDINGS)(block(texts, languages))


def prose(shared_data, language):
    if language == "ru":
        text = min((shared_data / "rus_prose" / "Tolstoy").glob("*.txt")).read_text()
    else:
        text = (shared_data / "eng_tinyshakespeare" / "input.txt").read_text()
    return [line for line in text[:200_000].split("\n") if len(line) > 40]


@pytest.mark.parametrize(("language", "planted"), [("en", ENGLISH), ("ru", RUSSIAN)])
def test_what_is_planted_in_prose_is_found_and_nothing_else(language, planted, shared_data):
    """Recall and precision on what was planted are both 1; hard negatives stand between."""
    draws, lines = random.Random(language), prose(shared_data, language)
    find = finder(set(KINDS), ["RU", "US", "GB"], False)
    for _ in range(60):
        parts, expected, size = [], [], 0
        for _ in range(30):
            kind = draws.choice([*planted, "nothing"])
            value = draws.choice(planted.get(kind, HARMLESS))
            before, behind = draws.choice(SENTENCES[language]).split("{}")
            part = f"{draws.choice(lines)}\n{before}{value}{behind}\n"
            if kind in planted:
                bare = BESIDE.sub("", value)
                begin = size + len(part) - len(behind) - 1 - len(bare)
                expected.append((begin, begin + len(bare), kind))
            parts.append(part)
            size += len(part)
        text = "".join(parts)
        found = [tuple(span) for span in find(text)]
        named = [(text[start:end], kind) for start, end, kind in found]
        assert named == [(text[start:end], kind) for start, end, kind in expected]
        assert found == expected


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_it_stays(text):
    assert run([text, f"({text})", f"see {text}, then"]).edited == {}


def test_real_prose_holds_nothing(shared_data):
    for language in ("en", "ru"):
        assert run(prose(shared_data, language)).edited == {}


def test_what_goes_is_counted_in_bytes_by_kind():
    text = "Пишите ivan@пример.рф или a@b.org, тел. 123-45-67."
    found = run([text, "nothing here, in 1941"])
    edit = found.edited[0]
    assert edit.text == "Пишите <EMAIL> или <EMAIL>, тел. <PHONE>."
    assert edit.taken == {"e-mail address": 22 - 7 + 7 - 7, "phone number": 9 - 7}
    assert sum(edit.taken.values()) == len(text.encode()) - len(edit.text.encode())
    assert list(found.edited) == [0]
    assert found.columns["email"].tolist() == [2, 0]
    assert found.columns["phone"].tolist() == [1, 0]
    again = run([edit.text])
    assert again.edited == {}  # a mask is nothing personal
    custom = run([text], kinds=["email"], masks={"email": "someone"})
    assert custom.edited[0].text == "Пишите someone или someone, тел. 123-45-67."


def test_documents_can_go_instead():
    texts = ["a@b.org", "nothing", "a@b.org c@d.org +7 916 123-45-67"]
    drop = PrivacyConfig(action="drop")
    found = drop.worker(SURROUNDINGS)(block(texts))
    assert found.edited == {}
    gone = {each.reason: each.thrown.tolist() for each in drop.verdicts(found.columns, "en") if each.thrown.any()}
    assert gone == {"e-mail address": [True, False, True], "phone number": [False, False, True]}
    many = PrivacyConfig(max_found=2)
    found = many.worker(SURROUNDINGS)(block(texts))
    (verdict,) = many.verdicts(found.columns, "en")
    assert (verdict.reason, verdict.thrown.tolist()) == ("more than 2 pieces of personal data", [False, False, True])
    assert list(PrivacyConfig().verdicts(found.columns, "en")) == []


def test_private_addresses_on_demand():
    text = "from 192.168.1.1 and fe80::1ff:fe23:4567:890a, fd12:3456:789a:1::1, 93.184.216.34"
    assert run([text]).edited[0].text == text.replace("93.184.216.34", "<IP>")
    assert run([text], addresses="all").edited[0].text == "from <IP> and <IP>, <IP>, <IP>"


def real_text(shared_data):
    """Package descriptions with their authors, modules about addresses, pages of the web."""
    for package in distributions():
        yield package.read_text("METADATA") or ""
    for name in ("ipaddress", "smtplib", "imaplib", "http.cookiejar", "urllib.request", "email.utils"):
        __import__(name)
        yield Path(sys.modules[name].__file__).read_text()
    for path in sorted((shared_data / "html_extraction_cc").rglob("*")):
        if path.is_file():
            yield path.read_text(errors="replace")


OTHER_ADDRESSES = re.compile(
    r"[!#$%&*/=?^`{|}~]"  # signs in the local part, which on pages are those of an address line around it
    r"|@.*\.(?:\d+|[^.]*\d[^.]*|.)$|^[^@]*@[^.]*$"  # a domain that ends in no word: left-pad@1.3.0
    r"|@\d+x\."  # pictures for fine screens
)


def test_addresses_are_datatroves(shared_data):
    pytest.importorskip("datatrove")
    from datatrove.pipeline.formatters.pii import PIIFormatter

    theirs, find = PIIFormatter(), finder({"email", "ip"}, (), False)
    counts = dict.fromkeys(("email", "ip", "email both", "ip both"), 0)
    for text in real_text(shared_data):
        ours = {"email": set(), "ip": set()}
        for start, end, kind in find(text):
            ours[kind].add((start, end))
        for kind, replacer in (("email", theirs.emails_replacer), ("ip", theirs.ip_replacer)):
            known = {
                match.span() for match in replacer.regex.finditer(text)
                if replacer.validator is None or replacer.validator(match[0])
            }  # fmt: skip
            counts[kind] += len(known)
            counts[f"{kind} both"] += len(known & ours[kind])
            for start, end in known - ours[kind]:
                what, around = text[start:end], text[max(start - 60, 0) : end + 8]
                if kind == "email":
                    assert OTHER_ADDRESSES.search(what), what
                else:  # a part of a longer number, a version or a section, a group's address
                    first, *rest = map(int, what.split("."))
                    small = first < 10 or max(first, *rest) < 100
                    inside = re.search(rf"[\w.-]{re.escape(what)}|{re.escape(what)}(?:\w|\.\w|-[A-Za-z])", around)
                    assert small or inside or 224 <= first < 240, around
            for start, end in ours[kind] - known:
                what = text[start:end]
                assert not what.isascii() or ":" in what or any(  # letters beyond ASCII, IPv6, or theirs is longer
                    low <= start and end <= high for low, high in known
                ), what  # fmt: skip
    assert counts["email both"] > 0.97 * counts["email"] > 100
    assert counts["ip both"] > 0


def test_check_digits_are_stdnums():
    pytest.importorskip("stdnum")
    from stdnum import iban, luhn
    from stdnum.ru import inn

    draws = random.Random(0)
    for value in [*ENGLISH["card"], *RUSSIAN["card"]]:
        digits = re.sub(r"\D", "", value)
        assert is_card(digits)
        for at, other in ((draws.randrange(4, len(digits)), draws.choice("0123456789")) for _ in range(40)):
            spoiled = digits[:at] + other + digits[at + 1 :]
            assert is_card(spoiled) == luhn.is_valid(spoiled)
    for length in (10, 12):
        numbers = [f"{draws.randrange(10 ** (length - 1), 10**length)}" for _ in range(4000)]
        expected = [inn.is_valid(number) for number in numbers]
        assert [is_inn(number) for number in numbers] == expected
        assert any(expected)
    right = [re.sub(r"\s", "", value) for value in ENGLISH["iban"]]
    for number in right:
        assert is_iban(number)
        assert iban.is_valid(number)
    # what stdnum knows of a country's accounts beyond their length we do not
    for _ in range(2000):
        number = draws.choice(right)
        at = draws.randrange(2, len(number))
        spoiled = number[:at] + draws.choice("0123456789") + number[at + 1 :]
        if iban.is_valid(spoiled, check_country=False):
            assert is_iban(spoiled)
        else:
            assert not is_iban(spoiled) or spoiled == number
    known = {}
    for country in map("".join, product(ascii_uppercase, repeat=2)):
        (_, properties), *_ = iban._ibandb.info(f"{country}0")
        if "bban" in properties:  # as 4!a6!n8!n: 4 letters, 6 digits, 8 digits
            known[country] = 4 + sum(map(int, re.findall(r"\d+", properties["bban"])))
    assert known == _IBAN_LENGTHS


def test_the_pension_number_by_its_published_examples():
    """From the order and from Wikipedia's article: sums below 100, of 100 and 101, and above."""
    for number in ("11223344595", "08765430300", "08765430200", "16012345600"):
        total = sum((9 - at) * int(digit) for at, digit in enumerate(number[:9]))
        expected = total if total < 100 else 0 if total in {100, 101} else (total % 101) % 100
        assert is_snils(number) == (expected == int(number[9:]))
    assert is_snils("11223344595")
    assert is_snils("08765430300")
    assert not is_snils("11223344594")


HOSTILE = ["1-", "a@", "a@a.", "1 ", "+1 ", "(1) ", "+7 916 123 45 67 ", "8 (495) ", "GB29 ", "2001:", "2001::", "1.2.",
           "4111 ", "@a-", "№ 12 ", "0 12 "]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_text_takes_time_in_proportion_to_its_length(unit):
    find = finder(set(KINDS), ["RU", "US", "GB"], True)
    find("+7 916 123-45-67")  # loads the numbers of the country

    def seconds(size):
        text = unit * (size // len(unit))
        began = time.process_time()
        find(text)
        return time.process_time() - began

    small, large = min(seconds(25_000) for _ in range(2)), seconds(200_000)
    assert large < 32 * small + 0.1  # 8 times the text; 64 times the time if each place looked at all others


def test_nothing_found_shows(caplog, capsys):
    caplog.set_level(0)
    secrets = [value for values in (*ENGLISH.values(), *RUSSIAN.values()) for value in values]
    found = run([f"Тел. {value} or" for value in secrets])
    said = caplog.text + "".join(capsys.readouterr()) + str(found.columns) + str(
        [edit.taken for edit in found.edited.values()] + [edit.text for edit in found.edited.values()]
    )  # fmt: skip
    assert len(found.edited) == len(secrets)
    assert not [value for value in secrets if BESIDE.sub("", value) in said]
    assert PrivacyConfig.secret


PEOPLE = ["Anna Berg", "Tom Hale", "Maria Stein", "Paul Norris", "Olga Frost", "Henry Wood", "Clara Moss", "Peter Lane"]
FRAMES = ["{} came home late.", "Yesterday {} met the miller.", "We asked {} about the bridge.", "{} and {} sang.",
          "The river was full of ice."]  # fmt: skip


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A small trained pipeline, laid out as pip installs one."""
    spacy = pytest.importorskip("spacy")
    from spacy.training import Example
    from spacy.util import fix_random_seed

    fix_random_seed(0)
    nlp, draws = spacy.blank("en"), random.Random(0)
    nlp.add_pipe("ner").add_label("PERSON")
    examples = []
    for _ in range(20):
        text, entities = draws.choice(FRAMES), []
        while "{}" in text:
            name = draws.choice(PEOPLE)
            entities.append((text.index("{}"), text.index("{}") + len(name), "PERSON"))
            text = text.replace("{}", name, 1)
        examples.append(Example.from_dict(nlp.make_doc(text), {"entities": entities}))
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(25):
        nlp.update(examples, sgd=optimizer)
    place = tmp_path_factory.mktemp("packages")
    for name, kept in (("en_people_test", nlp), ("en_nobody_test", spacy.blank("en"))):
        lay_out(place, name, kept)
    sys.path.insert(0, str(place))
    yield "en_people_test"
    sys.path.remove(str(place))


def test_names_by_a_trained_pipeline(pipeline):
    config = PrivacyConfig(kinds=["name", "email"], names={"en": pipeline})
    assert list(config.problems()) == []
    assert config.identity()["names"] == {"en": [pipeline, "0.0.1"]}
    text = "Yesterday Maria Stein met the miller. maria@web.de came home late."
    long = "The river was full of ice.\n" * 800 + "We asked Paul Norris about the bridge.\n"  # more than one piece
    found = config.worker(SURROUNDINGS)(block([text, long]))
    assert found.edited[0].text == "Yesterday <NAME> met the miller. <EMAIL> came home late."
    assert found.edited[0].taken["name"] == len("Maria Stein") - len("<NAME>")
    assert found.edited[1].text == long.replace("Paul Norris", "<NAME>")
    russian = config.worker(SURROUNDINGS)(block([text], languages=1))
    assert "Maria Stein" in russian.edited[0].text  # no pipeline was named for that language


def test_a_pipeline_that_finds_nobody(pipeline):
    with pytest.raises(UserError, match="the spaCy pipeline `en_nobody_test` finds no people"):
        PrivacyConfig(kinds=["name"], names={"en": "en_nobody_test"}).worker(SURROUNDINGS)


LETTERS = [
    ({"kinds": []}, "nothing is looked for; name a kind, as `kinds: [email]`"),
    ({"masks": {"name": "N"}}, "there is a mask for `name`, which is not in `kinds`; leave one of them out"),
    ({"action": "drop", "max_found": 3}, "with `action: drop` the first thing found is enough; leave `max_found` out"),
    ({"regions": ["ru"]}, "no phone numbers are known for `ru`; did you mean `RU`?"),
    ({"kinds": ["name"]},
     "names are found by a spaCy pipeline; say which for each language: `names: {en: en_core_web_sm}`"),
    ({"names": {"en": "en_core_web_xy"}}, "`names` says how names are found, and `name` is not in `kinds`; add it"),
    ({"kinds": ["name"], "names": {"en": "en_core_web_xy"}},
     "there is no pipeline `en_core_web_xy` installed; run: python -m spacy download en_core_web_xy"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "letter"), LETTERS)
def test_a_wrong_setting_is_a_letter(settings, letter):
    assert letter in [what for _, what in PrivacyConfig(**settings).problems()]


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr("polyana.corpus.steps.privacy.find_spec", lambda _: None)
    assert [what for _, what in PrivacyConfig().problems()] == [
        "phone numbers are proved by phonenumbers; run: pip install 'polyana[mill]'"
    ]
