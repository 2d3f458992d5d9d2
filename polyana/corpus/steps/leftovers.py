"""What extraction and recognition leave in a text: menus, buttons, banners, unfilled templates, printed lines.

A line goes only as a whole, and only when all of it is furniture: the tables below are phrases that no sentence is.
Words that may stand alone in good text too, as `Share` or `Назад`, go where three stand in a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice, pairwise
from typing import ClassVar, Literal, NamedTuple, TypeVar

from pydantic import Field

from polyana.corpus.normalise import normalise
from polyana.corpus.steps.step import Block, Edit, Found, StepConfig, Surroundings, Worker
from polyana.corpus.steps.typesetting import unwrapped, with_whole_words, without_page_numbers

__all__ = ["LeftoversConfig"]

Language = Literal["en", "ru"]
T = TypeVar("T")
Finder = Callable[[str], list[tuple[int, int]]]
"""Gives the places of lines, each with the newline before it, in text in lower case that begins and ends with one."""
Change = tuple[str, Callable[[str], str]]
"""A reason, and what is done for it."""

# Below, a phrase is a regular expression that a whole line in lower case fulfils, but for signs around it.

_NAVIGATION: dict[Language, tuple[str, ...]] = {
    "en": (
        r"skip(?: directly)? to(?: the)?(?: main| primary| page)? (?:content|navigation|menu|search|footer|sidebar)",
        r"jump to(?: the)? (?:main )?(?:navigation|content|search|comments)(?: jump to search)?",
        r"(?:back|return|go back) to(?: the)? (?:top|home ?page|main page|previous page)(?: of (?:the )?page)?",
        r"(?:toggle|open|close|show|hide)(?: the)?(?: main| mobile)? (?:navigation|menu|sidebar)(?: menu)?",
        r"(?:previous|next|older|newer) (?:posts?|articles?|entry|entries|story)",
        r"you are here(?: home)?", r"printer[- ]friendly(?: version| page)?", r"print(?:able)? (?:this page|version)",
        r"view (?:full|desktop|mobile) (?:site|version)", r"site ?map",
    ),
    "ru": (
        r"(?:перейти|перейдите|переход) к (?:основному |главному )?(?:содержанию|содержимому|контенту|навигации|меню)",
        r"(?:вернуться|назад|перейти) (?:наверх|на главную(?: страницу)?|к началу страницы|к списку \w+)",
        r"(?:в начало|к началу|наверх) страницы", r"версия для (?:печати|слабовидящих)", r"карта сайта",
        r"(?:предыдущая|следующая) (?:статья|запись|страница|новость|публикация)", r"вы (?:находитесь )?здесь",
        r"(?:мобильная|полная|десктопная) версия(?: сайта)?", r"(?:открыть|закрыть|показать|скрыть) меню",
    ),
}  # fmt: skip
_SHARING: dict[Language, tuple[str, ...]] = {
    "en": (
        r"read (?:more|the (?:full|whole) (?:article|story|post))", r"(?:continue|keep) reading", r"show (?:more|less)",
        r"load more(?: \w+)?", r"learn more", r"click here (?:to (?:read|learn|see|find out) more|for more)",
        r"share (?:this|on|via)(?: (?:page|post|article|story|link|on|via|with|to))*"
        r"(?: (?:facebook|twitter|x|linkedin|pinterest|reddit|whatsapp|telegram|e-?mail|friends|your friends|and))*",
        r"e-?mail this(?: (?:page|article|story|post))?(?: to a friend)?", r"tweet this", r"blogthis",
        r"follow (?:us|me)(?: on)?(?: (?:facebook|twitter|x|instagram|linkedin|youtube|telegram|social media|and))*",
        r"(?:subscribe|sign up)(?: (?:to|for|now|today))+(?: (?:our|the|my|this|free|daily|weekly|monthly|e-?mail))*"
        r"(?: (?:newsletters?|mailing list|channel|blog|feed|podcast|rss|updates))?",
        r"(?:leave|post|add|write) a (?:comment|reply)(?: cancel reply)?", r"no comments(?: yet)?", r"\d+ comments?",
        r"(?:view|show|see|read)(?: all)?(?: \d+)? comments", r"(?:log|sign) in to (?:comment|reply|your account)",
        r"related (?:articles|posts|stories)", r"you (?:may|might) also (?:like|be interested in)",
        r"(?:popular|most popular|trending|latest|recent|recommended) (?:posts|articles|stories|comments)",
        r"(?:article|story) continues below(?: advertisement)?", r"advertisement continue reading below",
        r"sponsored (?:content|links)",
    ),
    "ru": (
        r"читать (?:далее|дальше|полностью|ещё|еще|также)", r"читайте также", r"подробнее(?: о \w+)?",
        r"поделиться (?:ссылкой|новостью|статьёй|статьей|записью|с друзьями|в \w+|в социальных сетях)",
        r"(?:подписаться|подпишитесь|подписывайтесь) на (?:наш\w{0,3} )?(?:канал|рассылку|новости|обновления|блог|"
        r"страницу|группу|нас|rss|telegram|телеграм)[^\n.,;]{0,30}",
        r"(?:оставить|добавить|написать) (?:комментарий|отзыв)", r"комментарии \(?\d+\)?", r"\d+ комментари(?:й|я|ев)",
        r"(?:показать|смотреть|загрузить) (?:ещё|еще|все|всё)(?: комментарии| новости)?",
        r"войдите,? чтобы (?:оставить комментарий|комментировать)", r"похожие (?:статьи|записи|новости|материалы)",
        r"(?:популярные|последние|свежие) (?:статьи|записи|новости|комментарии)", r"вам (?:также )?может понравиться",
        r"на правах рекламы", r"(?:распечатать|напечатать) (?:страницу|статью)", r"просмотр(?:ов|ы) ?: ?\d+",
        r"нашли (?:ошибку|опечатку)[^\n]{0,90}ctrl ?\+ ?enter[^\n]{0,20}",
    ),
}  # fmt: skip
_MENU: dict[Language, tuple[str, ...]] = {
    "en": (
        "home", "home page", "about", "about us", "contact", "contact us", "contacts", "log ?in", "log ?out", "sign in",
        "sign up", "register", "search", "menu", "help", "faqs?", "blog", "news", "shop", "store", "cart", "checkout",
        "my account", "account", "wish ?list", "privacy", "privacy policy", "terms", "terms of (?:use|service)",
        "terms (?:and|&) conditions", "cookie policy", "site ?map", "careers", "jobs", "press", "services", "products",
        "pricing", "gallery", "forums?", "events", "donate", "subscribe", "newsletter", "share", "tweet", "e-?mail",
        "print", "facebook", "twitter", "instagram", "youtube", "linkedin", "pinterest", "reddit", "telegram",
        "whatsapp", "rss", "previous", "next", "advertisement", "downloads?", "support", "categories", "tags",
        "archives?", "comments", "feedback", "english", "русский",
    ),
    "ru": (
        "главная", "главная страница", "о нас", "о компании", "о проекте", "о сайте", "контакты", "вход", "войти",
        "выход", "выйти", "регистрация", "поиск", "меню", "помощь", "новости", "блог", "магазин", "корзина", "каталог",
        "личный кабинет", "избранное", "услуги", "товары", "цены", "прайс(?:-лист)?", "доставка", "оплата",
        "доставка и оплата", "оплата и доставка", "галерея", "фотогалерея", "форум", "отзывы", "вакансии", "статьи",
        "карта сайта", "обратная связь", "политика конфиденциальности", "пользовательское соглашение", "реклама",
        "подписка", "подписаться", "поделиться", "печать", "вконтакте", "одноклассники", "телеграм", "документы",
        "акции", "скидки", "партн[её]ры", "назад", "впер[её]д", "далее", "следующая", "предыдущая", "комментарии",
        "теги", "метки", "рубрики", "архив", "вопросы и ответы",
    ),
}  # fmt: skip


class _Banner(NamedTuple):
    """A line that holds `sign` goes when all of it fulfils `line` and it is at most `longest` characters."""

    sign: str
    line: str
    longest: int


_COOKIES: dict[Language, tuple[_Banner, ...]] = {
    "en": (
        _Banner(
            "cookie",
            r"(?=[^\n]*(?:site|browser|experience|privacy|consent|agree|traffic|policy|analytics|settings))"
            r"(?:(?:this|our|the) (?:web)?site uses|we(?: and our [^\n]{1,30})? use|cookies (?:help|allow|enable) us|"
            r"by (?:continuing|using|clicking|browsing|visiting|closing)|we have updated)[^\n]*",
            500,
        ),
        _Banner(
            "cookie",
            r"(?:accept|reject|allow|decline|manage|refuse)(?: all| only)?(?: the| my)?(?: necessary| essential)? "
            r"cookies?(?: settings| preferences| and close)?|cookies? (?:settings|preferences|notice|consent)",
            60,
        ),
    ),
    "ru": tuple(
        _Banner(
            sign,
            r"(?=[^\n]*(?:сайт|соглаша|соглас|политик|персональн|браузер|конфиденц))"
            r"(?:мы |(?:наш|этот|данный) сайт|на (?:этом|нашем|данном) сайте|сайт |для |чтобы |"
            r"продолжая|используя|оставаясь|нажимая|посещая|пользуясь)[^\n]*"
            r"|(?:принять|отклонить|настроить|разрешить)(?: все)?(?: файлы)? (?:cookies?|куки)(?:-файлы)?",
            500,
        )
        for sign in ("cookie", "файлы куки", "файлов куки", "принять куки", "куки-файлы")
    ),
}
_RESERVED = r"(?:copyright|©|\(c\))(?=[^\n]*(?:\d{{4}}|©|\(c\)|{phrase}))[^\n]*|{phrase}[^\w\n]*+(?:©[^\n]*)?"
_RIGHTS: dict[Language, tuple[_Banner, ...]] = {
    "en": (
        _Banner("all rights reserved", _RESERVED.format(phrase="all rights reserved"), 200),
        _Banner("©", r"(?:copyright )?© ?(?:copyright )?\d{4}(?: ?[-–—] ?(?:\d{2,4}|present))?[^\n]*", 120),
    ),
    "ru": (
        _Banner("все права защищены", _RESERVED.format(phrase="все права защищены"), 250),
        _Banner("использовании материалов", r"при (?:полном |частичном |любом |или )*использовании[^\n]*", 300),
        _Banner("копирование материалов", r"копирование материалов[^\n]*(?:запрещено|разрешено|только)[^\n]*", 300),
    ),
}
_SCRIPTS: dict[Language, tuple[_Banner, ...]] = {
    "en": (
        _Banner(
            "javascript",
            r"(?:please )?(?:enable|turn on|activate) javascript[^\n]*|"
            r"javascript (?:is|must be|needs to be) (?:currently )?(?:disabled|required|enabled|turned o)[^\n]*|"
            r"(?:you need|this (?:web)?(?:site|page) requires|your browser)[^\n]*javascript[^\n]*",
            200,
        ),
        _Banner("browser does not support", r"(?:sorry,? |unfortunately,? )?your browser does not support[^\n]*", 200),
    ),
    "ru": (
        _Banner(
            "javascript",
            r"(?:пожалуйста,? |для [^\n]*)?включите[^\n]*javascript[^\n]*|[^\n]*javascript отключ[её]н[^\n]*",
            200,
        ),
        _Banner("браузер не поддерживает", r"(?:к сожалению,? )?ваш браузер не поддерживает[^\n]*", 200),
    ),
}

_AROUND, _BEHIND = r"[^\w\n(©]*+", r"(?:\.{3}|[^\w\n.!?,;])*+"  # what ends as a sentence does is one
_SIGNS = "|•·»›>→"  # between the items of a menu


_TEMPLATES = re.compile(
    r"(?<![^\S\n])[^\S\n]*+(?:\{\{[\w :#-]{1,60}\|[^{}\\\n]{0,300}\}\}|"  # Wikipedia's
    r"(?<![\\\w^_}{$`'\"=(])(?<!= )"  # no LaTeX, no BibTeX, no string or argument of a program
    r"(?:\{\{[^{}\\\n]{1,200}\}\}|\{%[-+]?\s*\w[^%{}\n]{0,200}%\}|"
    r"\$\{[a-z][a-zA-Z0-9.]*\}(?![\w./:$]))(?![}`'\")]))"  # a shell's variables have capitals or _
)
_NESTED = 5  # templates within each other that are still undone, as Wikipedia's are: guess
_SEPARATORS = re.compile(r"(\n[^\S\n]*([-=_*~.#•·–—+])(?:[^\S\n]*\2){2,}[^\S\n]*)(?:\s*\1)+(?=\n)")


class LeftoversConfig(StepConfig):
    """Takes out what extraction and recognition left in a text."""

    edits: ClassVar[bool] = True
    kind: Literal["leftovers"] = "leftovers"
    languages: list[Language] = Field(
        ["en", "ru"], min_length=1, description="whose phrases are looked for, in documents of any language"
    )
    navigation: bool = Field(True, description="lines as `Skip to content`, menus, trails as `Home > Tea > Green`")
    sharing: bool = Field(True, description="lines as `Read more`, `Share on Facebook`, `5 comments`")
    cookies: bool = Field(True, description="banners that ask for consent to cookies")
    rights: bool = Field(True, description="lines as `© 2024 Tea Ltd. All rights reserved`")
    scripts: bool = Field(True, description="lines that ask for JavaScript or another browser")
    templates: bool = Field(True, description="what a template left unfilled: `{{ name }}`, `{% if %}`, `${name}`")
    separators: bool = Field(True, description="of lines as `-----` right behind each other the first alone stays")
    page_numbers: bool = Field(True, description="numbers of printed pages on lines of their own")
    broken_words: bool = Field(True, description="words that a hyphen broke at a line's end are made whole")
    hard_wraps: bool = Field(True, description="lines cut to a width become paragraphs; verse, lists and tables stay")

    def worker(self, surroundings: Surroundings) -> Worker:
        finders, changes = list(self._finders()), list(self._changes())

        def versions(text: str) -> Iterator[tuple[str, str]]:
            framed = f"\n{text}\n"
            lower = _lower(framed)
            for reason, find in finders:
                spans = find(lower)
                if spans:
                    text = normalise(_without(framed, spans))
                    framed = f"\n{text}\n"
                    lower = _lower(framed)
                yield reason, text
            for reason, change in changes:
                after = change(text)
                text = text if after == text else normalise(after)
                yield reason, text

        def work(block: Block) -> Found:
            edits = ((index, Edit.of(text, versions(text))) for index, text in enumerate(block.texts))
            return Found(edited={index: edit for index, edit in edits if edit is not None})

        return work

    def _finders(self) -> Iterator[tuple[str, Finder]]:
        def of(table: Mapping[Language, tuple[T, ...]]) -> list[T]:
            return [entry for language in self.languages for entry in table[language]]

        if self.navigation:
            yield "navigation", _finder_of_phrases([*of(_NAVIGATION), *_menus("|".join(of(_MENU)))])
        if self.sharing:
            yield "sharing and comments", _finder_of_phrases(of(_SHARING))
        if self.cookies:
            yield "cookie banners", _finder_of_banners(of(_COOKIES))
        if self.rights:
            yield "rights", _finder_of_banners(of(_RIGHTS))
        if self.scripts:
            yield "script warnings", _finder_of_banners(of(_SCRIPTS))

    def _changes(self) -> Iterator[Change]:
        if self.templates:
            yield "template braces", _without_templates
        if self.separators:
            yield "repeated separators", lambda text: _SEPARATORS.sub(r"\1", f"\n{text}\n")[1:-1]
        if self.page_numbers:
            yield "page numbers", without_page_numbers
        if self.broken_words:
            yield "broken words", with_whole_words
        if self.hard_wraps:
            yield "hard-wrapped lines", unwrapped


def _lower(text: str) -> str:
    """In lower case and of the same length."""
    return text.replace("İ", "i").lower()  # the one character whose lower case is two


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    kept = pairwise([0, *(place for span in spans for place in span), len(text)])
    return "".join(text[start:end] for start, end in islice(kept, 0, None, 2))


def _finder_of_phrases(phrases: Iterable[str]) -> Finder:
    """Finds lines that are one of the phrases."""
    lines = re.compile(rf"\n{_AROUND}(?:{'|'.join(phrases)}){_BEHIND}(?=\n)")
    return lambda lower: [line.span() for line in lines.finditer(lower)]


def _menus(words: str) -> Iterator[str]:
    """Trails from the first page; lines of three items that begin with two words of a menu; three lines of one each."""
    yield r"(?:home|главная(?: страница)?)(?: ?[»›>→] ?[^\W\d][^|•·»›>→\n.!?]{0,60}(?<! ))+"
    between = rf"[^\S\n]*+[{_SIGNS}/][^\S\n]*+"
    yield rf"(?:{words}){between}(?:{words})(?:{between}[^{_SIGNS}/\n]{{1,30}})+"
    yield rf"(?:{words}){_BEHIND}(?:(?:\n{_AROUND})++(?:{words}){_BEHIND}){{2,}}"


def _finder_of_banners(banners: list[_Banner]) -> Finder:
    tests = [(banner.sign, re.compile(f"{_AROUND}(?:{banner.line})"), banner.longest) for banner in banners]

    def find(lower: str) -> list[tuple[int, int]]:
        spans = set()
        for sign, line, longest in tests:
            place = lower.find(sign)
            while place >= 0:
                start, end = lower.rfind("\n", 0, place), lower.find("\n", place)
                if end - start - 1 <= longest and line.fullmatch(lower, start + 1, end):
                    spans.add((start, end))
                place = lower.find(sign, end)
        return sorted(spans)

    return find


def _without_templates(text: str) -> str:
    """But for text with blocks of code, where they may be meant."""
    if not any(sign in text for sign in ("{{", "{%", "${")) or "```" in text:
        return text
    for _ in range(_NESTED):
        after = _TEMPLATES.sub(_unless_indented, text)
        if after == text:
            break
        text = after
    return text


def _unless_indented(template: re.Match[str]) -> str:
    """Nothing; the template itself on a line of code, which four spaces or a tab begin."""
    text = template.string
    start = text.rfind("\n", 0, template.start()) + 1
    return template[0] if text.startswith(("    ", "\t"), start) else ""
