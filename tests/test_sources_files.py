"""CSV and JSON lines from a folder: what is new is read, what is damaged is told, what is half written waits."""

from __future__ import annotations

import gzip
import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.errors import SourceError, SourceUnavailable
from convsync.model import Action
from convsync.sources import Page, Window
from convsync.sources.delimited import CsvSource
from convsync.sources.files import State, _first_undecodable
from convsync.sources.jsonl import JsonlSource

NOW = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
OLD = NOW - 3600
TIME = "2026-03-01T09:00:00Z"
HEADER = "external_id,action,occurred_at\n"


def csv_source(folder: Path, **options: Any) -> CsvSource:
    return CsvSource("shop", **{"path": "*.csv", "base": folder, "now": lambda: NOW, **options})


def jsonl_source(folder: Path, **options: Any) -> JsonlSource:
    return JsonlSource("shop", **{"path": "*.jsonl", "base": folder, "now": lambda: NOW, **options})


def write(path: Path, content: str | bytes, age: float = OLD) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.utime(path, (age, age))
    return path


def rows(*ids: object) -> str:
    return HEADER + "".join(f"{number},lead,{TIME}\n" for number in ids)


def ids(pages: list[Page]) -> list[str]:
    return [action.external_id for page in pages for action in page.actions]


def bad(pages: list[Page]) -> list[tuple[str, str]]:
    return [(row.where, row.field) for page in pages for row in page.bad]


def codes(pages: list[Page]) -> list[str]:
    return [finding.code for page in pages for finding in page.findings]


def kept(pages: list[Page]) -> dict[str, str]:
    return dict(page.cursor for page in pages if page.cursor)


# --- which files --------------------------------------------------------------------------------------------------------


def test_no_matching_file_is_a_warning_and_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    assert codes(list(csv_source(tmp_path).read({}))) == ["no_file"]
    assert [finding.code for finding in csv_source(tmp_path).check()] == ["no_file"]
    with pytest.raises(SourceUnavailable, match=r"no folder .*exports\."):
        list(csv_source(tmp_path, path="exports/*.csv").read({}))
    assert [finding.level for finding in csv_source(tmp_path, path="exports/*.csv").check()] == ["error"]


