"""Personal data that has a form: addresses and numbers, found by their shape and proved by their check digits.

What nothing can prove (a passport number, an INN of ten digits) needs a word beside it that names it. All expressions
are bounded, so that hostile text costs time in proportion to its length and no more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from ipaddress import ip_address
from typing import NamedTuple

__all__ = ["KINDS", "Span", "finder", "is_card", "is_iban", "is_inn", "is_snils", "without_overlaps"]

KINDS = ("email", "iban", "card", "snils", "inn", "passport", "ip", "phone", "name")
"""Where two kinds claim the same characters, the earlier one has them."""


class Span(NamedTuple):
    """Characters text[start:end], which are of `kind`."""

    start: int
    end: int
    kind: str


_Look = Callable[[str, int, int], Iterator[Span]]
"""Finds what begins in text[start:stop]."""

_GAP = r"[ \u00a0]"
_DASH = r"[-\u2011\u2013]"
_SEPARATOR = r"[- \u00a0\u2011\u2013]"
_ALONE = r"(?<![\w.,\u2011\u2013-])"  # neither a part of a word nor of a longer number
_NO_PATH = r"(?<!/)"  # in addresses of pages long numbers are those of posts and bug reports
_ENDS = rf"(?!\w|[.,]\d|{_DASH}\d)"

# The only expression that sees every character; it begins with a digit, which `re` looks for at 200 to 400 MB/s.
_CANDIDATE = re.compile(
    r"[0-9](?:[-0-9 ().\u00a0\u2011\u2013№]{6,}+"  # seven and more digits and signs between them
    r"|(?P<passport>[0-9][ -]?[0-9]{2},?[ ](?:номер|N))|(?P<ip>[0-9a-fA-F]{3}:)"  # how these begin
    r"|(?P<iban>(?<=[A-Z][A-Z][0-9])[0-9][ A-Z0-9]))"
)
_BEFORE, _BEHIND = 2, 48  # characters that what is found can reach beyond a candidate: an IBAN's letters, and its rest
_CONTEXT = 60  # characters before a number in which a word may name it: guess


def finder(kinds: Collection[str], regions: Sequence[str], all_addresses: bool) -> Callable[[str], list[Span]]:
    """What finds data of these kinds in a text, in order and without overlap; a kind that it does not know is nothing.

    `regions`: ISO 3166 codes of countries whose phone numbers are known without + and country code. `all_addresses`:
    IP addresses of private networks too.
    """
    numbers: dict[str, _Look] = {
        "iban": _ibans,
        "card": _cards,
        "snils": _snils,
        "inn": _inns,
        "passport": _passports,
        "ip": lambda text, start, stop: _addresses(text, start, stop, all_addresses),
        "phone": lambda text, start, stop: _phones(text, start, stop, regions),
    }
    chosen = {kind: look for kind, look in numbers.items() if kind in kinds}
    everything = list(chosen.values())
    by_beginning = {kind: [look] for kind, look in chosen.items()}
    emails = "email" in kinds
    local = all_addresses and "ip" in kinds

    def find(text: str) -> list[Span]:
        found: list[Span] = []
        if emails and "@" in text:
            found += _emails(text)
        if chosen:
            for candidate in _CANDIDATE.finditer(text):
                beginning = candidate.lastgroup
                for look in everything if beginning is None else by_beginning.get(beginning, ()):
                    found += look(text, max(candidate.start() - _BEFORE, 0), candidate.end())
        if local:
            found += _proved(_LOCAL_IPV6, text, 0, len(text), "ip", lambda match: _is_address(match[0], True))
        return without_overlaps(found)

    return find


def without_overlaps(found: list[Span]) -> list[Span]:
    """In the order of the text; of two that overlap the one whose kind stands first in KINDS."""
    kept: list[Span] = []
    for span in sorted(found, key=lambda span: (span.start, KINDS.index(span.kind), -span.end)):
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
        elif KINDS.index(span.kind) < KINDS.index(kept[-1].kind):
            kept[-1] = span
    return kept


def _matches(pattern: re.Pattern[str], text: str, start: int, stop: int) -> Iterator[re.Match[str]]:
    """Those that begin from `start` on and in front of `stop`."""
    for match in pattern.finditer(text, start, stop + _BEHIND):
        if match.start() >= stop:
            return
        yield match


def _proved(
    pattern: re.Pattern[str], text: str, start: int, stop: int, kind: str, proof: Callable[[re.Match[str]], bool]
) -> Iterator[Span]:
    return (Span(*match.span(), kind) for match in _matches(pattern, text, start, stop) if proof(match))


def _named(words: re.Pattern[str], match: re.Match[str]) -> bool:
    """Whether one of the words stands shortly before a match."""
    return words.search(match.string, max(match.start() - _CONTEXT, 0), match.start()) is not None


def _digits(text: str) -> str:
    return "".join(sign for sign in text if sign in "0123456789")


# E-mail. Lengths are those of RFC 5321, section 4.5.3.1; quoted local parts and addresses in brackets are not looked
# for. A domain ends in letters, so package@1.2.3 is none. The local part is read backwards from the @.
_LOCAL_BACKWARDS = re.compile(r"(?:[\w+'-][\w.+'-]{0,62})?\w")
_DOMAIN = re.compile(
    r"(?![0-9]+x\.)(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}(?:xn--[a-z0-9-]{2,59}|[^\W\d_]{2,24})(?!\w)"
)


def _emails(text: str) -> Iterator[Span]:
    at = text.find("@")
    while at >= 0:
        # `icon@2x.png` is a picture for fine screens: the look-ahead of _DOMAIN
        domain = _DOMAIN.match(text, at + 1)
        if domain is not None and (local := _LOCAL_BACKWARDS.match(text[max(at - 64, 0) : at][::-1])) is not None:
            yield Span(at - local.end(), domain.end(), "email")
        at = text.find("@", at + 1)


# Payment cards (ISO/IEC 7812): first four digits from and to, and the lengths that the issuer uses. Visa's 13 digits
# and Maestro's 12 to 15 are history, and most numbers of that length are something else.
_ISSUERS = (
    (2200, 2204, (16, 19)),  # Mir
    (2221, 2720, (16,)),  # Mastercard
    (3000, 3059, (14,)), (3600, 3699, (14,)), (3800, 3999, (14,)),  # Diners Club
    (3400, 3499, (15,)), (3700, 3799, (15,)),  # American Express
    (3528, 3589, (16, 19)),  # JCB
    (4000, 4999, (16, 19)),  # Visa
    (5100, 5599, (16,)),  # Mastercard
    (6011, 6011, (16, 19)), (6440, 6599, (16, 19)),  # Discover
    (6200, 6299, (16, 19)),  # UnionPay
)  # fmt: skip
_CARD = re.compile(
    rf"{_ALONE}{_NO_PATH}[2-6][0-9]{{3}}({_SEPARATOR}?)(?:[0-9]{{4}}\1[0-9]{{4}}\1[0-9]{{4}}(?:\1[0-9]{{3}})?"
    rf"|[0-9]{{6}}\1[0-9]{{4,5}}){_ENDS}"
)


def is_card(digits: str) -> bool:
    """Whether an issuer has cards of this beginning and length, and the last digit is Luhn's (ISO/IEC 7812-1)."""
    first = int(digits[:4])
    known = any(low <= first <= high and len(digits) in lengths for low, high, lengths in _ISSUERS)
    values = [int(digit) for digit in reversed(digits)]
    return known and (sum(values[::2]) + sum(sum(divmod(2 * value, 10)) for value in values[1::2])) % 10 == 0


