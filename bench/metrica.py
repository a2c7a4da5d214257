"""A whole `convsync sync` through each door of Metrica, beside the script it replaces, in turns.

One file of 100,000 rows goes to a zero-latency sink in another process. The script beside it (`plain`) reads the same rows,
hashes the contacts, writes the CSV with the csv module and posts it with requests: no ledger, no retries, no receipt.
Usage: python bench/metrica.py [ROWS ...] (100000 unless said).
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from throughput import HERE, Figure, counted, measure

TARGETS = {"orders": 'status = "PAID"', "conversions": 'goal = "crm_sale", by = ["client_id"]'}

CONFIG = """
timezone = "Europe/Moscow"
phone_region = "RU"
[ledger]
url = "sqlite:///ledger.db"
[sources.shop]
type = "sql"
url = "sqlite:///shop.db"
table = "sales"
id = "deal"
cursor = "updated_at"
overlap = "0s"
[sources.shop.fields]
order_id = "deal"
occurred_at = "updated_at"
[actions.sale]
kind = "sale"
yandex = {{ {target} }}
[destinations.yandex]
counter_id = "1"
token = "t"
counter_timezone = "Europe/Moscow"
metrica_url = "{url}"
"""

PLAIN = """
import csv, hashlib, io, re, sqlite3, sys
from datetime import datetime
import requests

door, url = sys.argv[1:]

def md5(text):
    return hashlib.md5(text.encode()).hexdigest()

out = io.StringIO()
head = {
    "orders": "id create_date_time client_ids emails_md5 phones_md5 order_status revenue currency",
    "conversions": "ClientId Target DateTime Price Currency",
}[door].split()
write = csv.writer(out).writerow
write(head)
for deal, at, value, currency, client, mail, phone in sqlite3.connect("shop.db").execute(
    "SELECT deal, updated_at, value, currency, ym_client_id, email, phone FROM sales"
):
    if door == "orders":
        phone = re.sub("[^0-9]", "", phone)
        write([deal, at, client, md5(mail.strip().lower()), md5(phone), "PAID", value, currency])
    else:
        write([client, "crm_sale", int(datetime.fromisoformat(at + "+03:00").timestamp()), value, currency])
path = {
    "orders": "/cdp/api/v1/counter/1/data/simple_orders?merge_mode=SAVE&delimiter_type=COMMA",
    "conversions": "/management/v1/counter/1/offline_conversions/upload?comment=plain",
}[door]
reply = requests.post(url + path, files={"file": ("data.csv", out.getvalue(), "text/csv")}, timeout=60)
reply.raise_for_status()
"""


def make_store(path: Path, rows: int) -> None:
    db = sqlite3.connect(path)
    db.execute(
        "CREATE TABLE sales (deal INTEGER PRIMARY KEY, action TEXT, updated_at TEXT, value TEXT, currency TEXT,"
        " ym_client_id TEXT, email TEXT, phone TEXT)"
    )
    start, step = time.time() - 6 * 86400, 5 * 86400 / rows

    def row(number: int) -> tuple[object, ...]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(start + step * number))
        client = str(1_700_000_000_000_000_000 + number)
        mail, phone = f"client{number}@example.com", f"+7975{number % 10_000_000:07d}"
        return (number, "sale", when, f"{number % 9000}.{number % 100:02d}", "RUB", client, mail, phone)

    db.executemany("INSERT INTO sales VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(row, range(1, rows + 1)))
    db.execute("CREATE INDEX by_update ON sales (updated_at, deal)")
    db.commit()
    db.close()


def race(door: str, rows: int, url: str, turns: int) -> None:
    figures: dict[str, list[Figure]] = {"convsync sync": [], "nothing new": [], "plain script": []}
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_store(folder / "shop.db", rows)
            config = folder / "convsync.toml"
            config.write_text(CONFIG.format(url=url, target=TARGETS[door]))
            config.chmod(0o600)
            (folder / "plain.py").write_text(PLAIN)
            before = counted(url)
            figures["convsync sync"].append(measure(sys.executable, "-m", "convsync", "sync", "--quiet", cwd=folder))
            requests, events = (now - then for now, then in zip(counted(url), before, strict=True))
            assert (requests, events) == (-(-rows // 100_000), rows), (requests, events)
            figures["nothing new"].append(measure(sys.executable, "-m", "convsync", "sync", "--quiet", cwd=folder))
            figures["plain script"].append(measure(sys.executable, "plain.py", door, url, cwd=folder))
    for title, told in figures.items():
        seconds, peak = statistics.median(one.seconds for one in told), max(one.peak_mib for one in told)
        print(f"{rows:>9,} {door:<12} {title:<14} {seconds:7.2f} s {rows / seconds:10,.0f} rows/s {peak:6.0f} MiB")


def main(sizes: list[int]) -> None:
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    sink = subprocess.Popen([sys.executable, str(HERE / "sink.py")], stdout=subprocess.PIPE, text=True)
    assert sink.stdout is not None
    url = f"http://127.0.0.1:{sink.stdout.readline().strip()}"
    try:
        for rows in sizes:
            for door in TARGETS:
                race(door, rows, url, turns=3)
    finally:
        sink.terminate()
        sink.wait()


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or [100_000])
