"""Arrows point to nouns: who may import whom (DESIGN section 3)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import convsync

ROOT = Path(convsync.__file__).parent

NOUNS = {"convsync.model", "convsync.errors"}
MAY = {
    "convsync.model": set(),
    "convsync.errors": {"convsync.model"},  # for type checkers only
    "convsync.normalise": NOUNS,
    "convsync.net": NOUNS | {"convsync"},
    "convsync.workers": set(),
    "convsync.config": NOUNS | {"convsync.config"},
    "convsync.sources": NOUNS | {"convsync.normalise", "convsync.sources"},
    "convsync.destinations": NOUNS | {"convsync.normalise", "convsync.net", "convsync.destinations"},
    "convsync.mapping": NOUNS | {"convsync.normalise", "convsync.destinations"},
    "convsync.ledger": NOUNS | {"convsync", "convsync.normalise", "convsync.ledger"},
    "convsync.run": NOUNS | {"convsync.ledger"},
    "convsync.uploads": NOUNS | {"convsync.destinations", "convsync.ledger", "convsync.run", "convsync.workers"},
    "convsync.settling": NOUNS | {"convsync.ledger", "convsync.run", "convsync.uploads"},
    "convsync.watch": NOUNS | {"convsync.ledger", "convsync.run", "convsync.uploads"},
    "convsync.rehearsal": NOUNS | {"convsync.ledger", "convsync.run", "convsync.uploads"},
    "convsync.sync": NOUNS
    | {
        "convsync.sources",
        "convsync.mapping",
        "convsync.ledger",
        "convsync.run",
        "convsync.uploads",
        "convsync.settling",
        "convsync.watch",
        "convsync.rehearsal",
    },
    "convsync.costs": NOUNS | {"convsync.normalise", "convsync.costs"},
    "convsync.report": NOUNS | {"convsync.normalise", "convsync.report"},
    "convsync.sandbox": {"convsync.sandbox"},
}
KNOW_EVERYTHING = ("convsync.cli", "convsync.demo", "convsync.__main__")


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            found.add(node.module or "")
    return {name for name in found if name.split(".")[0] == "convsync"}


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_module_imports_only_what_its_room_may_know(module: str, path: Path) -> None:
    if module == "convsync" or module.startswith(KNOW_EVERYTHING):
        return
    allowed = MAY[room(module)]
    assert {name for name in imports(path) if room(name) not in allowed} == set()


def test_the_engine_and_the_mapping_know_seams_not_names() -> None:
    for name in ("sync.py", "uploads.py", "rehearsal.py", "run.py", "mapping.py"):
        deep = {one for one in imports(ROOT / name) if one.startswith(("convsync.destinations.", "convsync.sources."))}
        assert deep == set()


def test_destinations_do_not_know_each_other() -> None:
    for module, path in modules():
        if module.startswith("convsync.destinations."):
            own = ".".join(module.split(".")[:3])
            others = {
                name for name in imports(path) if name.startswith("convsync.destinations.") and not name.startswith(own)
            }
            assert others == set(), module


def test_sql_lives_in_the_ledger_and_in_the_sql_source() -> None:
    rooms = {room(module) for module, path in modules() if "sqlite3" in path.read_text()}
    assert rooms <= {"convsync.ledger", "convsync.sources", "convsync.demo", "convsync.cli"}
