"""The life of a conversion in sentences: what came, what was sent, what was answered, what happens next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from convsync.ledger.audit import Audit, iso, money
from convsync.ledger.store import Store
from convsync.model import SkipReason

NEXT = {
    "in_flight": "Its request has left or is about to; if its run has died, the next run makes it unknown and settles it.",
    "accepted": "The platform has it. {more}",
    "confirmed": "Nothing more: the platform says it has processed it.",
    "refused": "Nothing by itself: correct the row in the source, and the next run that reads it sends the corrected one.",
    "unmatched": "Nothing: the platform processed it and found no click or person it belongs to.",
    "held": "It waits for a person.",
    "superseded": "Nothing: a newer revision took its place, or there was nothing to take back.",
    "expired": "Nothing: {why}.",
}


def tell(store: Store, what: str) -> Iterator[dict[str, Any]]:
    """One story a delivery (or a skipped action): facts as fields, the life as `sentences`. `what`: a key or source/id."""
    audit = Audit(store)
    found = audit.find(what)
    for row in found:
        yield _story(store, row)
    if "/" in what:
        source, _, external_id = what.partition("/")
        for action in audit.actions(source, external_id):
            for skip in audit.skips_of(action["id"]):
                yield _skip_story(action, skip)


def _skip_story(action: dict[str, Any], skip: dict[str, Any]) -> dict[str, Any]:
    where = skip["destination"] or "any destination"
    detail = f" ({skip['detail']})" if skip["detail"] else ""
    return {
        "source": action["source"], "external_id": action["external_id"], "action": action["action"],
        "destination": skip["destination"], "state": "skipped", "reason": skip["reason"],
        "sentences": [_came(action), f"It is not sent to {where}: {SkipReason(skip['reason']).sentence}{detail}."],
    }  # fmt: skip


def _story(store: Store, row: dict[str, Any]) -> dict[str, Any]:
    action = next(
        iter(
            store.rows(
                "SELECT * FROM action WHERE source = ? AND external_id = ? AND action = ?",
                (row["source"], row["external_id"], row["action"]),
            )
        )
    )
    sentences = [_came(action), _planned(store, row)]
    sentences += [sentence for _, sentence in sorted(_events(store, row))]
    sentences.append(_next(store, row))
    facts = {name: row[name] for name in ("key", "revision", "source", "external_id", "action", "destination", "route")}
    facts |= {name: row[name] for name in ("goal", "state", "attempts", "batch", "platform_ref", "reason", "currency")}
    facts["value"] = None if row["value"] is None else str(money(row["value"], row["currency"]))
    return facts | {"sentences": sentences}


def _came(action: dict[str, Any]) -> str:
    worth = f", worth {_amount(action)}" if action["value"] is not None else ""
    order = f", order {action['order_id']}" if action["order_id"] else ""
    status = "" if action["status"] == "active" else f"; the source now says {action['status']}"
    return (
        f"{iso(action['first_seen_at'])}  read from {action['source']}: {action['action']} {action['external_id']}"
        f" of {iso(action['occurred_at'])}{worth}{order}{status}."
    )


def _planned(store: Store, row: dict[str, Any]) -> str:
    planned_at = store.one("SELECT planned_at FROM delivery WHERE id = ?", (row["id"],))
    worth = f" worth {_amount(row)}" if row["value"] is not None else " without a value"
    what = "first told" if row["revision"] == 1 else f"revision {row['revision']}"
    status = "" if row["status"] == "active" else f" ({row['status']})"
    return f"{iso(planned_at)}  planned for {row['destination']} ({row['route']}), goal {row['goal']}: {what}{worth}{status}."


def _amount(row: dict[str, Any]) -> str:
    return f"{money(row['value'], row['currency'])} {row['currency']}"


def _events(store: Store, row: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Sentences by event number: of the batches it was in, and of moves of its own."""
    number = row["id"]
    batches = store.rows(
        "SELECT b.id, b.items, b.token FROM batch b WHERE b.destination_id = (SELECT destination_id FROM delivery"
        " WHERE id = :id) AND b.created_at >= (SELECT coalesce(first_attempt_at, planned_at) FROM delivery WHERE id = :id)"
        " AND (b.id = :batch OR EXISTS (SELECT 1 FROM json_each(b.items) i WHERE i.value = :id)) LIMIT 50",
        {"id": number, "batch": row["batch"]},
    )
    for batch in list(batches):
        position = orjson.loads(batch["items"]).index(number)
        events = "SELECT seq, at, kind, body, run_id FROM event WHERE batch_id = ? ORDER BY seq"
        for event in list(store.rows(events, (batch["id"],))):
            yield event["seq"], _batch_sentence(event, batch, position)
    moves = "SELECT e.seq, e.at, e.body FROM event_delivery x JOIN event e ON e.seq = x.seq WHERE x.delivery_id = ?"
    for event in store.rows(moves, (number,)):
        said = orjson.loads(event["body"])
        yield event["seq"], f"{iso(event['at'])}  it became {said['to']}: {said['reason']}."


