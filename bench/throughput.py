"""Rows per second and peak memory of a whole `convsync sync`, beside the plain use of the same libraries.

SQLite event store → mapping → ledger (synchronous=FULL) → Data Manager requests of 2,000 to a zero-latency sink in another
process. Every figure is of a whole process, start-up included; the two programs take turns, so that a machine whose speed
drifts slows both. Usage: python bench/throughput.py [ROWS ...] (100000 and 1000000 unless said).
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent

CONFIG = """
timezone = "Europe/Moscow"
phone_region = "RU"
[ledger]
url = "sqlite:///ledger.db"
[run]
deadline = "4h"
[sources.shop]
type = "sql"
url = "sqlite:///shop.db"
table = "target_actions"
id = "event_id"
cursor = "updated_at"
overlap = "0s"
[sources.shop.fields]
action = "kind"
occurred_at = "happened_at"
value = "amount"
email = "mail"
phone = "tel"
[actions.sale]
kind = "sale"
google = {{ conversion_action = "2222222222" }}
[destinations.google]
customer_id = "1234567890"
client_id = "a"
client_secret = "b"
refresh_token = "c"
data_manager_url = "{url}"
token_url = "{url}/token"
requests_per_second = 1000
"""


class Figure(NamedTuple):
    seconds: float
    peak_mib: float


def measure(*command: str, cwd: Path) -> Figure:
    """Wall time and peak memory of a process, by the operating system's own account."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{errors.decode()}")
    scale = 1024 if sys.platform != "darwin" else 1024 * 1024
    return Figure(seconds, usage.ru_maxrss / scale)


def make_store(path: Path, rows: int) -> None:
    db = sqlite3.connect(path)
    db.execute(
        "CREATE TABLE target_actions (event_id INTEGER PRIMARY KEY, kind TEXT, happened_at TEXT, updated_at TEXT,"
        " amount TEXT, currency TEXT, gclid TEXT, mail TEXT, tel TEXT)"
    )
    start = time.time() - 20 * 86400
    step = 19 * 86400 / rows

    def row(number: int) -> tuple[object, ...]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(start + step * number))
        gclid = f"Cj0KCQ{number:020d}{'x' * 62}"
        return (number, "sale", when, when, f"{number % 9000}.{number % 100:02d}", "RUB", gclid,
                f"client{number}@example.com", f"+7975{number % 10_000_000:07d}")  # fmt: skip

    db.executemany("INSERT INTO target_actions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", map(row, range(1, rows + 1)))
    db.execute("CREATE INDEX by_update ON target_actions (updated_at, event_id)")
    db.commit()
    db.close()


def counted(url: str) -> tuple[int, int]:
    with urllib.request.urlopen(f"{url}/count") as reply:  # noqa: S310 - our own sink on loopback
        requests, events = reply.read().split()
    return int(requests), int(events)


def race(rows: int, url: str, turns: int) -> None:
    ours: list[Figure] = []
    plain: list[Figure] = []
    idle: list[Figure] = []
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_store(folder / "shop.db", rows)
            config = folder / "convsync.toml"
            config.write_text(CONFIG.format(url=url))
            config.chmod(0o600)
            before = counted(url)[1]
            ours.append(measure(sys.executable, "-m", "convsync", "sync", "--quiet", cwd=folder))
            assert counted(url)[1] - before == rows, "the sink counted something else"
            plain.append(measure(sys.executable, str(HERE / "plain.py"), "shop.db", "plain.db", url, cwd=folder))
            for _ in range(3):
                idle.append(measure(sys.executable, "-m", "convsync", "sync", "--quiet", cwd=folder))
    for title, figures in (("convsync sync", ours), ("plain use of the same libraries", plain)):
        seconds = statistics.median(figure.seconds for figure in figures)
        peak = max(figure.peak_mib for figure in figures)
        print(f"{rows:>9,} rows  {title:<34} {seconds:8.2f} s {rows / seconds:10,.0f} rows/s {peak:6.0f} MiB")
    seconds = statistics.median(figure.seconds for figure in idle)
    print(
        f"{rows:>9,} rows  a run with nothing new             {seconds:8.2f} s {max(f.peak_mib for f in idle):25.0f} MiB"
    )


def main(sizes: list[int]) -> None:
    here = Path.cwd()
    helps = [measure(sys.executable, "-m", "convsync", "--help", cwd=here) for _ in range(7)]
    bare = [measure(sys.executable, "-c", "pass", cwd=here) for _ in range(7)]
    print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores")
    print(f"bare python {statistics.median(f.seconds for f in bare):.3f} s, convsync --help"
          f" {statistics.median(f.seconds for f in helps):.3f} s")  # fmt: skip
    sink = subprocess.Popen([sys.executable, str(HERE / "sink.py")], stdout=subprocess.PIPE, text=True)
    assert sink.stdout is not None
    url = f"http://127.0.0.1:{sink.stdout.readline().strip()}"
    try:
        for rows in sizes:
            race(rows, url, turns=3 if rows <= 200_000 else 1)
    finally:
        sink.terminate()
        sink.wait()


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or [100_000, 1_000_000])
