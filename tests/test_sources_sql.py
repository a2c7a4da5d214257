"""A real SQLite file behind the source: nothing is lost at page borders, between pages, or behind the mark."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.errors import SourceError, SourceUnavailable
from convsync.model import Cart, Item
from convsync.sources import Page, Window
from convsync.sources.marks import Mark, beyond, is_future, load, start
from convsync.sources.sql import SqlSource

NOW = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
DAY = "2026-03-01"


class Shop:
    """A shop's database: `events(id, action, occurred_at, changed)` with an index in the order of the keys."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as base:
            base.execute("CREATE TABLE events (id INTEGER, action TEXT, occurred_at TEXT, changed, email TEXT)")
            base.execute("CREATE INDEX by_change ON events (changed, id)")
            base.commit()

    def run(self, sql: str, *rows: tuple[object, ...]) -> None:
        with closing(sqlite3.connect(self.path)) as base, base:
            base.executemany(sql, rows or [()])

    def add(self, *rows: tuple[object, object]) -> None:
        """Rows of (id, changed)."""
        insert = "INSERT INTO events (id, action, occurred_at, changed) VALUES (?, 'lead', '2026-03-01T09:00:00Z', ?)"
        self.run(insert, *rows)

    def source(self, **options: Any) -> SqlSource:
        given = {"table": "events", "id": "id", "cursor": "changed", "now": lambda: NOW, **options}
        if "query" in options:
            del given["table"]
        return SqlSource("shop", url=f"sqlite:///{self.path}", **given)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop.db")


def ids(pages: list[Page]) -> list[str]:
    return [action.external_id for page in pages for action in page.actions]


def codes(pages: list[Page]) -> list[str]:
    return [finding.code for page in pages for finding in page.findings]


def kept(pages: list[Page], cursors: dict[str, str] | None = None) -> dict[str, str]:
    return {**(cursors or {}), **dict(page.cursor for page in pages if page.cursor)}


# --- what cannot be read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"table": "nope"}, "no such table: nope"),
        ({"query": "SELECT id, action FRM events"}, "syntax error"),
        ({"query": "SELECT id, action, nope FROM events"}, "no such column: nope"),
        ({"query": "SELECT * FROM events WHERE id = ?"}, "binding"),
        ({"query": "SELECT *, load_extension('x') AS gclid FROM events"}, "not authorized"),
        ({"cursor": "chaged"}, "Did you mean changed"),
        ({"fields": {"gclid": "nope"}}, "no column nope"),
        ({"options": {"time_out": 1}}, "Did you mean timeout"),
    ],
)
def test_what_somebody_has_to_change_is_a_source_error(shop: Shop, options: dict[str, Any], problem: str) -> None:
    shop.add((1, 1))
    source = shop.source(**options)
    with pytest.raises(SourceError, match=problem):
        list(source.read({}))
    [finding] = source.check()
    assert finding.level == "error"


@pytest.mark.parametrize(
    "options",
    [
        {"query": "DELETE FROM events"},
        {"query": "/* SELECT */ UPDATE events SET id = 1"},
        {"query": None},
        {"table": "events; DROP TABLE events"},
        {"cursor": 'x" OR 1'},
        {"fields": {"gclid": "a b"}},
        {"id": "id) --"},
    ],
)
def test_names_are_plain_and_a_query_is_a_select(shop: Shop, options: dict[str, Any]) -> None:
    with pytest.raises(SourceError):
        shop.source(**options)


@pytest.mark.parametrize(
    "query",
    ["SELECT * FROM events); DELETE FROM events; --", "SELECT * FROM pragma_table_info('events')"],
)
def test_a_query_can_do_nothing_but_read(shop: Shop, query: str) -> None:
    shop.add((1, 1))
    with pytest.raises(SourceError):
        list(shop.source(query=query).read({}))
    assert ids(list(shop.source().read({}))) == ["1"]


@pytest.mark.parametrize(
    "url", ["postgresql://u:hunter2@h/b", "mysql+pymysql://u:hunter2@h/b", "hunter2", "sqlite://", "sqlite:///"]
)
def test_other_databases_are_not_in_this_version_and_no_password_is_told(url: str) -> None:
    with pytest.raises(SourceError) as caught:
        list(SqlSource("shop", url=url, table="t").read({}))
    assert "hunter2" not in str(caught.value)