def test_files_are_read_in_the_order_of_their_names_below_the_base(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write(tmp_path / "b" / "2.csv", rows(2))
    write(tmp_path / "b" / "1.csv", rows(1))
    (tmp_path / "b" / "folder.csv").mkdir()
    pages = list(csv_source(tmp_path, path="**/*.csv").read({}))
    assert ids(pages) == ["1", "2"]
    assert list(kept(pages)) == ["b/1.csv", "b/2.csv"]


def test_the_name_in_a_cursor_does_not_depend_on_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.csv", rows(1))
    (tmp_path / "else[where]").mkdir()
    for folder in (tmp_path, tmp_path / "else[where]"):
        monkeypatch.chdir(folder)
        assert list(kept(list(csv_source(tmp_path, path=str(tmp_path / "*.csv"), base=None).read({})))) == ["a.csv"]
    write(tmp_path / "else[where]" / "b.csv", rows(2))
    assert list(kept(list(csv_source(tmp_path / "else[where]", base=None).read({})))) == ["b.csv"]


def test_one_bad_file_never_stops_the_rest(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", rows(1))
    write(tmp_path / "2.csv", "id\n5\n")
    (tmp_path / "3.csv").symlink_to(tmp_path / "gone.csv")
    write(tmp_path / "4.csv", rows(4))
    pages: list[Page] = []
    with pytest.raises(SourceUnavailable, match=r"3\.csv: No such file"):
        pages.extend(csv_source(tmp_path).read({}))
    source = csv_source(tmp_path)
    (tmp_path / "3.csv").unlink()
    pages = list(source.read({}))
    assert ids(pages) == ["1", "4"]
    [finding] = [finding for page in pages for finding in page.findings]
    assert (finding.level, finding.where) == ("error", "2.csv")
    assert list(kept(pages)) == ["1.csv", "4.csv"]


def test_a_vanished_file_is_told_after_the_others_were_read(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", rows(1))
    write(tmp_path / "2.csv", rows(2))
    pages = csv_source(tmp_path).read({})
    found = [next(pages)]
    (tmp_path / "2.csv").unlink()
    with pytest.raises(SourceUnavailable, match=r"2\.csv"):
        found.extend(pages)
    assert ids(found) == ["1"]


# --- what is new --------------------------------------------------------------------------------------------------------


def test_a_file_that_is_as_it_was_is_not_read_even_if_it_was_touched(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", rows(1, 2))
    source = csv_source(tmp_path)
    cursors = kept(list(source.read({})))
    assert list(source.read(cursors)) == []
    os.utime(path, (OLD + 5, OLD + 5))
    assert list(source.read(cursors)) == []


def test_a_file_that_changed_is_read_wholly(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", rows(1, 2))
    source = csv_source(tmp_path)
    cursors = kept(list(source.read({})))
    write(path, rows(1, 3), OLD + 5)  # of the same size
    pages = list(source.read(cursors))
    assert ids(pages) == ["1", "3"]
    assert kept(pages) != cursors


@pytest.mark.parametrize("state", ["", "x", "[]", "{}", '{"v": 2, "size": 1, "mtime_ns": 1, "sha256": ""}'])
def test_a_state_that_cannot_be_read_means_read_again(tmp_path: Path, state: str) -> None:
    write(tmp_path / "a.csv", rows(1))
    assert ids(list(csv_source(tmp_path).read({"a.csv": state}))) == ["1"]


def test_only_the_last_page_of_a_file_carries_its_state(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", rows(*range(5)))
    pages = list(csv_source(tmp_path, page_rows=2).read({}))
    assert [len(page.actions) for page in pages] == [2, 2, 1]
    assert [page.cursor is None for page in pages] == [True, True, False]
    state = State.load(kept(pages)["a.csv"])
    assert state is not None
    assert state.size == len(rows(*range(5)))


def test_a_file_that_changes_while_it_is_read_is_read_again_next_time(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", rows(*range(5)))
    source = csv_source(tmp_path, page_rows=2)
    reading = source.read({})
    pages = [next(reading)]
    write(path, rows(*range(6)), OLD + 5)
    pages += list(reading)
    assert kept(pages) == {}
    assert codes(pages) == ["file_unfinished"]
    assert ids(list(source.read({}))) == ["0", "1", "2", "3", "4", "5"]


def test_a_file_that_is_replaced_while_it_is_read_is_read_again_next_time(tmp_path: Path) -> None:
    """A rename gives the same name, size and time to another file."""
    write(tmp_path / "a.csv", rows(*range(5)))
    other = write(tmp_path / "next", rows(5, 6, 7, 8, 9))
    reading = csv_source(tmp_path, page_rows=2).read({})
    pages = [next(reading)]
    other.replace(tmp_path / "a.csv")
    pages += list(reading)
    assert kept(pages) == {}


def test_a_window_reads_every_file_and_neither_uses_nor_yields_cursors(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", rows(1) + "2,lead,2026-03-02T00:00:00Z\n3,lead,never\n")
    source = csv_source(tmp_path)
    cursors = kept(list(source.read({})))
    window = Window(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))
    pages = list(source.read(cursors, window))
    assert ids(pages) == ["1"]
    assert kept(pages) == {}
    assert bad(pages) == [("a.csv:4", "occurred_at")]


# --- half written -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["3,lead", f"3,lead,{TIME}", '3,"le', f'3,"lead",{TIME[:10]}'])
def test_a_last_line_without_an_end_waits_while_the_csv_file_is_young(tmp_path: Path, last: str) -> None:
    write(tmp_path / "a.csv", rows(1, 2) + last, NOW - 5)
    pages = list(csv_source(tmp_path).read({}))
    assert ids(pages) == ["1", "2"]
    assert bad(pages) == []
    assert kept(pages) == {}
    assert codes(pages) == ["file_unfinished"]


def test_a_last_line_without_an_end_counts_once_the_csv_file_is_quiet(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", rows(1) + f"2,lead,{TIME}")
    pages = list(csv_source(tmp_path).read({}))
    assert ids(pages) == ["1", "2"]
    assert list(kept(pages)) == ["a.csv"]
    write(tmp_path / "a.csv", rows(1) + '2,"lead')
    assert bad(list(csv_source(tmp_path).read({}))) == [("a.csv:3", "row")]


def test_a_half_written_last_json_line_is_left_for_the_next_run(tmp_path: Path) -> None:
    line = json.dumps({"external_id": 1, "action": "lead", "occurred_at": TIME})
    write(tmp_path / "a.jsonl", f"{line}\n\n{line[:20]}")
    pages = list(jsonl_source(tmp_path).read({}))
    assert (ids(pages), bad(pages), kept(pages), codes(pages)) == (["1"], [], {}, ["file_unfinished"])
    write(tmp_path / "a.jsonl", f"{line}\n{line}")
    assert ids(list(jsonl_source(tmp_path).read({}))) == ["1", "1"]


def test_compressed_files_are_read_and_a_truncated_one_waits(tmp_path: Path) -> None:
    whole = gzip.compress(rows(*range(1000)).encode(), mtime=0)
    write(tmp_path / "a.csv.gz", whole)
    source = csv_source(tmp_path, path="*.csv.gz")
    pages = list(source.read({}))
    assert len(ids(pages)) == 1000
    assert list(source.read(kept(pages))) == []
    write(tmp_path / "a.csv.gz", whole[:-20])
    pages = list(source.read({}))
    assert (codes(pages), kept(pages)) == (["file_unfinished"], {})


def test_what_is_no_gzip_is_an_error_of_its_file(tmp_path: Path) -> None:
    write(tmp_path / "a.csv.gz", rows(1))
    write(tmp_path / "b.csv.gz", gzip.compress(rows(2).encode(), mtime=0))
    pages = list(csv_source(tmp_path, path="*.gz").read({}))
    assert codes(pages) == ["file_unreadable"]
    assert ids(pages) == ["2"]


# --- text ---------------------------------------------------------------------------------------------------------------


def problem(folder: Path, **options: Any) -> str:
    """The one finding about the one file of a folder."""
    [finding] = [finding for page in csv_source(folder, **options).read({}) for finding in page.findings]
    assert finding.level == "error"
    assert [seen.code for seen in csv_source(folder, **options).check()] == ["file_unreadable"]
    return finding.sentence()


def test_bytes_of_another_encoding_are_told_by_offset_and_line(tmp_path: Path) -> None:
    content = (rows(1) + f"2,лид,{TIME}\n").encode("cp1251")
    write(tmp_path / "a.csv", content)
    told = problem(tmp_path)
    assert f"byte {content.index(b'2,') + 2}, on line 3" in told
    assert "cp1251" in told
    assert ids(list(csv_source(tmp_path, encoding="cp1251").read({}))) == ["1", "2"]


@given(st.binary(max_size=40), st.integers(1, 7), st.sampled_from(["utf-8-sig", "utf-8", "cp1251", "utf-16-le"]))
def test_the_offset_is_that_of_the_whole_file_however_it_comes_in_blocks(data: bytes, size: int, encoding: str) -> None:
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    try:
        data.decode(encoding.replace("-sig", ""))
    except UnicodeDecodeError as error:
        offset, line = _first_undecodable(iter(blocks), encoding)
        assert offset == error.start
        assert encoding == "utf-16-le" or line == data[: error.start].count(b"\n") + 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("external_id,action,action,occurred_at\n", "two columns are named action"),
        ("external_id;action;occurred_at\n", 'delimiter = ";"'),
        ("id,action,occurred_at\n", "no column external_id"),
        ('external_id,"act"ion\n', "not CSV"),
    ],
)
def test_a_header_that_cannot_be_used_is_an_error_of_its_file(tmp_path: Path, content: str, told: str) -> None:
    write(tmp_path / "a.csv", content)
    assert told in problem(tmp_path)


def test_a_mapped_column_that_the_header_lacks_is_named_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", rows(1).replace("action", "kinds"))
    assert "no column kind. Did you mean kinds?" in problem(tmp_path, fields={"action": "kind"})


def test_lines_that_are_no_rows_are_put_aside_by_their_physical_line(tmp_path: Path) -> None:
    lines = [
        f'1,"le\nad",{TIME}',  # lines 2 and 3
        "2,lead",  # 4
        "",
        f"3,lead,{TIME},x",  # 6
        f'4,"le"ad,{TIME}',  # 7
        f"1.5E+10,lead,{TIME}",  # 8
        f"6,lead,{TIME}",
    ]
    write(tmp_path / "a.csv", HEADER + "\n".join(lines) + "\n")
    pages = list(csv_source(tmp_path).read({}))
    assert ids(pages) == ["1", "6"]
    assert sorted(bad(pages)) == [
        ("a.csv:4", "row"),
        ("a.csv:6", "row"),
        ("a.csv:7", "row"),
        ("a.csv:8", "external_id"),
    ]
    assert list(kept(pages)) == ["a.csv"]


def test_a_quotation_mark_that_swallows_lines_says_which(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", HEADER + f'1,"lead,{TIME}\n2,lead,{TIME}\n3,"lead",{TIME}\n4,lead,{TIME}\n')
    pages = list(csv_source(tmp_path).read({}))
    assert ids(pages) == ["4"]
    [row] = [row for page in pages for row in page.bad]
    assert "lines 2 to 4" in row.problem


def test_bad_lines_alone_still_make_a_page(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", HEADER + "1\n2\n3\n")
    pages = list(csv_source(tmp_path, page_rows=2).read({}))
    assert len(bad(pages)) == 3
    assert list(kept(pages)) == ["a.csv"]
    assert [finding.code for finding in csv_source(tmp_path).check()] == ["bad_rows"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "cp1251", "utf-16"])
def test_a_spreadsheet_of_russia_is_read(tmp_path: Path, encoding: str) -> None:
    text = "номер;вид;когда;сумма;валюта;имя\r\n7;sale;01.03.2026;1 234,50;rub;Иван\r\n"
    write(tmp_path / "a.csv", text.encode("utf-8-sig" if encoding == "utf-8" else encoding))
    fields = {"action": "вид", "occurred_at": "когда", "value": "сумма", "currency": "валюта", "first_name": "имя"}
    clock = datetime(2026, 3, 1, 12).time()
    options = {"occurred_format": "%d.%m.%Y", "time_of_day": clock, "timezone": UTC, "decimal_comma": True}
    source = csv_source(tmp_path, delimiter=";", encoding=encoding, id="номер", fields=fields, **options)
    [page] = list(source.read({}))
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    expected = Action("shop", "7", "sale", noon, value=Decimal("1234.50"), currency="RUB", first_name="Иван")
    assert page.actions == [expected]


def test_identity_does_not_depend_on_the_place_in_the_file(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", rows(1, 2, 3))
    write(tmp_path / "b.csv", rows(3, 1, 2))
    one, other = list(csv_source(tmp_path).read({}))
    assert set(one.actions) == set(other.actions)


# --- json lines ---------------------------------------------------------------------------------------------------------


def objects(folder: Path, *lines: str, **options: Any) -> list[Page]:
    write(folder / "a.jsonl", "".join(f"{line}\n" for line in lines))
    return list(jsonl_source(folder, **options).read({}))


def test_lines_that_are_no_object_are_put_aside_and_not_shown(tmp_path: Path) -> None:
    good = json.dumps({"external_id": "1", "action": "lead", "occurred_at": TIME})
    pages = objects(tmp_path, '{"email": "ivan@mail.ru"', "[]", "7", "", good, '{"email": "\\ud800"}', "\ufeff{}")
    assert ids(pages) == ["1"]
    assert [where for where, _ in bad(pages)] == [f"a.jsonl:{line}" for line in (1, 2, 3, 6, 7)]
    assert "ivan" not in str(pages)


def test_dotted_paths_reach_into_objects_and_a_missing_key_is_an_empty_cell(tmp_path: Path) -> None:
    line = {"id": 1, "deal": {"kind": "sale", "at": TIME}, "contact": {"email": "a@b.ru"}, "meta": 5, "value": 1.1}
    fields = {"action": "deal.kind", "occurred_at": "deal.at", "email": "contact.email", "gclid": "meta.gclid"}
    [page] = objects(tmp_path, json.dumps(line), id="id", fields=fields)
    [action] = page.actions
    assert (action.action, action.email, action.gclid, action.value) == ("sale", "a@b.ru", None, Decimal("1.1"))


def test_a_value_that_is_an_object_is_refused_by_name(tmp_path: Path) -> None:
    line = {"external_id": 1, "action": "lead", "occurred_at": TIME, "gclid": {"value": "x"}}
    [page] = objects(tmp_path, json.dumps(line))
    assert bad([page]) == [("a.jsonl:1", "gclid")]


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 18446744073709551615, 18446744073709551617, 10**24 + 1])
def test_integers_of_any_size_are_ids_to_the_last_digit(tmp_path: Path, number: int) -> None:
    [page] = objects(tmp_path, f'{{"external_id": 1, "action": "lead", "occurred_at": "{TIME}", "yclid": {number}}}')
    assert page.actions[0].yclid == str(number)


def test_a_number_with_an_exponent_is_no_id_in_json_either(tmp_path: Path) -> None:
    [page] = objects(tmp_path, f'{{"external_id": 1, "action": "lead", "occurred_at": "{TIME}", "yclid": 1.23e18}}')
    assert bad([page]) == [("a.jsonl:1", "yclid")]


def test_check_reads_without_keeping_anything(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", rows(1))
    assert csv_source(tmp_path).check() == []
    with pytest.raises(SourceError):
        csv_source(tmp_path, fields={"emial": "x"})
