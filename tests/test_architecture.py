"""Who may import whom: only downward, by the table in docs/architecture.md. Run with -s to see the map."""

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "polyana"
DOCUMENT = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
OPEN_TO_ALL = {"errors", "config", "storage", "tracking"}  # floor 0


def floors() -> dict[str, int]:
    rows = re.findall(r"^\| (\d) \| (.+?) \|", DOCUMENT, re.MULTILINE)
    return {room.strip(): int(floor) for floor, rooms in rows for room in rooms.split(",")}


def neighbours() -> set[tuple[str, str]]:
    """Arrows between rooms of one floor that the document draws as `a` -> `b`."""
    return set(re.findall(r"`(\w+)` -> `(\w+)`", DOCUMENT))


def imports() -> dict[tuple[str, str], list[str]]:
    """(room, room it imports) -> the files that do."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module == "polyana":
                modules += [f"polyana.{alias.name}" for alias in node.names]
            for module in modules:
                parts = module.split(".")
                if parts[0] == "polyana" and len(parts) > 1 and parts[1] != room:
                    found.setdefault((room, parts[1]), []).append(str(path.relative_to(PROJECT)))
    return found


def test_rooms_import_only_downward():
    level, arrows = floors(), neighbours()
    wrong = []
    for (room, other), files in sorted(imports().items()):
        print(f"{room} (floor {level.get(room)}) -> {other} (floor {level.get(other)})")
        if room in ("__main__", "__init__"):
            continue
        assert room in level, f"{room} has no floor in docs/architecture.md"
        down = level[other] < level[room] or (level[other] == level[room] and (room, other) in arrows)
        if not down:
            wrong.append(f"{room} -> {other} in {', '.join(files)}")
    assert not wrong, "\n".join(wrong)


def test_no_arrow_is_drawn_that_nobody_uses():
    assert neighbours() == {arrow for arrow in imports() if floors().get(arrow[0]) == floors().get(arrow[1])}


def test_neighbours_make_no_circle():
    left = set(neighbours())
    while left:
        leaves = {arrow for arrow in left if all(arrow[1] != start for start, _ in left)}
        assert leaves, f"these rooms import each other in a circle: {left}"
        left -= leaves


@pytest.mark.parametrize("room", ["corpus", "parallel"])
def test_text_needs_no_torch(room):
    import subprocess
    import sys

    code = f"import sys, polyana.{room}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
