"""Real text, and what comes of it when it is spoiled: what rules are held to."""

import random

__all__ = ["ODD", "texts"]

ODD = [
    "", " ", "\n", "a", "...", "\r\n\r\n a \u2028 b…\x85c\n\n\nd\n\n", "- - -\n• x\n-y", "no\u00a0break\u3000space",
    "cannot don't dont U.S.A. http://a.b/c?d=e ’tis e.g., 10km (a)b/c “x” т.е. и т.д. 1-й кто-то",
    "#" * 40 + " ... " * 40,
    "\n\nx\n\nx\n\n", "ab c a bc abc " * 20, "ﬁ ß İstanbul Ёлка e\u0301 😀 👍🏽 \U0001f1f7\U0001f1fa",
    "\x00\x1f\x7f\ufeff z",
]  # fmt: skip


def texts(shared_data, language):
    """Real text, and what comes of it when it is repeated, listed and cut to pieces."""
    draws = random.Random(0)
    if language == "ru":
        paths = sorted((shared_data / "rus_prose" / "Tolstoy").glob("*.txt"))[:6]
    else:
        paths = [shared_data / "eng_tinyshakespeare" / "input.txt"]
        paths += sorted(path for path in (shared_data / "html_extraction_cc").rglob("*") if path.is_file())[:40]
    found = []
    for path in paths:
        text = path.read_text(errors="replace")[:30_000]
        found += [text[at : at + 3000] for at in range(0, len(text), 3000)]
    for text in draws.sample(found, 20):
        lines, words = text.split("\n"), text.split() or ["a"]
        found += [
            "\n".join(draws.choices(lines, k=len(lines))), "\n\n".join(draws.choices(lines, k=8)),
            "- " + "\n- ".join(lines), "...\n".join(lines), " # ".join(words),
            " ".join(draws.choices(words, k=80) * draws.randint(1, 4)), " ".join(words[:60]),
            " ".join("".join(draws.choices(text, k=draws.randint(1, 30))) for _ in range(70)),
        ]  # fmt: skip
    return found + ODD
