"""The same libraries used plainly, for comparison: no lanes, no history, no revisions; a ledger by sqlite-utils alone.

Read SQLite → pydantic → phonenumbers and SHA-256 → sqlite-utils (synchronous=FULL) → requests `json=` by 2,000 → mark.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import phonenumbers
import requests
from pydantic import BaseModel
from sqlite_utils import Database


class Row(BaseModel):
    event_id: int
    kind: str
    happened_at: datetime
    amount: Decimal
    currency: str
    gclid: str
    mail: str
    tel: str


def event(row: Row) -> dict[str, object]:
    phone = phonenumbers.format_number(phonenumbers.parse(row.tel, "RU"), phonenumbers.PhoneNumberFormat.E164)
    return {
        "transactionId": f"cs-{row.event_id}",
        "eventTimestamp": row.happened_at.replace(tzinfo=ZoneInfo("Europe/Moscow")).isoformat(),
        "eventSource": "WEB",
        "adIdentifiers": {"gclid": row.gclid},
        "userData": {
            "userIdentifiers": [
                {"emailAddress": hashlib.sha256(row.mail.strip().lower().encode()).hexdigest()},
                {"phoneNumber": hashlib.sha256(phone.encode()).hexdigest()},
            ]
        },
        "conversionValue": float(row.amount),
        "currency": row.currency,
    }


def main(store: str, ledger: str, url: str) -> None:
    source = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    source.row_factory = sqlite3.Row
    db = Database(ledger)
    db.enable_wal()
    db.conn.execute("PRAGMA synchronous = FULL")
    session = requests.Session()
    cursor = source.execute("SELECT * FROM target_actions ORDER BY updated_at, event_id")
    while rows := cursor.fetchmany(2000):
        known = [Row.model_validate(dict(row)) for row in rows]
        events = [event(row) for row in known]
        sent = [{"key": one.event_id, "state": "in_flight", "value": str(one.amount)} for one in known]
        with db.conn:
            db["sent"].insert_all(sent, pk="key", ignore=True)
        body = {"destinations": [{"productDestinationId": "2222222222"}], "events": events, "encoding": "HEX"}
        session.post(f"{url}/v1/events:ingest", json=body, timeout=60).json()
        with db.conn:
            db["sent"].upsert_all([{"key": one.event_id, "state": "accepted"} for one in known], pk="key")


if __name__ == "__main__":
    main(*sys.argv[1:])