def _cards(text: str, start: int, stop: int) -> Iterator[Span]:
    return _proved(_CARD, text, start, stop, "card", lambda match: is_card(_digits(match[0])))


# IBAN: length by country, as in SWIFT's registry of 2024.
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
_IBAN = re.compile(rf"(?<!\w)[A-Z]{{2}}[0-9]{{2}}(?:{_GAP}?[A-Z0-9]){{11,29}}(?!\w)")


def is_iban(number: str) -> bool:
    """Whether it is as long as its country's and the check digits hold (ISO 13616, ISO 7064 MOD 97-10)."""
    turned = number[4:] + number[:4]
    return (
        _IBAN_LENGTHS.get(number[:2]) == len(number) and int("".join(str(int(sign, 36)) for sign in turned)) % 97 == 1
    )


def _ibans(text: str, start: int, stop: int) -> Iterator[Span]:
    for match in _matches(_IBAN, text, start, stop):
        # of words in capitals behind it the expression takes some along
        length, taken = _IBAN_LENGTHS.get(match[0][:2], 0), 0
        for at, sign in enumerate(match[0], 1):
            taken += sign.isalnum()
            if taken == length:
                number = "".join(filter(str.isalnum, match[0][:at]))
                if not match[0][at : at + 1].isalnum() and is_iban(number):
                    yield Span(match.start(), match.start() + at, "iban")
                break


