"""ClientIDs and yclids that a spreadsheet rounded: none is refused, many at once are told."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.errors import SourceUnavailable
from convsync.model import Action, Finding
from convsync.sources import Page, Window
from convsync.sources.delimited import CsvSource
from convsync.sources.fields import FieldMap
from convsync.sources.rounded import Rounded
from convsync.sources.sql import SqlSource

NOON = datetime(2026, 3, 1, 9, tzinfo=UTC)
GENUINE = [f"16{number:08d}123456789"[:19] for number in range(1000)]
ROUNDED = [f"16{number:013d}0000" for number in range(1000)]


def seen(*pages: list[str | None], field: str = "ym_client_id") -> tuple[Finding, ...]:
    rounded = Rounded(FieldMap("shop", {}))
    for page in pages:
        told: list[dict[str, Any]] = [{field: id_} for id_ in page]
        rounded.look([Action("shop", "1", "lead", NOON, **one) for one in told])
    return rounded.findings()


def counts(found: tuple[Finding, ...]) -> list[str]:
    return [" ".join(one.message.split()[:3]) for one in found]


def export(path: Path, ids: list[str], column: str = "ym_client_id", *, first: int = 0) -> None:
    lines = [f"{number},lead,2026-03-01T09:00:00Z,{id_}" for number, id_ in enumerate(ids, first)]
    path.write_text("\n".join([f"external_id,action,occurred_at,{column}", *lines, ""]), "utf-8")
    os.utime(path, (1, 1))


def csv(folder: Path, **options: Any) -> CsvSource:
    return CsvSource("shop", **{"path": "*.csv", "base": folder, **options})


def told(pages: list[Page]) -> list[str]:
    return [finding.code for page in pages for finding in page.findings]


# -- what is told


@pytest.mark.parametrize("field", ["ym_client_id", "yclid"])
@pytest.mark.parametrize("digits", [17, 18, 19, 20])
def test_ids_with_nothing_but_zeros_behind_their_15th_digit_are_told_in_numbers(field: str, digits: int) -> None:
    page: list[str | None] = [*GENUINE[:60], *[id_[:15].ljust(digits, "0") for id_ in ROUNDED[:40]], None]
    (found,) = seen(page, field=field)
    assert (found.level, found.code, found.where) == ("warning", "rounded_ids", "source shop")
    assert found.message.startswith(
        f"40 of 100 ids in the column {field} have nothing but zeros behind their 15th digit"
    )
    assert "Metrica will find nobody" in found.message
    assert "convsync backfill --since D --until D --source shop" in found.advice


def test_the_column_is_named_as_the_operator_calls_it_and_no_id_is_shown(tmp_path: Path) -> None:
    export(tmp_path / "a.csv", ROUNDED[:30], "client")
    (found,) = csv(tmp_path, fields={"ym_client_id": "client"}).check()
    assert "30 of 30 ids in the column client (ym_client_id)" in found.message
    assert not any(id_ in f"{found.message} {found.advice}" for id_ in ROUNDED[:30])


def test_one_bad_export_among_good_ones_is_told_once(tmp_path: Path) -> None:
    for number in range(20):
        ids = ROUNDED[:80] if number == 7 else GENUINE[:100]
        export(tmp_path / f"{number:02d}.csv", ids, first=number * 1000)
    pages = list(csv(tmp_path, page_rows=40).read({}))
    assert counts(tuple(finding for page in pages for finding in page.findings)) == ["80 of 80"]
    assert sum(len(page.actions) for page in pages) == 1980, "none is refused"


def test_a_few_rows_a_page_are_judged_together() -> None:
    assert seen(*[[id_] for id_ in ROUNDED[:19]]) == ()
    assert counts(seen(*[[id_] for id_ in ROUNDED[:20]])) == ["20 of 20"]


def test_both_columns_are_told_each_by_itself(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as base, base:
        base.execute("CREATE TABLE deals (external_id, action, occurred_at, ym_client_id, yclid)")
        rows = [
            (number, "lead", "2026-03-01T09:00:00Z", int(ROUNDED[number]), ROUNDED[number] if number % 2 else None)
            for number in range(50)
        ]
        base.executemany("INSERT INTO deals VALUES (?, ?, ?, ?, ?)", rows)
    source = SqlSource("shop", url=f"sqlite:///{tmp_path}/shop.db", table="deals")
    day = Window(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))
    for pages in (list(source.read({})), list(source.read({}, day)), [Page([], [], None, tuple(source.check()))]):
        found = tuple(finding for page in pages for finding in page.findings if finding.code == "rounded_ids")
        assert counts(found) == ["50 of 50", "25 of 25"]
        assert "ym_client_id" in found[0].message


def test_a_source_that_fails_on_its_way_tells_what_it_saw(tmp_path: Path) -> None:
    export(tmp_path / "a.csv", ROUNDED[:30])
    (tmp_path / "b.csv").symlink_to(tmp_path / "gone.csv")
    pages = csv(tmp_path).read({})
    assert told([next(pages), next(pages)]) == ["rounded_ids"]
    with pytest.raises(SourceUnavailable):
        next(pages)


# -- what is not


def test_genuine_ids_short_ones_and_words_are_not_told() -> None:
    assert seen([*GENUINE]) == ()
    assert seen([id_[:16] for id_ in ROUNDED]) == ()
    assert seen(["100000000000000", "1600000000"] * 50) == ()
    assert seen([f"{'x' * 17}00"] * 50) == ()


def test_a_quarter_is_not_yet_enough_and_one_more_is() -> None:
    assert seen([*GENUINE[:75], *ROUNDED[:25]]) == ()
    assert counts(seen([*GENUINE[:74], *ROUNDED[:26]])) == ["26 of 100"]


DIGITS = st.text("0123456789", min_size=15, max_size=20)


@given(st.lists(st.one_of(DIGITS, DIGITS.map(lambda id_: id_[:15] + "0" * len(id_[15:])), st.none()), max_size=80))
def test_a_page_is_judged_as_if_each_id_were_looked_at(ids: list[str | None]) -> None:
    long = [id_ for id_ in ids if id_ and len(id_) > 16]
    rounded = [id_ for id_ in long if int(id_[15:]) == 0]
    telling = len(long) >= 20 and len(rounded) * 4 > len(long)
    assert counts(seen(ids)) == ([f"{len(rounded)} of {len(long)}"] if telling else [])