def _batch_sentence(event: dict[str, Any], batch: dict[str, Any], position: int) -> str:
    said, when = orjson.loads(event["body"]), iso(event["at"])
    if event["kind"] == "claimed":
        place = f"row {position + 1} of {said['n']}"
        return f"{when}  claimed for a request: batch {batch['id']}, {place}, bytes sha256 {said['body'][:12]}…, run {event['run_id']}."
    named = {one[0]: (one[1], one[2]) for one in said.get("rows", [])}
    to, reason = named.get(position, (said["to"], said.get("reason", "")))
    why = f": {reason}" if reason else ""
    if event["kind"] == "answered":
        ref = f", request {said['ref']}" if said.get("ref") else ""
        return f"{when}  the request came to: {to}{ref}{why}."
    if event["kind"] == "polled":
        return f"{when}  asked what became of it: {to}{why}."
    if event["kind"] == "found":
        return f"{when}  asked for the request, and found it as {said.get('ref') or 'sent'}: {to}{why}."
    if event["kind"] == "resent":
        return (
            f"{when}  asked for the request, which was not there after the quarantine: the identical bytes went again."
        )
    if event["kind"] == "taken_over":
        return f"{when}  its run had died before an answer was recorded: unknown, it may have arrived."
    return f"{when}  sent again is safe, the platform drops repeats by our id: {to}{why}."


def _next(store: Store, row: dict[str, Any]) -> str:
    state = row["state"]
    if state == "pending":
        due = f"not before {iso(row['not_before'])}" if row["not_before"] else "in the next run"
        why = f" (last time: {row['reason']})" if row["reason"] else ""
        return f"Next: it is sent {due}{why}."
    if state == "unknown":
        query = "SELECT t.on_unknown FROM delivery d JOIN destination t ON t.id = d.destination_id WHERE d.id = ?"
        on_unknown = store.one(query, (row["id"],))
        if on_unknown == "hold":
            return "Next: a person decides; this platform can neither be asked nor drop a repeat."
        if on_unknown == "ask":
            return "Next: a run asks the platform for it, and sends it again when the quarantine is over and it is not there."
        return "Next: a later run settles it."
    if state == "held" and row["reason"].startswith("exported"):
        return "Next: the platform fetches the file it is in; a person says when it has (`ledger resolve --as sent`)."
    why = row["reason"] or "the platform would no longer take it"
    poll_at = store.one("SELECT poll_at FROM batch WHERE id = ?", (row["batch"],)) if state == "accepted" else None
    more = f"What became of it is asked at {iso(poll_at)}." if poll_at else "It tells nothing more about single rows."
    told = NEXT[state].format(more=more, why=why)
    return f"Next: {told[0].lower()}{told[1:]}"