def test_a_missing_database_is_unavailable_and_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"no database gone\.db"):
        list(SqlSource("shop", url="sqlite:///gone.db", base=tmp_path, table="t").read({}))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_a_source_error(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database " * 100)
    with pytest.raises(SourceError, match="not a database"):
        list(SqlSource("shop", url="sqlite:///x.db", base=tmp_path, table="t").read({}))


def test_a_locked_database_is_unavailable(shop: Shop) -> None:
    shop.add((1, 1))
    with closing(sqlite3.connect(shop.path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SourceUnavailable, match="locked"):
            list(shop.source(options={"timeout": 0}).read({}))
    assert ids(list(shop.source().read({}))) == ["1"]


def test_text_that_is_no_utf8_spoils_its_row_only_and_is_never_shown(shop: Shop) -> None:
    shop.add((1, 1), (2, 2), (3, 3))
    shop.run("UPDATE events SET email = CAST(x'69766170ff' AS TEXT) WHERE id = 2")
    [page] = list(shop.source().read({}))
    assert [action.external_id for action in page.actions] == ["1", "3"]
    [bad] = page.bad
    assert (bad.where, bad.field) == ("row id 2 of source shop", "email")
    assert "iva" not in "".join(bad)


def test_a_bad_row_is_put_aside_and_the_cursor_goes_on(shop: Shop) -> None:
    shop.add((1, 1), (None, 2), (3, 3))
    shop.run("UPDATE events SET occurred_at = 'ivan@mail.ru' WHERE id = 3")
    [page] = list(shop.source().read({}))
    assert [(bad.where, bad.field) for bad in page.bad] == [
        ("a row without a readable id of source shop", "external_id"),
        ("row id 3 of source shop", "occurred_at"),
    ]
    assert "ivan" not in page.bad[1].problem
    assert page.cursor is not None


def test_an_id_that_is_a_contact_is_not_shown(shop: Shop) -> None:
    shop.add((1, 1))
    shop.run("UPDATE events SET email = 'ivan@mail.ru', occurred_at = 'x'")
    [page] = list(shop.source(id="email").read({}))
    assert "ivan" not in "".join(page.bad[0])


# --- pages --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_rows", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("indexed", [True, False])
def test_ties_at_the_cursor_are_read_once_each_across_pages(shop: Shop, page_rows: int, indexed: bool) -> None:
    if not indexed:
        shop.run("DROP INDEX by_change")
    shop.add(*((number, number // 10) for number in range(50)))
    pages = list(shop.source(page_rows=page_rows).read({}))
    assert ids(pages) == [str(number) for number in range(50)]
    assert max(len(page.actions) for page in pages) <= max(page_rows, 1)


@pytest.mark.parametrize("page_rows", [1, 2, 3, 4])
def test_rows_that_share_cursor_and_id_are_never_cut_in_two(shop: Shop, page_rows: int) -> None:
    """A deal's lead and sale may be two rows with one id, written by one transaction."""
    shop.add(*[(1, 5)] * 3, *[(2, 5)] * 2, (3, 6))
    assert sorted(ids(list(shop.source(page_rows=page_rows).read({})))) == ["1", "1", "1", "2", "2", "3"]


@pytest.mark.parametrize("page_rows", [1, 2, 3])
def test_rows_without_an_id_do_not_hide_their_neighbours(shop: Shop, page_rows: int) -> None:
    shop.add((None, 1), (None, 1), (1, 1), (2, 1), (None, 2), (3, 2))
    pages = list(shop.source(page_rows=page_rows).read({}))
    assert ids(pages) == ["1", "2", "3"]
    assert sum(len(page.bad) for page in pages) == 3


def test_a_row_that_is_edited_between_two_pages_is_not_lost(shop: Shop) -> None:
    shop.add(*((number, number) for number in range(10)))
    found: list[str] = []
    for number, page in enumerate(shop.source(page_rows=3).read({})):
        found += [action.external_id for action in page.actions]
        if number == 0:
            shop.run("UPDATE events SET changed = 100 WHERE id IN (1, 5, 9)")
    assert set(found) == {str(number) for number in range(10)}
    assert found.count("1") == 2


def test_a_writer_is_not_kept_waiting_between_pages(shop: Shop) -> None:
    shop.add(*((number, number) for number in range(10)))
    pages = shop.source(page_rows=3).read({})
    next(pages)
    with closing(sqlite3.connect(shop.path, timeout=0)) as writer, writer:
        writer.execute("DELETE FROM events WHERE id = 9")
    assert "9" not in ids(list(pages))


def test_several_id_columns_make_one_key(shop: Shop) -> None:
    shop.add(*((number % 3, 5) for number in range(12)))
    shop.run("UPDATE events SET email = rowid")
    query = "SELECT id AS deal, email AS stage, action, occurred_at, changed FROM events"
    pages = list(shop.source(query=query, id=["deal", "stage"], page_rows=5).read({}))
    assert len(set(ids(pages))) == 12
    assert ids(pages)[0] == "0:1"


def test_ids_that_a_collation_holds_equal_stay_two_rows(shop: Shop) -> None:
    shop.run("CREATE TABLE t (id TEXT COLLATE NOCASE, action, occurred_at, changed)")
    shop.run("INSERT INTO t VALUES (?, 'lead', '2026-03-01T09:00:00Z', 1)", *[(word,) for word in ("a", "A", "b", "B")])
    assert sorted(ids(list(shop.source(table="t", page_rows=1).read({})))) == ["A", "B", "a", "b"]


def test_without_a_cursor_everything_is_read_on_every_run_and_nothing_is_kept(shop: Shop) -> None:
    shop.add(*((number, None) for number in range(5)))
    source = shop.source(cursor=None, page_rows=2)
    for _ in range(2):
        pages = list(source.read({}))
        assert ids(pages) == ["0", "1", "2", "3", "4"]
        assert kept(pages) == {}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM events",
        "select id, action, occurred_at, changed from events where action = 'lead' -- leads\n",
        "SELECT * FROM events;",
    ],
)
def test_the_wrapped_query_uses_the_index_and_sorts_nothing(shop: Shop, query: str) -> None:
    shop.add((1, 1))
    source = shop.source(query=query)
    with closing(source._open()) as base:
        select = source._select(base, with_cursor=True)
        after = beyond(select.keys, [1, 1])
        plan = [str(step[-1]) for step in base.rows(f"EXPLAIN QUERY PLAN {select.page(after)}", (*after.values, 10))]
    assert plan == ["SEARCH events USING INDEX by_change (changed>?)"]


def test_check_names_a_missing_index_and_bad_rows_and_is_silent_otherwise(shop: Shop) -> None:
    shop.add((1, 1), (2, 2))
    assert shop.source().check() == []
    shop.run("DROP INDEX by_change")
    shop.run("UPDATE events SET occurred_at = '2026-03-01 10:00:00' WHERE id = 2")
    assert [finding.code for finding in shop.source().check()] == ["no_index", "bad_rows"]


# --- the mark -----------------------------------------------------------------------------------------------------------

MARKS = [
    (1772355600, 1772355600 - 900),
    (1772355600.5, 1772355600.5 - 900),
    (1772355600123, 1772355600123 - 900_000),
    ("1772355600", "1772354700"),
    ("2026-03-01 12:10:00", "2026-03-01 11:55:00"),
    ("2026-03-01 12:10", "2026-03-01 11:55"),
    ("2026-03-01T00:10:00.123456Z", "2026-02-28T23:55:00.123456Z"),
    ("2026-03-01T12:10:00+03:00", "2026-03-01T11:55:00+03:00"),
    ("2026-03-01", "2026-02-28"),
    ("v17", None),
    ("2026-99-01", None),
    ("0001-01-01 00:00:00", None),
]


@pytest.mark.parametrize(("mark", "expected"), MARKS)
def test_the_next_run_starts_the_overlap_before_the_mark_in_its_own_shape(mark: Any, expected: Any) -> None:
    assert start(mark, timedelta(minutes=15), None) == expected


def test_a_whole_number_as_overlap_counts_what_the_cursor_counts() -> None:
    assert start(1000, 10, None) == 990
    assert start("2026-03-01 12:00:10", 10, None) == "2026-03-01 12:00:00"
    assert start(1000, timedelta(seconds=10), None) == 990


def test_in_the_hour_that_happens_twice_the_overlap_grows_by_that_hour() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert start("2026-10-25 02:50:00", timedelta(0), berlin) == "2026-10-25 01:50:00"
    assert start("2026-10-25 03:10:00", timedelta(0), berlin) == "2026-10-25 03:10:00"
    assert start("2026-10-25 02:50:00Z", timedelta(0), berlin) == "2026-10-25 02:50:00Z"


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.text()))
def test_a_mark_is_kept_exactly_as_it_was_read(value: Any) -> None:
    mark = load(Mark("changed", value, [1]).dump(), "shop")
    assert (mark.cursor, type(mark.cursor)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["", "x", "{}", '{"v": 2, "column": "a", "cursor": 1, "id": []}', '{"v": 1, "cursor": null}', "[]"]
)
def test_a_mark_of_another_version_is_refused_rather_than_misread(text: str) -> None:
    with pytest.raises(SourceError, match="stored cursor"):
        load(text, "shop")


@pytest.mark.parametrize(
    ("value", "future"),
    [
        (NOW + 3600, False),
        (NOW + 90000, True),
        (int(NOW * 1000) + 90_000_000, True),
        ("2099-01-01 00:00:00", True),
        ("2026-06-02T00:00:00", False),
        ("9999999999", True),
        (500, False),
        ("v17", False),
    ],
)
def test_a_mark_more_than_a_day_ahead_is_known_as_such(value: Any, future: bool) -> None:
    assert is_future(value, NOW) is future


def test_a_second_run_reads_the_overlap_again_and_a_late_commit_with_it(shop: Shop) -> None:
    shop.add((1, f"{DAY} 10:00:00"), (2, f"{DAY} 11:00:00"), (3, f"{DAY} 11:10:00"))
    cursors = kept(list(shop.source().read({})))
    assert json.loads(cursors[""]) == {"v": 1, "column": "changed", "cursor": f"{DAY} 11:10:00", "id": [3]}
    shop.add((0, f"{DAY} 11:05:00"), (4, f"{DAY} 11:10:00"))
    pages = list(shop.source().read(cursors))
    assert ids(pages) == ["2", "0", "3", "4"]


def test_the_mark_never_goes_back_and_without_news_it_stays(shop: Shop) -> None:
    shop.add(*((number, f"{DAY} 11:{number:02}:00") for number in range(10)))
    cursors = kept(list(shop.source().read({})))
    pages = list(shop.source(page_rows=2).read(cursors))
    assert len(ids(pages)) == 10
    assert kept(pages) == {}
    shop.run("DELETE FROM events WHERE id > 5")
    assert kept(list(shop.source().read(cursors))) == {}


def test_every_page_carries_how_far_it_got(shop: Shop) -> None:
    shop.add(*((number, number) for number in range(5)))
    marks = [json.loads(page.cursor[1])["cursor"] for page in shop.source(page_rows=2).read({}) if page.cursor]
    assert marks == sorted(marks)
    assert marks[-1] == 4


def test_rows_without_a_cursor_value_are_counted_aloud(shop: Shop) -> None:
    shop.add((1, 1), (2, None), (3, None))
    pages = list(shop.source().read({}))
    assert ids(pages) == ["1"]
    [finding] = [finding for page in pages for finding in page.findings]
    assert (finding.level, finding.code) == ("warning", "null_cursor")
    assert "2 rows" in finding.message


def test_a_row_from_the_future_is_read_but_does_not_carry_the_mark_away(shop: Shop) -> None:
    shop.add((1, f"{DAY} 10:00:00"), (2, "2099-01-01 00:00:00"))
    first = list(shop.source().read({}))
    assert ids(first) == ["1", "2"]
    assert codes(first) == ["future_cursor"]
    shop.add((3, f"{DAY} 11:00:00"))
    assert "3" in ids(list(shop.source().read(kept(first))))


@pytest.mark.parametrize("page_rows", [1, 2, 100])
def test_text_that_is_no_time_is_read_but_does_not_carry_the_mark_away(shop: Shop, page_rows: int) -> None:
    shop.add((1, f"{DAY} 10:00:00"), (2, "n/a"), (3, "yesterday"))
    first = list(shop.source(page_rows=page_rows).read({}))
    assert ids(first) == ["1", "2", "3"]
    assert codes(first) == ["odd_cursor"]
    shop.add((4, f"{DAY} 11:00:00"))
    second = list(shop.source(page_rows=page_rows).read(kept(first)))
    assert {"2", "3", "4"} <= set(ids(second))
    assert codes(second) == ["odd_cursor"]


def test_a_mark_that_text_carried_away_is_given_up(shop: Shop) -> None:
    shop.add((1, f"{DAY} 10:00:00"), (2, f"{DAY} 11:00:00"))
    pages = list(shop.source().read({"": Mark("changed", "n/a", [2]).dump()}))
    assert codes(pages) == ["cursor_changed"]
    assert ids(pages) == ["1", "2"]


def test_numbers_among_text_in_the_cursor_are_an_error_finding(shop: Shop) -> None:
    shop.add((1, 1772355600), (2, f"{DAY} 10:00:00"))
    assert codes(list(shop.source().read({}))) == ["mixed_cursor"]


def test_a_cursor_that_no_longer_fits_starts_again_from_the_beginning(shop: Shop) -> None:
    shop.add((1, f"{DAY} 10:00:00"), (2, f"{DAY} 11:00:00"))
    cursors = kept(list(shop.source().read({})))
    other = list(shop.source(cursor="id").read(cursors))
    assert codes(other) == ["cursor_changed"]
    assert ids(other) == ["1", "2"]
    shop.run("UPDATE events SET changed = id")
    assert ids(list(shop.source().read(cursors))) == ["1", "2"]


def test_a_cursor_of_unknown_text_is_read_from_the_mark_with_a_warning(shop: Shop) -> None:
    shop.add((1, "v1"), (2, "v2"))
    cursors = kept(list(shop.source().read({})))
    shop.add((3, "v2"), (4, "v3"))
    pages = list(shop.source().read(cursors))
    assert ids(pages) == ["2", "3", "4"]
    assert codes(pages) == ["no_overlap"]


def test_a_blob_as_cursor_is_a_source_error(shop: Shop) -> None:
    shop.add((1, b"x"))
    with pytest.raises(SourceError, match="neither numbers nor text"):
        list(shop.source().read({}))


# --- a window -----------------------------------------------------------------------------------------------------------

WINDOW = Window(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))


