"""The sandbox's page: what each platform counted, as one self-contained document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
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
    "by orders", "by offline conversions", "linked rows", "pairs", "new", "refreshes", "refused at the limit", "deleted",
    "dead ones used", "expired ones used", "more than once", "days", "bad values", "of that attributed",
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
        _section(
            "Yandex.Direct, reports",
            {name.replace("_", " ").capitalize(): count for name, count in books["direct"]["totals"].items()},
            _table("", [{"client": name, **sums} for name, sums in books["direct"]["sums"].items()]),
        ),
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
    totals, counters = books["totals"], books["counters"].items()
    offline = totals["offline"]
    figures = {
        "Orders": totals["orders"],
        "Revenue of paid": _money(totals["revenue"]),
        "Goals of orders": totals["goals"],
        "Orders not linked": _mark(totals["orders"] - totals["linked"], "warn"),
        "Offline conversions": offline["conversions"],
        "Their revenue": _money(offline["revenue"]),
        "Not linked": _mark(offline["unlinked"], "warn"),
        "Uploads": totals["uploads"] + offline["uploads"],
        "Rows": totals["rows"] + offline["rows"],
    }
    states = [
        {"counter": counter, "status now": name, "orders": count, "revenue": _money(book["revenue"][name])}
        for counter, book in counters
        for name, count in book["statuses"].items()
    ]
    tables = (
        _table("Goals", [row for counter, book in counters for row in _goals(counter, book)]),
        _table("Orders by status", states),
        _table(*_latest("Orders", [row for counter, book in counters for row in _orders(counter, book)])),
        _table(*_latest("Offline conversions", [row for counter, book in counters for row in _offline(counter, book)])),
        _table(
            *_latest("Uploads of offline conversions", [r for counter, book in counters for r in _files(counter, book)])
        ),
    )
    return _section("Yandex.Metrica", figures, *tables)


def _goals(counter: str, book: Mapping[str, Any]) -> Iterable[dict[str, object]]:
    """One line for a goal, whichever way it was reached: who sends both ways sees it here."""
    nothing = {"reaches": 0, "income": {}, "revenue": {}}
    for name in sorted({*book["goals"], *book["offline"]["goals"]}):
        order, hit = book["goals"].get(name, nothing), book["offline"]["goals"].get(name, nothing)
        yield {
            "counter": counter,
            "goal": name,
            "by orders": order["reaches"],
            "income": _money(order["income"]) if order["reaches"] else "",
            "by offline conversions": hit["reaches"],
            "revenue": _money(hit["revenue"]) if hit["reaches"] else "",
        }


def _orders(counter: str, book: Mapping[str, Any]) -> Iterable[dict[str, object]]:
    for name, order in book["orders"].items():
        worth = {order["currency"]: order["revenue"]} if order["revenue"] else {}
        yield {
            "counter": counter,
            "order": tag("code", name),
            "created": _time(order["created"]),
            "states": " \u2192 ".join(version["status"] for version in order["versions"] if version["changed"]),
            "revenue": _money(worth),
            "goals reached": ", ".join(order["goals"]),
            "linked": _yes(order["linked"]),
        }


def _offline(counter: str, book: Mapping[str, Any]) -> Iterable[dict[str, object]]:
    for one in book["offline"]["conversions"]:
        moment = datetime.fromtimestamp(one["datetime"], UTC)
        yield {
            "counter": counter,
            "goal": one["target"],
            "by": one["kind"],
            "id": tag("code", one["id"]),
            "at": f"{moment:%Y-%m-%d %H:%M:%S} UTC",
            "revenue": _money({one["currency"] or "": one["price"]}) if one["price"] else "",
            "count": one["count"],
            "linked": _yes(one["linked"], one["why_not"]),
        }


def _files(counter: str, book: Mapping[str, Any]) -> Iterable[dict[str, object]]:
    for one in book["offline"]["uploads"]:
        yield {
            "counter": counter,
            "upload": one["id"],
            "comment": tag("code", one["comment"]),
            "ids": one["client_id_type"],
            "rows": f"{one['rows']} of {one['source']}",
            "linked rows": one["linked"],
            "status": tag(
                "span", one["status"], class_={"PROCESSED": "good", "LINKAGE_FAILURE": "bad"}.get(one["status"], "")
            ),
        }


def _latest(title: str, rows: list[dict[str, object]]) -> tuple[str, list[dict[str, object]]]:
    """The newest first, and not all of very many."""
    told = title if len(rows) <= _RECENT else f"{title}: the last {_RECENT} of {len(rows)}"
    return told, rows[: -_RECENT - 1 : -1]


def _yes(linked: bool, why_not: str = "") -> Html:
    return tag("span", "yes" if linked else why_not or "no", class_="good" if linked else "warn")


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
            "of that attributed": _grouped(book["attributed_value"]),
            "bad values": _mark(book["bad_values"], "warn"),
            "campaigns": _counts({plan: one["attributed"] for plan, one in book["by_ad_plan"].items()}),
        }
        for pixel, found in books["pixels"].items()
        for goal, book in found.items()
    ]
    days = [
        {"day": day, "pixel": pixel, "goal": goal}
        | {"hits": one["hits"], "attributed": one["attributed"], "value": _grouped(one["value"])}
        for pixel, found in books["pixels"].items()
        for goal, book in found.items()
        for day, one in book["by_day"].items()
    ]
    lost = [{"why a hit was lost": reason, "hits": count} for reason, count in books["lost"].items()]
    days.sort(key=lambda row: str(row["day"]))
    tables = (_table("By goal", goals), _table(*_latest("By day of arrival in Moscow", days)), _table("Lost", lost))
    return Html(_section("VK pixel", figures, *tables) + _vk_api(books))


def _vk_api(books: Mapping[str, Any]) -> Html:
    """What needs a token: nothing of it is shown before somebody asked for one."""
    lists, leads, users = books["lists"], books["leads"]["totals"], books["token_users"]
    if not users:
        return Html("")
    figures = {
        "Tokens": books["tokens"],
        "Offline lists": lists["totals"]["lists"],
        "Their rows": lists["totals"]["rows"],
        "Contacts and days": lists["totals"]["contacts"],
        "Lists refused": _mark(sum(lists["totals"]["refused"].values()), "warn"),
        "Leads": leads["leads"],
        "Pages of leads read": leads["pages"],
    }
    tokens = [
        {
            "tokens of": tag("code", user),
            "pairs": one["pairs"],
            "new": one["new"],
            "refreshes": one["refreshes"],
            "refused at the limit": _mark(one["refused"], "bad"),
            "deleted": _mark(one["deleted"], "warn"),
            "dead ones used": _mark(one["dead_used"] + one["dead_refresh_used"], "bad"),
            "expired ones used": _mark(one["expired_used"], "warn"),
        }
        for user, one in users.items()
    ]
    shown = [
        {
            "list": one["id"],
            "of": tag("code", one["user"]),
            "name": one["name"],
            "type": one["type"],
            "days": one["attribution_period"],
            "rows": one["rows"],
            "more than once": _mark(sum(count > 1 for count in one["by_contact"].values()), "warn"),
            "status": tag("span", one["load_status"], class_="good" if one["load_status"] == "matched" else ""),
        }
        for one in lists["lists"].values()
    ]
    refused = [
        {"why a list was refused": code, "requests": count} for code, count in lists["totals"]["refused"].items()
    ]
    tables = (
        _table("Tokens", tokens),
        _table(*_latest("Offline lists", shown)),
        _table("Lists refused", refused),
    )
    return _section("VK API", figures, *tables)


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
