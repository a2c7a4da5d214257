"""The sandbox's page: what each platform counted, as one self-contained document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

_STYLE = """
:root { --ink:#1d2733; --soft:#64748b; --line:#e3e8ef; --card:#fff; --page:#f5f7fa; --good:#0f7b4f;
        --warn:#a15c00; --bad:#b3261e; --accent:#2f5bd7 }
* { box-sizing:border-box }
body { margin:0; background:var(--page); color:var(--ink);
       font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif }
main { max-width:1060px; margin:0 auto; padding:28px 24px 56px }
header { display:flex; align-items:baseline; justify-content:space-between; gap:16px; flex-wrap:wrap }
h1 { font-size:24px; margin:0; letter-spacing:-.01em }
h2 { font-size:18px; margin:0 0 14px }
h3 { font-size:13px; margin:20px 0 6px; color:var(--soft); font-weight:600 }
p { margin:4px 0; color:var(--soft) }
a { color:var(--accent); text-decoration:none } a:hover { text-decoration:underline }
section { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:20px 22px;
          margin-top:18px; overflow-x:auto }
dl { display:flex; flex-wrap:wrap; gap:6px 30px; margin:0 }
dl div { min-width:72px } dt { color:var(--soft); font-size:13px } dd { margin:0; font-size:20px;
     font-weight:600; font-variant-numeric:tabular-nums }
table { border-collapse:collapse; width:100%; font-size:14px; font-variant-numeric:tabular-nums }
th { text-align:left; font-weight:600; color:var(--soft); font-size:12.5px; padding:5px 12px 5px 0;
     border-bottom:1px solid var(--line); white-space:nowrap }
td { padding:6px 12px 6px 0; border-bottom:1px solid var(--line); vertical-align:top }
tr:last-child td { border-bottom:0 }
.n { text-align:right } th.n { text-align:right }
code { font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace; word-break:break-all }
.good { color:var(--good) } .warn { color:var(--warn) } .bad { color:var(--bad) } .soft { color:var(--soft) }
"""
_RECENT = 25
_NUMERIC = {
    "conversions", "adjustments", "retracted", "rows", "orders", "reaches", "hits", "attributed", "lost", "value",
    "income", "revenue", "fired", "ms", "requests", "events", "count", "without id",
}  # fmt: skip


class Html(str):
    """Text that is HTML already. Everything else is escaped on its way into a tag."""


def tag(name: str, *children: object, **attributes: str) -> Html:
    inner = "".join(child if isinstance(child, Html) else escape(str(child)) for child in children)
    given = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>{inner}</{name}>")


def render(books: Mapping[str, Any], requests: list[dict[str, Any]]) -> str:
    links = [
        tag("a", name, href=f"/_sandbox/{name}")
        for name in ("books.json", "requests.json", "config", "faults", "clock")
    ]
    main = tag(
        "main",
        tag("header", tag("h1", "convsync sandbox"), tag("p", *_between(links, " · "))),
        tag("p", f"What the emulated platforms counted, as of {_time(books['now'])} on the sandbox's clock."),
        _google(books["google"], books["ads"]["rows"].values()),
        _yandex(books["yandex"]),
        _vk(books["vk"]),
        _faults(books["faults"]),
        _traffic(books, requests),
    )
    head = tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width">'),
        tag("title", "convsync sandbox"),
        tag("style", Html(_STYLE)),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", main), lang="en")


def _google(books: Mapping[str, Any], ads: Iterable[Mapping[str, int]]) -> Html:
    """Both ways in together: `ads` are the rows of each method of the Ads API."""
    totals = books["totals"]
    taken, refused = (sum(one[word] for one in (totals["rows"], *ads)) for word in ("accepted", "refused"))
    figures = {
        "Conversions": totals["conversions"],
        "Value": _money(totals["value"]),
        "Adjustments": totals["adjustments"],
        "Rows accepted": taken,
        "Rows refused": _mark(refused, "warn"),
        "Failed in all": _mark(totals["errors"], "warn"),
    }
    actions = [
        {
            "account": account,
            "conversion action": action,
            "conversions": book["conversions"],
            "value": _money(book["value"]),
            "adjustments": book["adjustments"],
            "retracted": book["retracted"],
            "rows": book["rows"],
            "without id": _mark(book["without_transaction_id"], "warn"),
            "failed": _counts(book["errors"]),
        }
        for account, found in books["accounts"].items()
        for action, book in found.items()
    ]
    return _section("Google", figures, _table("By conversion action", actions))


def _yandex(books: Mapping[str, Any]) -> Html:
    totals = books["totals"]
    figures = {
        "Orders": totals["orders"],
        "Revenue of paid": _money(totals["revenue"]),
        "Goals reached": totals["goals"],
        "Not linked": _mark(totals["orders"] - totals["linked"], "warn"),
        "Uploads": totals["uploads"],
        "Rows": totals["rows"],
    }
    states = [
        {"counter": counter, "status now": name, "orders": count, "revenue": _money(book["revenue"][name])}
        for counter, book in books["counters"].items()
        for name, count in book["statuses"].items()
    ]
    goals = [
        {"counter": counter, "goal": name, "reaches": goal["reaches"], "income": _money(goal["income"])}
        for counter, book in books["counters"].items()
        for name, goal in book["goals"].items()
    ]
    tables = (_table("Orders by status", states), _table("Goals", goals))
    return _section("Yandex.Metrica, CRM orders", figures, *tables)


def _vk(books: Mapping[str, Any]) -> Html:
    totals = books["totals"]
    figures = {
        "Hits": totals["hits"],
        "Attributed": totals["attributed"],
        "Lost": _mark(totals["lost"], "bad"),
        "Value": _grouped(totals["value"]),
        "Persons (VID)": totals["persons"],
        "Persons glued": _mark(books["glued_persons"], "bad"),
    }
    goals = [
        {
            "pixel": pixel,
            "goal": goal,
            "hits": book["hits"],
            "attributed": book["attributed"],
            "lost": _mark(book["lost"], "bad"),
            "value": _grouped(book["value"]),
        }
        for pixel, found in books["pixels"].items()
        for goal, book in found.items()
    ]
    lost = [{"why a hit was lost": reason, "hits": count} for reason, count in books["lost"].items()]
    return _section("VK pixel", figures, _table("By goal", goals), _table("Lost", lost))


def _faults(faults: list[dict[str, Any]]) -> Html:
    rows = [
        {
            "on": tag("code", fault["on"]),
            "kind": fault["kind"],
            "status": fault["status"] or "",
            "times": "for ever" if fault["times"] is None else fault["times"],
            "rate": "" if fault["rate"] is None else fault["rate"],
            "fired": fault["fired"],
            "": _activity(fault),
        }
        for fault in faults
    ]
    if not rows:
        return tag("section", tag("h2", "Faults"), tag("p", "None ordered."))
    return tag("section", tag("h2", "Faults"), _table("", rows))


def _activity(fault: Mapping[str, Any]) -> Html:
    active = fault["times"] is None or fault["fired"] < fault["times"]
    return tag("span", "active" if active else "spent", class_="warn" if active else "soft")


def _traffic(books: Mapping[str, Any], requests: list[dict[str, Any]]) -> Html:
    by_operation = [
        {"operation": tag("code", name), "requests": sum(counts.values()), "answers": _counts(counts)}
        for name, counts in books["requests"].items()
    ]
    recent = [
        {
            "time": _time(entry["at"]),
            "operation": tag("code", entry["operation"]),
            "rows": "" if entry["rows"] is None else entry["rows"],
            "answer": _answer(entry),
            "outcome": entry["note"],
            "ms": entry["ms"],
        }
        for entry in reversed(requests[-_RECENT:])
    ]
    unmatched = books["unmatched_requests"]
    said = tag("p", f"{unmatched} to addresses that no platform has.", class_="bad") if unmatched else Html("")
    shown = (_table("By operation", by_operation), _table(f"The last {len(recent)}", recent))
    return tag("section", tag("h2", "Requests"), said, *shown)


def _answer(entry: Mapping[str, Any]) -> Html:
    status, fault = entry["status"], entry["fault"]
    good = status == "OK" or (isinstance(status, int) and 0 < status < 300)
    refused = isinstance(status, int) and 300 <= status < 500
    tone = "good" if good else "warn" if refused else "bad"
    said = str(status) if status else "no answer"
    return tag("span", f"{said} ({fault})" if fault else said, class_=tone)


def _section(title: str, figures: Mapping[str, object], *tables: Html) -> Html:
    shown = [tag("div", tag("dt", name), tag("dd", value)) for name, value in figures.items()]
    return tag("section", tag("h2", title), tag("dl", *shown), *tables)


def _table(title: str, rows: list[dict[str, object]]) -> Html:
    if not rows:
        return Html("")
    classes = {name: "n" if name in _NUMERIC else "" for name in rows[0]}
    head = tag("tr", *(tag("th", name.capitalize(), class_=kind) for name, kind in classes.items()))
    lines = [tag("tr", *(tag("td", row[name], class_=kind) for name, kind in classes.items())) for row in rows]
    table = tag("table", tag("thead", head), tag("tbody", *lines))
    return Html(tag("h3", title) + table) if title else table


def _money(sums: Mapping[str, str]) -> str:
    return " + ".join(f"{_grouped(value)}\u00a0{currency}".strip() for currency, value in sums.items()) or "0"


def _grouped(value: str) -> str:
    whole, dot, rest = value.partition(".")
    sign = "-" if whole.startswith("-") else ""
    return sign + f"{int(whole.lstrip('-') or 0):,}".replace(",", "\u202f") + dot + rest


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} \u00d7 {count}" for name, count in counts.items())


def _mark(count: int, tone: str) -> Html:
    return tag("span", count, class_=tone if count else "")


def _time(text: str) -> str:
    return text[:19].replace("T", " ") + " UTC"


def _between(items: Iterable[Html], separator: str) -> list[Html]:
    found: list[Html] = []
    for item in items:
        found += [Html(escape(separator)), item] if found else [item]
    return found
