"""Both ways into Google, message by message: an Action becomes a payload, payloads a request, a request an answer.

No ledger and no source: what is left is what the two routes cost, beside the same messages made as Google's samples make
them. Batches of 2,000 go to zero-latency sinks in other processes; all takes turns in one run. Usage: messages.py [ROWS]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from convsync.sandbox.certificate import certificate_in

HERE = Path(__file__).parent
BATCH = 2000
TURNS = 5


def actions(rows: int) -> list[Any]:
    from convsync.model import Action

    start = datetime(2026, 11, 1, tzinfo=UTC)
    return [
        Action(
            "shop", str(number), "sale", start + timedelta(seconds=number), value=Decimal(number % 9000), currency="RUB",
            gclid=f"Cj0KCQ{number:020d}{'x' * 62}", email=f"client{number}@example.com",
            phone=f"+7975{number % 10_000_000:07d}", consent_ad_user_data=True,
        )
        for number in range(rows)
    ]  # fmt: skip


def payloads(route: Any, target: Any, made: Sequence[Any]) -> list[bytes]:
    from convsync.normalise import person

    return [route.convert(one, person(one, "RU"), target, int(one.value * 100)).payload for one in made]


def batches(rows: Sequence[Any]) -> list[Sequence[Any]]:
    return [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]


def encoded(route: Any, rows: Sequence[bytes]) -> list[bytes]:
    return [route.encode(batch, "0123456789abcdef01234567") for batch in batches(rows)]


def sent(route: Any, bodies: Sequence[bytes], threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for answer in pool.map(lambda body: route.send(body, BATCH), bodies):
            assert answer.default.verdict == "accepted" and not answer.rows, answer


def samples_of_ads(rows: Sequence[bytes]) -> list[bytes]:
    """As in Google's samples: proto-plus messages, attribute by attribute."""
    from google.ads.googleads.v26.common.types.offline_user_data import UserIdentifier
    from google.ads.googleads.v26.services.types import conversion_upload_service as upload

    made = []
    for batch in batches(rows):
        request = upload.UploadClickConversionsRequest(customer_id="1234567890", partial_failure=True)
        for payload in batch:
            event = json.loads(payload)["e"]
            row = upload.ClickConversion()
            row.conversion_action = "customers/1234567890/conversionActions/2222222222"
            row.conversion_date_time = event["eventTimestamp"].replace("T", " ")
            row.order_id = event["transactionId"]
            row.gclid = event["adIdentifiers"]["gclid"]
            row.conversion_value = event["conversionValue"]
            row.currency_code = event["currency"]
            for name, value in (pair for one in event["userData"]["userIdentifiers"] for pair in one.items()):
                identifier = UserIdentifier()
                if name == "emailAddress":
                    identifier.hashed_email = value
                else:
                    identifier.hashed_phone_number = value
                row.user_identifiers.append(identifier)
            request.conversions.append(row)
        made.append(upload.UploadClickConversionsRequest.serialize(request))
    return made


def samples_of_data_manager(rows: Sequence[bytes]) -> list[bytes]:
    """Dictionaries and `json.dumps`."""
    head = {"destinations": [{"productDestinationId": "2222222222"}], "encoding": "HEX"}
    return [json.dumps(head | {"events": [json.loads(row)["e"] for row in batch]}).encode() for batch in batches(rows)]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    made = work()
    return time.perf_counter() - started, made


def started(*command: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sink, web_port = started(str(HERE / "sink.py"))
        ads_sink, ads_port = started(str(HERE / "ads_sink.py"), folder)
        os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(certificate_in(Path(folder))[0])
        try:
            race(rows, f"http://127.0.0.1:{web_port}", f"localhost:{ads_port}")
        finally:
            for process in (sink, ads_sink):
                process.terminate()
                process.wait()


def race(rows: int, url: str, endpoint: str) -> None:
    from convsync.config.action import GoogleTarget
    from convsync.destinations.google import Ads
    from convsync.destinations.google.data_manager import DataManager
    from convsync.net import Wire

    known: dict[str, Any] = {
        "customer_id": "1234567890", "client_id": "a", "client_secret": "b", "refresh_token": "c",
        "token_url": f"{url}/token",
    }  # fmt: skip
    routes: dict[str, Any] = {
        "Data Manager": DataManager("google", data_manager_url=url, wire=Wire(requests_per_second=1000), **known),
        "Google Ads API": Ads("google", ads_endpoint=endpoint, wire=Wire(requests_per_second=1000), **known),
    }
    plain = {"Data Manager": samples_of_data_manager, "Google Ads API": samples_of_ads}
    target, made = GoogleTarget(conversion_action="2222222222"), actions(rows)
    figures: dict[tuple[str, str], list[float]] = {}
    for _ in range(TURNS):
        for name, route in routes.items():
            seconds, lines = timed(lambda route=route: payloads(route, target, made))
            steps: dict[str, float] = {"action to payload": seconds}
            steps["payloads to requests"], bodies = timed(lambda route=route, lines=lines: encoded(route, lines))
            steps["the same as in samples"], _ = timed(lambda name=name, lines=lines: plain[name](lines))
            for threads in (1, 4):
                word = f"requests to answers, {threads} at a time"
                steps[word], _ = timed(lambda route=route, bodies=bodies, n=threads: sent(route, bodies, n))
            for step, seconds in steps.items():
                figures.setdefault((name, step), []).append(seconds)
            figures.setdefault((name, "bytes a row"), []).append(sum(map(len, bodies)) / rows)
    for (name, step), seconds in figures.items():
        middle = statistics.median(seconds)
        if step == "bytes a row":
            print(f"{name:<15} {step:<36} {middle:8.0f}")
        else:
            print(
                f"{name:<15} {step:<36} {middle:8.2f} s {middle / rows * 1e6:8.1f} µs/row {rows / middle:10,.0f} rows/s"
            )
    for route in routes.values():
        route.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
