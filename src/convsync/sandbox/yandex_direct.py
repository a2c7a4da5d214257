"""Yandex.Direct: the Reports service with its offline queue, and as much of Clients as tells an account's currency."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import zlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, timedelta, timezone
from typing import Any

from convsync.sandbox import yandex_direct_report as report
from convsync.sandbox.clock import Clock
from convsync.sandbox.config import DirectConfig, DirectUser, SandboxConfig
from convsync.sandbox.quota import Windows
from convsync.sandbox.web import Refusal, Request, Response, Route, reply, route
from convsync.sandbox.yandex_direct_report import BadSpec, Shape, Spec

MOSCOW = timezone(timedelta(hours=3))
_MODES = ("auto", "online", "offline")
_UNAVAILABLE = (52, 1000, 1001, 1002)
_SAID = {
    52: ("Authorization server unavailable", "Сервер авторизации недоступен"),
    53: ("Authorization error", "Ошибка авторизации"),
    54: ("No rights", "Нет прав"),
    55: ("Operation not found", "Операция не найдена"),
    56: ("Method call limit exceeded", "Превышен лимит вызовов метода"),
    58: ("Incomplete registration", "Незавершенная регистрация"),
    152: ("Not enough points", "Недостаточно баллов"),
    506: ("Too many connections", "Слишком много соединений"),
    513: ("The login is not connected to Direct", "Логин не подключен к Директу"),
    1000: ("Server unavailable", "Сервер недоступен"),
    1001: ("Service initialisation error", "Ошибка инициализации сервиса"),
    1002: ("Operation error", "Ошибка операции"),
    3000: ("No API access", "Нет доступа к API"),
    4000: ("Wrong request parameters", "Параметры запроса указаны неверно"),
    8000: ("Invalid request", "Некорректный запрос"),
    8312: ("The report cannot be built online", "Отчет невозможно построить в режиме online"),
    8800: ("Object not found", "Объект не найден"),
    9000: ("Report queue is full", "Очередь отчетов заполнена"),
}


@dataclass
class Report:
    """One that is kept: the text is settled when it is ordered."""

    digest: str
    body: bytes
    ready_at: float


@dataclass
class Asked:
    """What the books say of one report name of one client."""

    since: date
    until: date
    vat: bool
    rows: int = 0
    answers: Counter[str] = field(default_factory=Counter)

    def shown(self) -> dict[str, Any]:
        days = {"since": self.since.isoformat(), "until": self.until.isoformat()}
        return {**days, "vat": self.vat, "rows": self.rows, "answers": dict(self.answers)}


class Direct:
    name = "direct"

    def __init__(self, world: SandboxConfig, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self._lock = threading.RLock()
        self._rate = Windows()
        self._open: dict[int, str] = {}
        self.reset()

    @property
    def _config(self) -> DirectConfig:
        return self._world.direct

    def reset(self) -> None:
        with self._lock:
            self._kept: dict[tuple[str, str], Report] = {}
            self._asked: dict[str, dict[str, Asked]] = {}
            self._refused: Counter[str] = Counter()
            self._random = random.Random(self._world.seed)
            self._rate.clear()

    def routes(self) -> list[Route]:
        return [
            one
            for version in ("v5", "v501")
            for service, handler in (("reports", self._reports), ("clients", self._clients))
            for one in route(f"direct.{service}", "POST", f"/json/{version}/{service}", handler)
        ]

    def peek(self, operation: str, request: Request) -> None:
        try:
            request.data = json.loads(request.body)
        except (ValueError, RecursionError):
            request.data = None

    def begin(self, request: Request) -> None:
        with self._lock:
            self._open[id(request)] = self._advertiser(request)

    def end(self, request: Request) -> None:
        with self._lock:
            del self._open[id(request)]

    def error(self, status: int) -> Response:
        """An error code of Direct such as 152, or a status of HTTP."""
        if status in _SAID:
            return self._failure(status, "The sandbox was asked to fail.")
        made = self._failure(8000 if status < 500 else 1000, "The sandbox was asked to fail.")
        made.status = status
        return made

    def _failure(self, code: int, detail: str, language: str = "") -> Response:
        """DOC DD/codes: 400 for a fault of the request or a limit, 500 for one of the server."""
        english, russian = _SAID.get(code, _SAID[4000])
        with self._lock:
            number = str(self._random.getrandbits(63))
        told = {
            "request_id": number,
            "error_code": str(code) if self._config.error_code_as_text else code,
            "error_string": russian if language.lower().startswith("ru") else english,
            "error_detail": detail,
        }
        return reply({"error": told}, 500 if code in _UNAVAILABLE else 400, {"RequestId": number})

    def _refuse(self, request: Request, code: int, detail: str) -> Refusal:
        request.note = f"error {code}"
        with self._lock:
            self._refused[str(code)] += 1
        return Refusal(self._failure(code, detail, request.header("accept-language")))

    # Who may ask, and how often.

    def _user(self, request: Request) -> DirectUser | None:
        scheme, _, token = request.header("authorization").partition(" ")
        return self._config.tokens.get(token.strip()) if scheme.lower() == "bearer" else None

    def _advertiser(self, request: Request) -> str:
        user = self._user(request)
        return request.header("client-login") or (user.login if user else "")

    def _admit(self, request: Request) -> DirectUser:
        """Who asks. DOC DD/concepts/errors-list."""
        if request.header("authorization").partition(" ")[0].lower() != "bearer":
            raise self._refuse(request, 8000, "An OAuth token is required: Authorization: Bearer ...")
        user = self._user(request)
        if user is None:
            raise self._refuse(request, 53, "The OAuth token is not valid")
        if not user.app_registered:
            raise self._refuse(request, 58, "A request for API access has to be filed and approved")
        if "direct:api" not in user.rights:
            raise self._refuse(request, 54, "The token has no right direct:api")
        if not user.api_access:
            raise self._refuse(request, 3000, "The user has no access to the API")
        if not user.in_direct:
            raise self._refuse(request, 513, "The user has no account in Yandex.Direct")
        self._limit(request, user)
        return user

    def _limit(self, request: Request, user: DirectUser) -> None:
        """DOC DD/restrictions: 20 requests in 10 s of a user, 5 at once for an advertiser."""
        if not self._rate.take(user.login, self._config.requests_per_10s, 10, self._clock.time()):
            raise self._refuse(request, 56, "Too many requests in 10 seconds")
        with self._lock:
            busy = list(self._open.values()).count(self._advertiser(request))
        if self._config.parallel_requests is not None and busy > self._config.parallel_requests:
            raise self._refuse(request, 506, "Too many requests at once for this advertiser")

    def _login(self, request: Request, user: DirectUser) -> str:
        """The login of the client whom the request is about."""
        asked = request.header("client-login")
        if _means_agency(request, user):
            raise self._refuse(request, 8000, "The HTTP header Client-Login must name the advertiser")
        login = asked or user.login
        if login not in (user.clients or (user.login,)) or login not in self._config.clients:
            raise self._refuse(request, self._config.foreign_login_code, "No such login in Client-Login")
        return login

    # The services.

    def _clients(self, request: Request, names: dict[str, str]) -> Response:
        """DOC DD/clients/get: the client, or an agency itself, of which no currency is told. The words of Type: UNSURE."""
        user = self._admit(request)
        body = request.data if isinstance(request.data, dict) else {}
        if body.get("method") != "get":
            raise self._refuse(request, 55 if "method" in body else 8000, "method must be get")
        params = body.get("params")
        fields = params.get("FieldNames") if isinstance(params, dict) else None
        known = ("ClientId", "Login", "Currency", "Type")
        if not isinstance(fields, list) or not fields or any(one not in known for one in fields):
            raise self._refuse(request, 8000, f"FieldNames must list fields: {', '.join(known)}")
        told: dict[str, Any] = {"Login": user.login, "Type": "AGENCY"}
        if not _means_agency(request, user):
            login = self._login(request, user)
            kind = "CLIENT" if user.clients is None else "SUBCLIENT"
            told = {"Login": login, "Type": kind, "Currency": self._config.clients[login].currency}
        told["ClientId"] = zlib.crc32(told["Login"].encode())
        return self._numbered(reply({"result": {"Clients": [{name: told[name] for name in fields if name in told}]}}))

    def _reports(self, request: Request, names: dict[str, str]) -> Response:
        login = self._login(request, self._admit(request))
        if request.data is None:
            raise self._refuse(request, 8000, "The body is not valid JSON")
        mode = request.header("processingmode") or "auto"
        if mode not in _MODES:
            raise self._refuse(request, 8000, f"processingMode must be one of {', '.join(_MODES)}")
        try:
            shape = self._shape(request)
            spec = report.read(request.data, self._today(), self._config.max_age_days)
        except BadSpec as problem:
            raise self._refuse(request, 8000, str(problem)) from None
        with self._lock:
            made = self._numbered(self._made(request, login, spec, shape, mode))
            self._asked[login][spec.name].answers[str(made.status)] += 1
        return made

    def _today(self) -> date:
        return self._clock.now().astimezone(MOSCOW).date()

    def _shape(self, request: Request) -> Shape:
        """DOC DD/headers. Whatever is not said: micros, and every line."""
        names = ("returnMoneyInMicros", "skipReportHeader", "skipColumnHeader", "skipReportSummary")
        said = {name: request.header(name).lower() for name in names}
        for name, value in said.items():
            if value not in ("", "true", "false"):
                raise BadSpec(f"The HTTP header {name} must be true or false")
        return Shape(
            micros=said["returnMoneyInMicros"] != "false",
            report_header=said["skipReportHeader"] != "true",
            column_header=said["skipColumnHeader"] != "true",
            summary=said["skipReportSummary"] != "true",
            dash_zeros=self._config.dash_zeros,
        )

    # The queue.

    def _made(self, request: Request, login: str, spec: Spec, shape: Shape, mode: str) -> Response:
        """200 with the report, or 201 and 202 while it waits: only the identical request asks for the same one."""
        now = self._clock.time()
        self._forget(now)
        digest = hashlib.sha256(json.dumps([request.data, repr(shape)], sort_keys=True).encode()).hexdigest()
        kept = self._kept.get((login, spec.name))
        if kept and kept.digest != digest:
            raise self._refuse(request, self._config.name_taken_code, "A report of this name has other parameters")
        if kept:
            return self._handed(request, kept) if kept.ready_at <= now else self._waiting(request, login, 202)
        long = spec.days > self._config.online_days
        if mode == "online" and long:
            raise self._refuse(request, 8312, "Change the HTTP header processingMode")
        offline = long or mode == "offline"
        if offline and self._queued(login, now) >= self._config.queue_limit:
            raise self._refuse(request, 9000, f"There are {self._config.queue_limit} reports in the queue")
        made = Report(digest, self._built(login, spec, shape), now + self._config.build_seconds * offline)
        if offline or self._config.keep_online:
            self._kept[(login, spec.name)] = made
        return self._waiting(request, login, 201) if offline else self._handed(request, made)

    def _forget(self, now: float) -> None:
        since = now - self._config.keep_hours * 3600
        self._kept = {key: kept for key, kept in self._kept.items() if kept.ready_at > since}

    def _queued(self, login: str, now: float) -> int:
        return sum(kept.ready_at > now for (owner, _), kept in self._kept.items() if owner == login)

    def _built(self, login: str, spec: Spec, shape: Shape) -> bytes:
        world = report.World(self._config, self._world.seed, login, self._today())
        found = report.rows(spec, world, self._config.clients[login].vat_percent)
        asked = self._asked.setdefault(login, {})
        before = asked[spec.name].answers if spec.name in asked else Counter[str]()
        asked[spec.name] = Asked(spec.first, spec.last, spec.vat, len(found), before)
        return report.tsv(spec, found, shape).encode()

    def _handed(self, request: Request, made: Report) -> Response:
        request.note = "report handed out"
        return Response(200, made.body, "text/tab-separated-values; charset=utf-8")

    def _waiting(self, request: Request, login: str, status: int) -> Response:
        queued = self._queued(login, self._clock.time())
        request.note = f"{'queued' if status == 201 else 'being built'}, {queued} in the queue"
        headers = {"retryIn": str(self._config.retry_in), "reportsInQueue": str(queued)}
        return Response(status, b"", "text/tab-separated-values; charset=utf-8", headers)

    def _numbered(self, made: Response) -> Response:
        with self._lock:
            made.headers["RequestId"] = str(self._random.getrandbits(63))
        return made

    # The books.

    def books(self) -> dict[str, Any]:
        """`clients`: by login and report name, what was asked for and how often it was answered with which status."""
        with self._lock:
            asked = {login: dict(found) for login, found in sorted(self._asked.items())}
            clients = {login: {name: one.shown() for name, one in found.items()} for login, found in asked.items()}
            sums = {login: _sums(found.values()) for login, found in asked.items()}
            refused = dict(self._refused)
        totals = {
            "requests": sum(one["requests"] for one in sums.values()) + sum(refused.values()),
            "reports": sum(len(found) for found in clients.values()),
            "handed_out": sum(one["handed out"] for one in sums.values()),
            "refused": sum(refused.values()),
        }
        return {"totals": totals, "sums": sums, "clients": clients, "errors": refused}


def _means_agency(request: Request, user: DirectUser) -> bool:
    return user.clients is not None and request.header("client-login") in ("", user.login)


def _sums(asked: Collection[Asked]) -> dict[str, int]:
    answers = [one.answers for one in asked]
    return {
        "requests": sum(one.total() for one in answers),
        "queued": sum(one["201"] for one in answers),
        "handed out": sum(one["200"] for one in answers),
        "rows": sum(one.rows for one in asked),
    }