def _moments() -> Iterator[tuple[int, datetime]]:
    """One every six hours, from two days before the window to two days after it."""
    first = datetime(2026, 2, 27, tzinfo=UTC)
    return ((number, first + timedelta(hours=6 * number)) for number in range(24))


@pytest.mark.parametrize(
    "written",
    [
        lambda moment: moment.isoformat(),
        lambda moment: moment.isoformat(sep=" "),
        lambda moment: moment.astimezone(ZoneInfo("Asia/Kamchatka")).isoformat(),
        lambda moment: moment.astimezone(ZoneInfo("America/Los_Angeles")).isoformat(sep=" "),
        lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S"),
        lambda moment: int(moment.timestamp()),
        lambda moment: int(moment.timestamp() * 1000),
        lambda moment: str(int(moment.timestamp())),
        lambda moment: moment.timestamp(),
    ],
)
@pytest.mark.parametrize("kind", ["TEXT", "DATETIME", "INTEGER", ""])
def test_a_window_finds_exactly_its_rows_whatever_times_look_like(shop: Shop, written: Any, kind: str) -> None:
    shop.run(f"CREATE TABLE w (id INTEGER PRIMARY KEY, action TEXT, occurred_at {kind})")
    shop.run("INSERT INTO w VALUES (?, 'lead', ?)", *((number, written(moment)) for number, moment in _moments()))
    expected = [str(number) for number, moment in _moments() if WINDOW.since <= moment < WINDOW.until]
    source = shop.source(table="w", cursor=None, page_rows=2, timezone=UTC)
    assert ids(list(source.read({}, WINDOW))) == expected