# INN, the tax number: of a person 12 digits with two check digits; of a firm or a person in business 10 with one, which
# a tenth of all numbers have by chance, hence the word.
_INN = re.compile(rf"{_ALONE}{_NO_PATH}(?!00)(?:[0-9]{{12}}|[0-9]{{10}}){_ENDS}")
_INN_WORDS = re.compile(r"(?<!\w)(?:ИНН|INN)(?!\w)", re.IGNORECASE)
_INN_WEIGHTS = (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)


def is_inn(digits: str) -> bool:
    """Whether the check digits hold (order ММВ-7-6/435 of the Russian tax service, 2012)."""
    places = {10: (9,), 12: (10, 11)}.get(len(digits), ())
    return bool(places) and all(
        sum(weight * int(digit) for weight, digit in zip(_INN_WEIGHTS[-place:], digits, strict=False)) % 11 % 10
        == int(digits[place])
        for place in places
    )


def _inns(text: str, start: int, stop: int) -> Iterator[Span]:
    return _proved(
        _INN, text, start, stop, "inn",
        lambda match: is_inn(match[0]) and (len(match[0]) == 12 or _named(_INN_WORDS, match)),
    )  # fmt: skip


# SNILS, the pension insurance number: written 112-233-445 95.
_SNILS = re.compile(
    rf"{_ALONE}(?:([0-9]{{3}}){_DASH}([0-9]{{3}}){_DASH}([0-9]{{3}}){_SEPARATOR}[0-9]{{2}}"
    rf"|[0-9]{{3}}{_GAP}?[0-9]{{3}}{_GAP}?[0-9]{{3}}{_GAP}?[0-9]{{2}}){_ENDS}"
)
_SNILS_WORDS = re.compile(r"(?<!\w)(?:СНИЛС|SNILS|страхов)", re.IGNORECASE)


def is_snils(digits: str) -> bool:
    """Whether the check sum holds (order 192п of the Russian pension fund, 2006, appendix 2)."""
    total = sum(place * int(digit) for place, digit in zip(range(9, 0, -1), digits, strict=False))
    return len(digits) == 11 and int(digits[:9]) > 1001998 and total % 101 % 100 == int(digits[9:])


def _snils(text: str, start: int, stop: int) -> Iterator[Span]:
    return _proved(
        _SNILS, text, start, stop, "snils",
        lambda match: is_snils(_digits(match[0])) and (match[1] is not None or _named(_SNILS_WORDS, match)),
    )  # fmt: skip


# Russian passports: a series of four digits and a number of six, none of them a check digit.
_PASSPORT = re.compile(
    rf"{_ALONE}[0-9]{{2}}[ -]?[0-9]{{2}}(?:,?{_GAP}{{0,2}}(?:№|N|номер)?[:.]?{_GAP}{{0,2}})[0-9]{{6}}{_ENDS}"
)
_PASSPORT_WORDS = re.compile(r"паспорт|passport|(?<!\w)сери[яией](?!\w)", re.IGNORECASE)


def _passports(text: str, start: int, stop: int) -> Iterator[Span]:
    return _proved(_PASSPORT, text, start, stop, "passport", lambda match: _named(_PASSPORT_WORDS, match))


# IP addresses. Four numbers with dots between whose first is below 10, or all of which are below 100, are a version or
# a section far more often than an address: of 1,277 in 313 MB of Debian's documentation and Python's sources 1,061 went
# by this rule, hardly any of them an address. 6 % of all addresses are like that; they need a word or a sign beside.
_IPV4 = re.compile(r"(?<![\w.])(?<![A-Za-z][-/])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\w|\.\w|-[A-Za-z])")
_VERSION = re.compile(
    r"(?:(?<!\w)(?:v|ver|version|versions|release|build|section|chapter|верси[ияейю]{1,2}|релиз|сборка|раздел|глава|п|пп)"
    r"[.:]?\s{0,2}|[=<>~]=\s?|§\s?)$",
    re.IGNORECASE,
)
_ADDRESS_WORDS = re.compile(
    r"(?<!\w)(?:ip(?:v4)?|addr(?:ess(?:es)?)?|hosts?|servers?|dns|ping|proxy|адрес\w{0,3}|хост\w{0,2}|сервер\w{0,2}"
    r"|прокси)(?!\w)|//$|@$",
    re.IGNORECASE,
)
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9a-fA-F]{3}:[0-9a-fA-F:]{2,34}(?!\w)")  # public ones are in 2000::/3 (RFC 4291)
_LOCAL_IPV6 = re.compile(r"(?<![\w:.])[fF](?:[eE][89abAB]|[cdCD][0-9a-fA-F])[0-9a-fA-F]:[0-9a-fA-F:]{2,34}(?!\w)")


