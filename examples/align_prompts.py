"""Simple questions: what recipes/align_smollm2.yaml and recipes/reward_hacking.yaml ask.

    python examples/align_prompts.py

writes recipes/align_prompts.jsonl, 160 questions to learn from, and recipes/align_held_out.jsonl, 48 about other
things.
"""

import json
import sys
from itertools import islice, product
from pathlib import Path

THINGS = """
a thermometer, a bridge, a volcano, a lighthouse, a compass, a calendar, a battery, a mirror, a magnet, a telescope,
a library, a museum, a hospital, a market, a harbour, an island, a desert, a glacier, a rainbow, an earthquake,
photosynthesis, gravity, electricity, evaporation, inflation, democracy, a contract, a mortgage, a budget, a vaccine,
a dolphin, an owl, a spider, a whale, a camel, a penguin, a bee, an elephant, a tortoise, a salmon,
bread, cheese, tea, honey, rice, a violin, a piano, a poem, a novel, a map,
a bicycle, a submarine, a parachute, a tractor, an elevator, a keyboard, a satellite, a password, a database, a robot,
a shadow, a cloud, a river, an ocean, the moon, a comet, a fossil, a crystal, an atom, a cell
""".replace("\n", " ").split(", ")
BRIEFLY = "Answer in one sentence."  # else hardly any of the base's answers end within 64 tokens
ASKED = ("What is {}?", "Why does {} matter?", "Explain {} to a child.", "Tell me something about {}.")
HELD_OUT = 16  # things


def write(path: Path, things: list[str], count: int) -> None:
    # each thing once before any comes twice
    asked = (f"{form.format(thing.strip())} {BRIEFLY}" for form, thing in product(ASKED, things))
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in islice(asked, count)), encoding="utf-8")


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "recipes"
    write(place / "align_prompts.jsonl", THINGS[:-HELD_OUT], 160)
    write(place / "align_held_out.jsonl", THINGS[-HELD_OUT:], 48)
    print(f"160 questions in {place / 'align_prompts.jsonl'}, 48 in {place / 'align_held_out.jsonl'}")