def test_a_window_neither_uses_nor_yields_cursors(shop: Shop) -> None:
    shop.add((1, 1), (2, None))
    pages = list(shop.source().read({"": "rubbish"}, WINDOW))
    assert ids(pages) == ["1", "2"]
    assert kept(pages) == {}


def test_a_window_over_a_written_format_is_cut_by_python(shop: Shop) -> None:
    shop.add((1, 1), (2, 2))
    shop.run("UPDATE events SET occurred_at = CASE id WHEN 1 THEN '01.03.2026 10:00' ELSE '02.03.2026 10:00' END")
    source = shop.source(occurred_format="%d.%m.%Y %H:%M", timezone=UTC)
    assert ids(list(source.read({}, WINDOW))) == ["1"]


def test_custom_variables_and_carts_come_from_columns_of_the_query(shop: Shop) -> None:
    shop.add((1, DAY), (2, DAY))
    query = (
        "SELECT *, CASE id WHEN 1 THEN 'gold' END AS tariff, "
        """CASE id WHEN 1 THEN '[{"id": "sku-1", "quantity": 2, "price": 199.9}]' END AS cart FROM events"""
    )
    (page,) = shop.source(query=query, custom_variables={"plan": "tariff"}).read({})
    assert [action.custom_variables for action in page.actions] == [(("plan", "gold"),), ()]
    assert [action.cart for action in page.actions] == [Cart((Item("sku-1", 2, Decimal("199.9")),)), None]
    with pytest.raises(SourceError, match="has no column tarif"):
        list(shop.source(query=query, custom_variables={"plan": "tarif"}).read({}))
    with pytest.raises(SourceError, match="is not a plain column name"):
        shop.source(query=query, custom_variables={"plan": 'tariff" --'})