def _is_address(text: str, private: bool) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return private or (address.is_global and not address.is_multicast)


def _addresses(text: str, start: int, stop: int, private: bool) -> Iterator[Span]:
    for match in _matches(_IPV4, text, start, stop):
        if _VERSION.search(text, max(match.start() - 12, 0), match.start()) is None and _is_address(match[0], private):
            first, *others = map(int, match[0].split("."))
            if (first >= 10 and max(first, *others) >= 100) or _named(_ADDRESS_WORDS, match):
                yield Span(match.start(), match.end(), "ip")
    for match in _matches(_IPV6, text, start, stop):
        address = match[0] if match[0].endswith("::") else match[0].rstrip(":")  # a colon of the sentence
        if _is_address(address, private):
            yield Span(match.start(), match.start() + len(address), "ip")


# Phones: forms that are hardly anything else, each of which `phonenumbers` then has to know as a number that is given
# out; behind `тел.` or `phone` also numbers without an area code, which nothing can prove.
_INTERNATIONAL = re.compile(
    r"(?<![\w+])\+(?![0-9]+\.[0-9]+(?![- ]?[0-9]))[1-9](?:[-. ()\u00a0\u2011\u2013]{0,2}[0-9]){6,14}(?!\w)"
)
_NATIONAL = re.compile(
    rf"{_ALONE}(?<!\+)(?:"
    # Russia: 8 (495) 123-45-67, 8-916-123-45-67, 89161234567
    rf"[78](?:{_SEPARATOR}?\([0-9]{{3,5}}\){_GAP}?|{_SEPARATOR}[0-9]{{3,5}}{_SEPARATOR})"
    rf"[0-9]{{1,3}}{_SEPARATOR}?[0-9]{{2}}{_SEPARATOR}?[0-9]{{2}}"
    r"|89[0-9]{9}"
    # (495) 123-45-67, (212) 555-0123, (020) 7946 0958
    rf"|\([0-9]{{2,5}}\){_SEPARATOR}?[0-9]{{1,4}}(?:{_SEPARATOR}[0-9]{{2,4}}){{1,3}}"
    # North America: 212-555-0123, 1.212.555.0123
    r"|(?:1[-. ])?[2-9][0-9]{2}([-.])[2-9][0-9]{2}\1[0-9]{4}"
    # others begin with 0: 020 7946 0958
    rf"|0[0-9]{{1,5}}(?:{_SEPARATOR}[0-9]{{2,4}}){{2,4}}"
    rf"){_ENDS}"
)
_WITHOUT_AREA = re.compile(
    rf"{_ALONE}(?:[0-9]{{2,3}}{_DASH}[0-9]{{2}}{_DASH}[0-9]{{2}}|[0-9]{{3}}{_DASH}[0-9]{{4}}){_ENDS}"
)
_PHONE_WORDS = re.compile(r"(?<!\w)(?:тел|телефон\w{0,3}|факс\w{0,2}|phone|tel|fax|mobile)\W{0,4}$", re.IGNORECASE)
_CUTS = 3  # groups of digits behind a number that may belong to the next one: guess


def _phones(text: str, start: int, stop: int, regions: Sequence[str]) -> Iterator[Span]:
    for match in _matches(_INTERNATIONAL, text, start, stop):
        number = match[0]
        for _ in range(_CUTS + 1):
            if _is_phone(number, ()):
                yield Span(match.start(), match.start() + len(number), "phone")
                break
            number = re.sub(r"[^0-9]{1,2}[0-9]{1,14}$", "", number)
    yield from _proved(_NATIONAL, text, start, stop, "phone", lambda match: _is_phone(match[0], regions))
    for match in _matches(_WITHOUT_AREA, text, start, stop):
        if _PHONE_WORDS.search(text, max(match.start() - 16, 0), match.start()) is not None:
            yield Span(match.start(), match.end(), "phone")


def _is_phone(text: str, regions: Sequence[str]) -> bool:
    """Whether it is a number of one of the regions; of any where it begins with +."""
    from phonenumbers import NumberParseException, is_valid_number, parse

    for region in regions or (None,):
        try:
            if is_valid_number(parse(text, region)):
                return True
        except NumberParseException:
            continue
    return False
