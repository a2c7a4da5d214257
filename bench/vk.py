"""A whole `convsync sync` through each way into VK, to a zero-latency sink in another process.

The pixel's calls are let through as fast as they go (`requests_per_second = 1000`, the most that can be written): what one
call costs when nobody waits. Usage: python bench/vk.py [CALLS [PEOPLE]] (5000 and 100000 unless said).
"""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from throughput import HERE, Figure, counted, measure

CONFIG = """
timezone = "Europe/Moscow"
phone_region = "RU"
[sources.shop]
type = "csv"
path = "sales.csv"
consent_ad_user_data = true
[actions.sale]
kind = "sale"
vk = {{ {target} }}
[destinations.vk]
pixel_id = "1"
client_id = "c"
client_secret = "s"
tracker_url = "{url}/tracker"
api_url = "{url}"
requests_per_second = 1000
api_requests_per_second = 1000
"""
TARGETS = {"pixel": 'goal = "crm_sale"', "lists": 'list = "Sales"'}


def make_sales(path: Path, rows: int) -> None:
    start, step = time.time() - 6 * 86400, 5 * 86400 / rows
    with path.open("w", newline="") as file:
        write = csv.writer(file).writerow
        write(["external_id", "action", "occurred_at", "value", "currency", "rb_clickid", "phone"])
        for number in range(rows):
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start + step * number))
            write([f"d{number}", "sale", when, number % 9000, "RUB", f"rb-{number}", f"+7975{number:07d}"])


def race(door: str, rows: int, url: str, turns: int) -> None:
    figures: dict[str, list[Figure]] = {"convsync sync": [], "nothing new": []}
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_sales(folder / "sales.csv", rows)
            config = folder / "convsync.toml"
            config.write_text(CONFIG.format(url=url, target=TARGETS[door]))
            config.chmod(0o600)
            before = counted(url)
            for told in figures.values():
                told.append(measure(sys.executable, "-m", "convsync", "sync", "--quiet", cwd=folder))
            requests, events = (now - then for now, then in zip(counted(url), before, strict=True))
            assert (requests, events) == (rows if door == "pixel" else -(-rows // 20_000), rows), (requests, events)
    for title, told in figures.items():
        seconds, peak = statistics.median(one.seconds for one in told), max(one.peak_mib for one in told)
        print(f"{rows:>9,} {door:<12} {title:<14} {seconds:7.2f} s {rows / seconds:10,.0f} rows/s {peak:6.0f} MiB")


def main(calls: int = 5_000, people: int = 100_000) -> None:
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    sink = subprocess.Popen([sys.executable, str(HERE / "sink.py")], stdout=subprocess.PIPE, text=True)
    assert sink.stdout is not None
    url = f"http://127.0.0.1:{sink.stdout.readline().strip()}"
    try:
        race("pixel", calls, url, turns=3)
        race("lists", people, url, turns=3)
    finally:
        sink.terminate()
        sink.wait()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
