"""The configuration: what is wrong is told all at once, with its place and a cure, and no secret is ever repeated."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from datetime import time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from convsync.config import (
    ActionSettings,
    Config,
    CsvSource,
    GoogleSettings,
    GoogleTarget,
    JsonlSource,
    LedgerSettings,
    RetentionSettings,
    RunSettings,
    SqlSource,
    VkLeadsSource,
    VkSettings,
    YandexSettings,
    load,
    parse,
)
from convsync.config.values import duration, duration_text, is_loopback
from convsync.config.written import key_lines
from convsync.errors import ConfigError, Exit

EXAMPLE = Path(__file__).parent.parent / "config.example.toml"
CANARY = "s3cr3t-c4n4ry"

BASE = """\
timezone = "Europe/Moscow"

[sources.shop]
type = "sql"
url = "sqlite:///shop.db"
table = "actions"

[actions.lead]
kind = "lead"
yandex = { status = "IN_PROGRESS" }

[destinations.yandex]
counter_id = "12345678"
token = "y0_token"
"""

Write = Callable[[str], Path]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CONVSYNC_CONFIG", "CONVSYNC_SECRETS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        file = tmp_path / "convsync.toml"
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)
        return file

    return write


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "secrets"
    directory.mkdir()
    monkeypatch.setenv("CONVSYNC_SECRETS_DIR", str(directory))
    return directory


def problems(path: Path | None, **options: bool) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, **options)
    assert caught.value.exit_code is Exit.USAGE
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    return str(caught.value).splitlines()


def line_of(text: str, start: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith(start))


def test_a_missing_file_is_named_and_init_is_proposed(tmp_path: Path) -> None:
    assert problems(None) == [
        "convsync.toml: there is no such configuration file. "
        "`convsync init` writes one; --config PATH or CONVSYNC_CONFIG names another."
    ]
    (problem,) = problems(tmp_path)
    assert problem.startswith(f"{tmp_path}: the configuration cannot be read (Is a directory).")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('timezone = "UTC"\n[destinations.vk\npixel_id = "1"\n', 2),
        ('timezone = "UTC"\n\ntoken: "s3cr3t-c4n4ry"\n', 3),
        ('[destinations.yandex]\ntoken = "a"\ntoken = "s3cr3t-c4n4ry"\n', 3),
        ('[destinations.yandex]\ntoken = "s3cr3t-c4n4ry', 2),
        (f"x = {'[' * 5000}", 1),
        (f"x = {'9' * 5000}", 1),
        ("[destinations.yandex]\ntoken = s3cr3t-c4n4ry\n", 2),
    ],
)
def test_a_syntax_error_names_file_and_line(write: Write, text: str, line: int) -> None:
    file = write(text)
    (problem,) = problems(file)
    assert problem.startswith(f"{file}:{line}: this is not TOML: ")
    assert problem.endswith('Write key = "value", one a line, text in quotes, sections in [brackets].')


def test_text_in_another_encoding_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "convsync.toml"
    file.write_bytes('timezone = "UTC"\n# заявки\n'.encode("cp1251"))
    assert problems(file) == [f"{file}:2: this is not UTF-8 text. Save the file in the encoding UTF-8."]


@pytest.mark.parametrize(
    ("wrong", "right", "expected"),
    [
        # unknown keys, at every depth
        ('timezone = "Europe/Moscow"', 'timezon = "UTC"', "timezon is not a known key. Did you mean timezone?"),
        ("[sources.shop]", "[source.shop]", "source is not a known key. Did you mean sources?"),
        ("token =", "tokn =", "destinations.yandex.tokn is not a known key. Did you mean token?"),
        ('table = "actions"', 'tabel = "actions"', "sources.shop.tabel is not a known key. Did you mean table?"),
        ("yandex = {", "yandx = {", "actions.lead.yandx is not a known key. Did you mean yandex?"),
        ("yandex = {", "google = {", "actions.lead.google is not a known key. Known here: kind, max_age, yandex."),
        ("{ status", "{ statsu", "actions.lead.yandex.statsu is not a known key. Did you mean status?"),
        ("yandex = {", "targets = {", "actions.lead.targets is not a known key. Known here: kind, max_age, yandex."),
        # required keys
        ("counter_id = ", "# ", "destinations.yandex.counter_id is missing. Write the number of the Metrica counter"),
        ('type = "sql"', "", "sources.shop.type is missing. Write \"sql\", \"csv\", \"jsonl\" or \"vk_leads\"."),
        ('kind = "lead"', "", 'actions.lead.kind is missing. Write "lead", "sale" or "micro".'),
        ('table = "actions"', "", "sources.shop needs either `query` (a SELECT) or `table` (a name), one of them."),
        ('{ status = "IN_PROGRESS" }', "{}", "actions.lead.yandex needs `status` (IN_PROGRESS, PAID, CANCELLED, SPAM"),
        # values
        ("Europe/Moscow", "Europe/Mosow", "timezone is not a time zone. Write a name such as \"Europe/Moscow\". Did you mean"),
        ("Europe/Moscow", "Moscow", "Did you mean Europe/Moscow?"),
        ("Europe/Moscow", "../../etc/passwd", "timezone is not a time zone."),
        ('"12345678"', '"12 345"', 'destinations.yandex.counter_id must be digits only, such as "12345678".'),
        ('"12345678"', "true", "destinations.yandex.counter_id must be digits only"),
        ('"lead"', '"deal"', "actions.lead.kind must be 'lead', 'sale' or 'micro'."),
        ('"IN_PROGRESS"', '"in_progress"', "actions.lead.yandex.status is spelled IN_PROGRESS, in capital letters."),
        ('"IN_PROGRESS"', '"CANCELED"', "actions.lead.yandex.status is spelled CANCELLED, in capital letters."),
        ('"IN_PROGRESS"', '"my goal"', "actions.lead.yandex.status must be IN_PROGRESS, PAID, CANCELLED, SPAM or"),
        ('{ status = "IN_PROGRESS" }', '"PAID"', "actions.lead.yandex must be a table, such as"),
        ('"y0_token"', "12", "destinations.yandex.token must be text in quotes."),
        ('"y0_token"', '"ab\\ncd"', "destinations.yandex.token has a character that no credential has"),
        ('"sqlite:///shop.db"', '"shop.db"', "sources.shop.url must be an address such as"),
        # not in this version
        # the two ways into Metrica
        ('"IN_PROGRESS" }', '"IN_PROGRESS", goal = "PAID" }', 'actions.lead.yandex.goal is a status of orders: write status = "PAID".'),
        ('"IN_PROGRESS" }', '"good", goal = "good" }', "sends good as an order and as a conversion: it would count twice. Keep one of them."),
        ('"IN_PROGRESS" }', '"PAID", goals = ["good:5"], goal = "good" }', "sends good as an order and as a conversion: it would count twice."),
        ('"IN_PROGRESS" }', '"PAID", goals = ["good:"] }', "actions.lead.yandex.goals must list identifiers of JavaScript goals"),
        ('"IN_PROGRESS" }', '"PAID", goals = ["good", "good:5"] }', "actions.lead.yandex.goals names a goal twice."),
        ('status = "IN_PROGRESS" }', 'goal = "a", goals = ["b"] }', "has `goals`, which belong to an order: add `status`, or name one `goal`."),
        ('"IN_PROGRESS" }', '"PAID", by = ["yclid"] }', "has `by`, which is for the `goal` of conversions: add `goal`, or remove `by`."),
        ('status = "IN_PROGRESS" }', 'goal = "Заявка с сайта" }', "must be the identifier of a JavaScript goal, not its name"),
        ('type = "sql"', 'type = "amocrm"', 'sources.shop.type "amocrm" is not in this version. Export to a database'),
        ('type = "sql"', 'type = "parquet"', 'sources.shop.type "parquet" is not in this version.'),
        ('type = "sql"', 'type = "s3cr3t-c4n4ry"', 'sources.shop.type must be "sql", "csv", "jsonl" or "vk_leads".'),
    ],
)  # fmt: skip
def test_a_mistake_names_file_line_key_and_cure(write: Write, wrong: str, right: str, expected: str) -> None:
    assert wrong in BASE
    text = BASE.replace(wrong, right, 1)
    file = write(text)
    (problem,) = problems(file, need_credentials=False)
    line = BASE[: BASE.index(wrong)].count("\n") + 1
    section = max(n for n, start in enumerate(BASE.splitlines()[:line], 1) if start.startswith("[") or n == 1)
    places = (line,) if right else (section,)
    assert problem.startswith(tuple(f"{file}:{place}: " for place in {*places, section}))
    assert expected in problem


GOOGLE = '[destinations.google]\ncustomer_id = "1234567890"\n'
FILE = '[sources.f]\ntype = "csv"\npath = "a.csv"\n'


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('[ledger]\nurl = "postgresql://u:s3cr3t-c4n4ry@h/d"', "ledger.url (PostgreSQL) is not in this version."),
        ('[ledger]\nurl = "convsync.db"', 'ledger.url must be "sqlite:///" and the name of a file'),
        ('[ledger]\nurl = "sqlite://"', "ledger.url must be"),
        ('[ledger]\nurl = "sqlite:///:memory:"', "ledger.url must be"),
        ('[run]\ndeadline = "45x"', "run.deadline is not a duration. Write a number and a unit, such as"),
        ("[run]\ndeadline = 0", "run.deadline must be longer than zero."),
        ("[run]\ndeadline = -1", "run.deadline is not a duration."),
        ("[run]\ndeadline = nan", "run.deadline is not a duration."),
        ("[run]\ndeadline = 1e300", "run.deadline is too long a duration."),
        ("[run]\ndeadline = true", "run.deadline is not a duration."),
        ('[run]\ndeadline = "P1D"', "run.deadline is not a duration."),
        ("[run]\npage_rows = 0", "run.page_rows must be at least 1."),
        ('[run]\npage_rows = "many"', "run.page_rows must be a whole number."),
        ("run = 5", "run must be a section with keys of its own."),
        ("destinations = []", "destinations must be a section with keys of its own."),
        ('phone_region = "RUS"', 'phone_region must be a country code of two letters, such as "RU".'),
        ('reporting_currency = "р."', 'reporting_currency must be a currency code of three letters, such as "RUB".'),
        ('[destinations.vk]\npixel_id = ""', "destinations.vk.pixel_id must be digits only"),
        ('[destinations.vk]\npixel_id = "1"\nbatch_rows = 2', "destinations.vk.batch_rows must be at most 1."),
        ('[destinations.vk]\npixel_id = "1"\non_ambiguous = "x"', "destinations.vk.on_ambiguous must be 'hold' or 'retry'."),
        ('[destinations.vk]\npixel_id = "1"\nsend_value = "x"', "destinations.vk.send_value must be true or false"),
        ('[destinations.vk]\npixel_id = "1"\nrequests_per_second = inf', "destinations.vk.requests_per_second must be"),
        ('[destinations.vk]\npixel_id = "1"\nrequests_per_second = 0', "requests_per_second must be more than 0"),
        ('[destinations.vk]\npixel_id = "1"\nuser_agent = "a\\r\\nb"', "user_agent must be plain Latin text on one line."),
        ('[destinations.other]\npixel_id = "1"', 'destinations.other.platform is missing. Write "google", "yandex" or "vk".'),
        ('[destinations.vk]\nplatform = "meta"', 'destinations.vk.platform must be "google", "yandex" or "vk".'),
        ('[destinations.google]\ncustomer_id = "123"', "destinations.google.customer_id must be ten digits"),
        (GOOGLE + 'api = "rest"', "destinations.google.api must be 'data_manager' or 'ads'."),
        (GOOGLE + 'ads_api_version = "v22"', 'destinations.google.ads_api_version must be "v23", "v24", "v25" or "v26"'),
        (GOOGLE + 'ads_api_version = "v27"', "destinations.google.ads_api_version must be"),
        (GOOGLE + 'on_refund = "restate"', "destinations.google.on_refund must be 'retract', 'zero' or 'ignore'."),
        (GOOGLE + "cost_customer_ids = []", "destinations.google.cost_customer_ids must name at least one, or be left out."),
        (GOOGLE + 'cost_customer_ids = ["1234567890", "12"]', "destinations.google.cost_customer_ids.1 must be ten digits"),
        (GOOGLE + 'merchant_id = "shop"', "destinations.google.merchant_id must be digits only"),
        (GOOGLE + 'merchant_feed_label = "Россия"', "merchant_feed_label must be a feed label of Merchant Center"),
        (GOOGLE + f'merchant_feed_label = "{"A" * 21}"', "merchant_feed_label must be a feed label of Merchant Center"),
        (GOOGLE + 'merchant_feed_language = "Russian"', "merchant_feed_language must be a language code of two small"),
        (
            GOOGLE + '[actions.a]\nkind = "lead"\ngoogle = { conversion_action = "1", calls = "x" }',
            "actions.a.google.calls must be true or false, without quotes.",
        ),
        (
            GOOGLE + '[actions.a]\nkind = "lead"\ngoogle = { conversion_action = "1", consent_ad_user_data = true }',
            "actions.a.google.consent_ad_user_data must be 'granted', 'denied' or 'unset'.",
        ),
        (FILE + 'fields = { custom_variables = "x" }', "sources.f.fields custom_variables is not mapped here: write name ="),
        (FILE + "custom_variables = { plan = 5 }", "sources.f.custom_variables.plan must be text in quotes."),
        (FILE + 'custom_variables = { plan = "" }', "sources.f.custom_variables.plan must not be empty."),
        (FILE + 'custom_variables = { " plan" = "x" }', "sources.f.custom_variables has a name that no custom variable has"),
        (FILE + f'custom_variables = {{ {"x" * 101} = "x" }}', "sources.f.custom_variables has a name that no custom"),
        ('[destinations.google]\ncustomer_id = "1234567890"\nbatch_rows = 2001', "batch_rows must be at most 2000."),
        (
            '[destinations.google]\ncustomer_id = "1234567890"\nrefresh_token = "s3cr3t-c4n4ry"\ncredentials_file = "g.json"',
            "destinations.google has both credentials_file and client_secret or refresh_token. Keep one way to sign in.",
        ),
        (
            '[destinations.vk]\npixel_id = "1"\nsources = ["shpo"]\n[sources.shop]\ntype="sql"\nurl="sqlite:///a"\ntable="t"',
            "destinations.vk.sources names a source that does not exist. Did you mean shop?",
        ),
        ('[destinations.a__b]\nplatform = "vk"\npixel_id = "1"', "destinations.a__b must be named with letters, digits"),
        ('[destinations.kind]\nplatform = "vk"\npixel_id = "1"', "destinations.kind cannot have this name"),
        (
            '[destinations.vk]\npixel_id = "1"\n[actions.a]\nkind = "micro"\nvk = { goal = "заявка" }',
            "actions.a.vk.goal must be 1 to 64 Latin letters, digits, _ or -.",
        ),
        (
            '[destinations.google]\ncustomer_id = "1234567890"\n[actions.a]\nkind = "micro"\n'
            'google = { conversion_action = "1", event_source = "web" }',
            "actions.a.google.event_source must be 'WEB', 'APP', 'IN_STORE', 'PHONE', 'MESSAGE' or 'OTHER'.",
        ),
        (
            '[sources.f]\ntype = "csv"\npath = "a.csv"\nfields = { glcid = "x" }',
            "sources.f.fields glcid is not a field of an action. Did you mean gclid?",
        ),
        (
            '[sources.f]\ntype = "csv"\npath = "a.csv"\nfields = { external_id = "x" }',
            "sources.f.fields external_id is not mapped here: write its column as `id` of the source.",
        ),
        ('[sources.f]\ntype = "csv"\npath = "a.csv"\ndelimiter = ";;"', "sources.f.delimiter must be one character"),
        ('[sources.f]\ntype = "csv"\npath = "a.csv"\nencoding = "excel"', "sources.f.encoding is not a known encoding."),
        ('[sources.f]\ntype = "csv"\npath = "a.csv"\nid = []', "sources.f.id must name at least one column."),
        ('[sources.f]\ntype = "csv"\npath = "a.csv"\nid = 5', "sources.f.id must be the name of a column, or a list"),
        ('[sources.f]\ntype = "csv"\npath = "a.csv"\ntime_of_day = "25:00"', "sources.f.time_of_day must be a clock time"),
        ('[sources.f]\ntype = "csv"', 'sources.f.path is missing. Write the files to read, such as "exports/*.csv".'),
        (
            '[sources.f]\ntype = "jsonl"\npath = "a"\naction = "lead"\nfields = { action = "x" }',
            "sources.f has both `action` (one for all rows) and `fields.action` (a column). Keep one of them.",
        ),
        ('[sources.f]\ntype = "sql"\nurl = "sqlite:///a"\ntable = "t"\noverlap = "x"', "sources.f.overlap is not a duration."),
        ('[sources.f]\ntype = "sql"\nurl = "sqlite:///a"\ntable = "t"\noverlap = -1', "sources.f.overlap is not a duration."),
    ],
)  # fmt: skip
def test_one_bad_value_is_one_sentence(write: Write, lines: str, expected: str) -> None:
    (problem,) = problems(write(lines + "\n"), need_credentials=False)
    assert expected in problem
    assert problem.startswith(f"{write(lines)}:")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://[::ffff:127.0.0.1]",
        "http://10.0.0.1",
        "http://127.1",
        "https://user:s3cr3t-c4n4ry@example.com",
        "https://@example.com",
        "https://example.com/?key=s3cr3t-c4n4ry",
        "https://example.com/#s3cr3t-c4n4ry",
        "http://127.0.0.1\\\\@example.com",
        "https://exam ple.com",
        "https://",
        "https://example.com:port",
        "https://example.com:99999",
        "https://[::1",
        "ftp://127.0.0.1",
        "example.com",
        "//example.com",
        "",
    ],
)
@pytest.mark.parametrize("key", ["metrica_url", "direct_url"])
def test_an_address_that_could_leak_is_refused(write: Write, key: str, url: str) -> None:
    text = BASE + f'{key} = "{url}"\n'
    (problem,) = problems(write(text))
    assert problem.startswith(f"{write(text)}:{line_of(text, key)}: destinations.yandex.{key} ")
    assert url in ("", "https://") or url not in problem


def test_plain_http_to_another_machine_is_told_why(write: Write) -> None:
    (problem,) = problems(write(BASE + 'metrica_url = "http://example.com"\n'))
    assert problem.endswith(
        "must begin with https://. Plain http:// is accepted for loopback hosts only (127.0.0.0/8, localhost, [::1])."
    )


@pytest.mark.parametrize(
    "url",
    ["https://example.com", "http://127.0.0.1:8080", "http://127.9.9.9/a", "http://localhost:1", "http://[::1]:80/x"],
)
def test_https_and_loopback_are_accepted_without_a_trailing_slash(write: Write, url: str) -> None:
    config = load(write(BASE + f'metrica_url = "{url}/"\n'))
    settings = config.destinations["yandex"]
    assert isinstance(settings, YandexSettings)
    assert settings.metrica_url == url


@pytest.mark.parametrize("endpoint", ["https://127.0.0.1:50051", "a b", "host:port", "user@host", ""])
def test_the_grpc_endpoint_is_a_host_and_a_port(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="ads_endpoint must be a host name with an optional port"):
        parse({"destinations": {"google": {"customer_id": "1234567890", "ads_endpoint": endpoint}}})


def test_all_problems_are_told_at_once_in_the_order_of_the_file(write: Write) -> None:
    text = (
        'timezone = "Nowhere"\nphone_region = "RUS"\n[sources.shop]\ntype = "hubspot"\n[actions.lead]\nkind = "x"\n'
        'ynadex = { status = "PAID" }\n[destinations.yandex]\ncounter_id = "x"\ntoken = ""\nsources = ["shpo"]\n'
        '[destinations.vk]\npixel_id = "7"\n[destinations.vk2]\nplatform = "vk"\npixel_id = "7"\n'
    )
    file = write(text)
    found = problems(file)
    lines = [int(problem.removeprefix(f"{file}:").split(":")[0]) for problem in found]
    assert lines == [1, 2, 4, 6, 7, 9, 10, 11, 16]
    assert all(len(problem) < 300 for problem in found)


def test_the_same_account_twice_would_count_twice(write: Write) -> None:
    text = '[destinations.google]\ncustomer_id = "1234567890"\n[destinations.kz]\nplatform = "google"\ncustomer_id = "123-456-7890"\n'
    file = write(text)
    assert problems(file, need_credentials=False) == [
        f"{file}:5: destinations.kz.customer_id is the same account as in [destinations.google]: "
        "it would count twice. Remove one of the two."
    ]


def test_several_accounts_of_one_platform_live_side_by_side() -> None:
    config = parse(
        {
            "destinations": {
                "google": {"customer_id": "1234567890"},
                "google_kz": {"platform": "google", "customer_id": 9876543210},
            },
            "actions": {
                "lead": {"kind": "lead", "google_kz": {"conversion_action": 5}, "google": {"conversion_action": "6"}}
            },
        }
    )
    targets = config.actions["lead"].targets
    assert {name: target.goal_key for name, target in targets.items()} == {"google": "6", "google_kz": "5"}
    assert [config.destinations[name].account for name in targets] == ["9876543210", "1234567890"]
    assert config.destinations["google_kz"].route == "google.data_manager"


# ------------------------------------------------------------------------------------------------ layers


def test_the_environment_wins_over_the_secrets_directory_and_that_over_the_file(
    write: Write, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def token() -> str:
        settings = load(write(BASE)).destinations["yandex"]
        assert isinstance(settings, YandexSettings)
        assert settings.token
        return settings.token.get_secret_value()

    assert token() == "y0_token"
    (secrets / "destinations__yandex__TOKEN").write_text("from-directory\n")
    (secrets / "destinations__yandex__TOKEN").chmod(0o600)
    assert token() == "from-directory"
    monkeypatch.setenv("CONVSYNC_DESTINATIONS__YANDEX__TOKEN", "from-environment")
    assert token() == "from-environment"


def test_text_from_the_environment_is_read_like_the_file_and_never_as_json(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "TIMEZONE": "UTC",
        "RUN__DEADLINE": "90",
        "RUN__PAGE_ROWS": "7",
        "LEDGER__URL": "sqlite:////srv/l.db",
        "DESTINATIONS__YANDEX__TOKEN": "0012e3",
        "DESTINATIONS__YANDEX__SOURCES": "shop, crm",
        "DESTINATIONS__YANDEX__ENABLED": "false",
        "DESTINATIONS__YANDEX__REQUESTS_PER_SECOND": "1.5",
        "SOURCES__CRM__TYPE": "csv",
        "SOURCES__CRM__PATH": "crm.csv",
        "SOURCES__CRM__FIELDS__VALUE": "Sum",
        "SOURCES__SHOP__OVERLAP": "500",
        "ACTIONS__SALE__KIND": "sale",
        "ACTIONS__SALE__YANDEX__STATUS": "PAID",
    }.items():
        monkeypatch.setenv(f"CONVSYNC_{name}", value)
    config = load(write(BASE))
    yandex, crm, shop = config.destinations["yandex"], config.sources["crm"], config.sources["shop"]
    assert isinstance(yandex, YandexSettings)
    assert isinstance(crm, CsvSource)
    assert isinstance(shop, SqlSource)
    assert yandex.token
    assert yandex.token.get_secret_value() == "0012e3"
    assert (config.timezone, config.run.deadline, config.run.page_rows) == (ZoneInfo("UTC"), timedelta(seconds=90), 7)
    assert (yandex.sources, yandex.enabled, yandex.requests_per_second) == (("shop", "crm"), False, 1.5)
    assert (crm.column("value"), crm.column("email"), shop.overlap) == ("Sum", "email", 500)
    assert config.ledger.path == Path("/srv/l.db")
    assert config.actions["sale"].targets["yandex"].goal_key == "PAID"


def test_a_variable_reaches_a_section_that_the_file_spells_with_capitals(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVSYNC_SOURCES__SHOP__TABLE", "other")
    config = load(write(BASE.replace("[sources.shop]", "[sources.Shop]")))
    assert list(config.sources) == ["Shop"]
    assert isinstance(shop := config.sources["Shop"], SqlSource)
    assert (shop.table, shop.url.get_secret_value().startswith("sqlite:////")) == ("other", True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "CONVSYNC_DESTINATION__YANDEX__TOKEN",
            "destination.yandex.token is not a known key. Did you mean destinations?",
        ),
        ("CONVSYNC_DESTINATIONS__YANDEX__TOKN", "destinations.yandex.tokn is not a known key. Did you mean token?"),
        ("CONVSYNC_TIMEZONE__X", "timezone.x is not a known key: timezone has nothing below it."),
        ("CONVSYNC_LEDGER", "ledger must be a section with keys of its own."),
        ("CONVSYNC_RUN__DEADLINE", "run.deadline is not a duration."),
        ("CONVSYNC_SOURCES__SHOP__TYPE", 'sources.shop.type must be "sql", "csv", "jsonl" or "vk_leads".'),
        ("CONVSYNC_DESTINATIONS__KZ__TOKEN", "destinations.kz.platform is missing."),
    ],
)
def test_a_mistake_in_a_variable_names_the_variable(
    write: Write, monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    monkeypatch.setenv(name, CANARY)
    (problem,) = problems(write(BASE))
    assert problem.startswith(f"environment variable {name}: {expected}")


def test_a_mistake_in_the_secrets_directory_names_the_file(write: Write, secrets: Path) -> None:
    for name in ("destinations__yandex__tokn", "token", "run__deadline", "sub__dir"):
        (secrets / name).write_text(CANARY)
    (secrets / ".hidden").write_text(CANARY)
    assert [problem.split(": ", 1) for problem in sorted(problems(write(BASE)))] == [
        [
            f"secrets file {secrets}/destinations__yandex__tokn",
            "destinations.yandex.tokn is not a known key. Did you mean token?",
        ],
        [
            f"secrets file {secrets}/run__deadline",
            'run.deadline is not a duration. Write a number and a unit, such as "500ms", "30s", "15m", "2h" or "120d", '
            "or a number of seconds.",
        ],
        [f"secrets file {secrets}/sub__dir", problems_known("sub.dir")],
        [f"secrets file {secrets}/token", problems_known("token")],
    ]


def problems_known(key: str) -> str:
    names = "actions, destinations, ledger, phone_region, reporting_currency, retention, run, sources, timezone"
    return f"{key} is not a known key. Known here: {names}."


def test_a_secret_behind_a_link_out_of_the_directory_is_not_passed_over_in_silence(
    write: Write, secrets: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").write_text(CANARY)
    (secrets / "destinations__yandex__token").symlink_to(tmp_path / "elsewhere")
    (problem,) = problems(write(BASE))
    assert "is a link out of the secrets directory, which is not followed." in problem


def test_the_variables_kubernetes_adds_for_a_service_are_not_ours(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SANDBOX_SERVICE_HOST", "SANDBOX_SERVICE_PORT", "SANDBOX_PORT", "SANDBOX_PORT_80_TCP_ADDR"):
        monkeypatch.setenv(f"CONVSYNC_{name}", "10.0.0.1")
    load(write(BASE))


def test_a_variable_for_a_section_and_one_for_a_key_below_it_is_a_mistake_like_any_other(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVSYNC_DESTINATIONS__YANDEX", CANARY)
    monkeypatch.setenv("CONVSYNC_DESTINATIONS__YANDEX__TOKEN", CANARY)
    assert "environment variable CONVSYNC_DESTINATIONS__YANDEX: destinations.yandex must be a section" in str(
        problems(write(BASE))
    )


def test_a_secrets_directory_that_is_not_there_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSYNC_SECRETS_DIR", "/nowhere/at/all")
    assert problems(write(BASE)) == [
        "/nowhere/at/all: there is no such secrets directory. CONVSYNC_SECRETS_DIR names it."
    ]


def test_a_secrets_file_that_is_not_text_is_a_configuration_error(write: Write, secrets: Path) -> None:
    (secrets / "destinations__yandex__token").write_bytes(b"\xff\xfe" + CANARY.encode())
    (problem,) = problems(write(BASE))
    assert "a secrets file cannot be read" in problem


def test_the_path_comes_from_the_argument_then_the_variable_then_the_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(BASE)
    assert load().timezone == ZoneInfo("Europe/Moscow")
    (tmp_path / "other.toml").write_text('timezone = "Asia/Almaty"')
    monkeypatch.setenv("CONVSYNC_CONFIG", str(tmp_path / "other.toml"))
    assert load().timezone == ZoneInfo("Asia/Almaty")
    assert load(tmp_path / "convsync.toml").file == tmp_path / "convsync.toml"


# ------------------------------------------------------------------------------------------------ secrets

SECRET_PLACES = {
    "destinations.yandex.token": {"destinations": {"yandex": {"counter_id": "1", "token": CANARY}}},
    "destinations.google.refresh_token": {
        "destinations": {"google": {"customer_id": "1234567890", "client_secret": CANARY, "refresh_token": CANARY}}
    },
    "destinations.google.developer_token": {
        "destinations": {"google": {"customer_id": "1234567890", "developer_token": CANARY}}
    },
    "destinations.vk.client_secret": {"destinations": {"vk": {"pixel_id": "1", "client_secret": CANARY}}},
    "sources.shop.url": {
        "sources": {
            "shop": {
                "type": "sql",
                "url": f"postgresql://u:{CANARY}@h/d?p={CANARY}",
                "table": "t",
                "options": {"p": CANARY},
            }
        }
    },
}


@pytest.mark.parametrize("values", SECRET_PLACES.values(), ids=SECRET_PLACES)
def test_a_secret_is_shown_nowhere(values: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    config = parse(values)
    shown = [repr(config), str(config), str(config.redacted()), str(config.warnings()), caplog.text]
    shown += [repr(section) for section in (*config.sources.values(), *config.destinations.values())]
    assert not [text for text in shown if CANARY in text]
    assert "**********" in str(config.redacted())


def test_no_message_repeats_a_value_wherever_it_was_put() -> None:
    """Somebody pastes a token into the wrong key: every key of every model gets it, as text and as a list."""
    models: dict[tuple[str, ...], type[BaseModel]] = {
        ("ledger",): LedgerSettings,
        ("run",): RunSettings,
        ("retention",): RetentionSettings,
        ("sources", "s", "sql"): SqlSource,
        ("sources", "s", "csv"): CsvSource,
        ("sources", "s", "jsonl"): JsonlSource,
        ("sources", "s", "vk_leads"): VkLeadsSource,
        ("destinations", "google"): GoogleSettings,
        ("destinations", "yandex"): YandexSettings,
        ("destinations", "vk"): VkSettings,
        ("actions", "a"): ActionSettings,
    }
    for path, model in models.items():
        for key in model.model_fields:
            for value in (f"{CANARY} ://", [CANARY], {"x": CANARY}):
                section: dict[str, object] = {"type": path[2]} if path[0] == "sources" else {}
                values: dict[str, object] = {path[0]: section | {key: value}}
                if len(path) > 1:
                    values = {path[0]: {path[1]: section | {key: value}}}
                try:
                    parse(values)
                except ConfigError as error:
                    assert CANARY not in "".join(traceback.format_exception(error))
                    assert error.__context__ is None


def test_files_that_others_can_read_are_a_warning(write: Write, secrets: Path) -> None:
    secret = secrets / "destinations__yandex__token"
    secret.write_text("t")
    secret.chmod(0o600)
    file = write(BASE)
    assert load(file).warnings() == []
    secret.chmod(0o640)
    file.chmod(0o644)
    assert [(finding.code, finding.where) for finding in load(file).warnings()] == [
        ("readable_secret", str(secret)),
        ("readable_secret", str(file)),
    ]


@pytest.mark.parametrize("empty", ['""', '"  "'])
def test_an_empty_credential_names_the_key_and_the_variable(write: Write, empty: str) -> None:
    text = BASE.replace('"y0_token"', empty)
    file = write(text)
    expected = (
        f"{file}:{line_of(text, 'token')}: destinations.yandex.token is empty. Write it here, or in the environment "
        "variable CONVSYNC_DESTINATIONS__YANDEX__TOKEN."
    )
    assert problems(file) == [expected]
    config = load(file, need_credentials=False)
    with pytest.raises(ConfigError) as caught:
        config.require_credentials("yandex")
    assert str(caught.value) == expected


def test_a_disabled_destination_needs_no_credentials(write: Write) -> None:
    file = write(BASE.replace('"y0_token"', '""\nenabled = false'))
    assert not load(file).feeds("shop", "yandex")


def test_vk_needs_credentials_to_read_and_none_to_send() -> None:
    config = parse({"destinations": {"vk": {"pixel_id": "1"}}})
    config.require_credentials("vk")
    with pytest.raises(ConfigError, match=r"vk\.client_id is empty.*\n.*vk\.client_secret is empty"):
        config.require_credentials("vk", reading=True)


@pytest.mark.parametrize(
    ("keys", "warned"),
    [({}, 0), ({"client_id": "a"}, 1), ({"client_secret": "b"}, 1), ({"client_id": "a", "client_secret": "b"}, 0)],
)
def test_half_a_pair_of_vks_keys_is_told_although_the_pixel_needs_none(keys: dict[str, str], warned: int) -> None:
    config = parse({"destinations": {"vk": {"pixel_id": "1", **keys}}})
    assert [one.where for one in config.warnings() if one.code == "half_keys"] == ["destinations.vk"] * warned


@pytest.mark.parametrize("rate", ["Russia", "22%", "0,22", 20, 1, -0.1, float("nan"), float("inf"), True, [0.22]])
def test_a_vat_rate_that_is_none_is_told_in_one_sentence(rate: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"destinations": {"vk": {"pixel_id": "1", "vat_rate": rate}}})
    assert str(caught.value) == (
        "configuration: destinations.vk.vat_rate must be a part of the net amount, such as 0.22 for 22 %, or"
        ' "russia": its rate of each day.'
    )


@pytest.mark.parametrize(
    ("rate", "read"),
    [("russia", "russia"), (0.22, Decimal("0.22")), ("0.2", Decimal("0.2")), (0, Decimal(0)), ("", None)],
)
def test_a_vat_rate_is_a_number_or_that_of_russia(rate: object, read: object) -> None:
    vk = parse({"destinations": {"vk": {"pixel_id": "1", "vat_rate": rate}}}).destinations["vk"]
    assert isinstance(vk, VkSettings)
    assert vk.vat_rate == read


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("list_mode", "old", "must be 'new' or 'append'."),
        ("list_header", "ID,дата", "must be plain Latin text on one line."),
        ("list_min_rows", 0, "must be at least 1."),
        ("contact_hash", "sha256", "must be 'none' or 'md5'."),
        ("attribution_period", "36h", 'must be whole days, such as "90d".'),
        ("api_url", "ads.vk.com", "must begin with https:// and a host name."),
    ],
)
def test_a_wrong_setting_of_vk_names_the_key_and_the_cure(key: str, value: object, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"destinations": {"vk": {"pixel_id": "1", key: value}}})
    assert str(caught.value) == f"configuration: destinations.vk.{key} {problem}"


def test_a_key_file_replaces_the_three_credentials_and_must_exist(tmp_path: Path) -> None:
    section = {"customer_id": "1234567890", "credentials_file": "google.json"}
    config = parse({"destinations": {"google": section}}, tmp_path)
    with pytest.raises(ConfigError, match="credentials_file names a file that cannot be read"):
        config.require_credentials("google")
    (tmp_path / "google.json").write_text("{}")
    config.require_credentials("google")


def test_credentials_of_an_unknown_destination_name_the_nearest() -> None:
    config = parse({"destinations": {"vk": {"pixel_id": "1"}}})
    with pytest.raises(ConfigError, match=r"there is no \[destinations.vkk\]. Did you mean vk\?"):
        config.require_credentials("vkk")


# ------------------------------------------------------------------------------------------------ what is read


def test_paths_start_from_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "etc [1]"
    folder.mkdir()
    (folder / "c.toml").write_text(
        '[sources.a]\ntype = "sql"\nurl = "sqlite:///shop.db"\ntable = "t"\n[sources.b]\ntype = "csv"\npath = "in/*.csv"\n'
        '[sources.c]\ntype = "jsonl"\npath = "/srv/*.jsonl"\n[sources.e]\ntype = "sql"\nurl = "sqlite+pysqlite:///e.db"\ntable = "t"\n'
        '[sources.d]\ntype = "sql"\nurl = "mysql://u@h/d"\ntable = "t"\n'
    )
    (folder / "in").mkdir()
    (folder / "in" / "1.csv").touch()
    monkeypatch.chdir(tmp_path)
    config = load(Path("etc [1]/c.toml"))
    a, b, c, e, d = config.sources.values()
    assert isinstance(a, SqlSource)
    assert isinstance(b, CsvSource)
    assert isinstance(c, JsonlSource)
    assert isinstance(d, SqlSource)
    assert isinstance(e, SqlSource)
    assert e.url.get_secret_value() == f"sqlite+pysqlite:///{folder}/e.db"
    assert config.ledger.path == folder / "convsync.db"
    assert a.url.get_secret_value() == f"sqlite:///{folder}/shop.db"
    assert [str(path) for path in Path("/").glob(b.path.lstrip("/"))] == [str(folder / "in" / "1.csv")]
    assert c.path == "/srv/*.jsonl"
    assert d.url.get_secret_value() == "mysql://u@h/d"


def test_a_source_has_every_common_key(tmp_path: Path) -> None:
    common = {
        "type": "csv", "path": "a.csv", "id": ["deal", "stage"], "action": "sale", "currency": "rub", "timezone": "Asia/Almaty",
        "time_of_day": "9:30", "consent_ad_user_data": True, "consent_ad_personalization": False, "page_rows": 10,
        "delimiter": "\t", "decimal_comma": True, "occurred_format": "%Y%m%d",
    }  # fmt: skip
    config = parse({"timezone": "UTC", "sources": {"f": common, "g": {"type": "jsonl", "path": "x"}}}, tmp_path)
    source = config.sources["f"]
    assert isinstance(source, CsvSource)
    assert (source.id, source.currency, source.time_of_day) == (("deal", "stage"), "RUB", time(9, 30))
    assert (source.delimiter, source.decimal_comma, source.encoding) == ("\t", True, "utf-8-sig")
    assert (config.zone_of("f"), config.zone_of("g")) == (ZoneInfo("Asia/Almaty"), ZoneInfo("UTC"))
    assert (config.page_rows_of("f"), config.page_rows_of("g")) == (10, 2000)
    assert config.sources["g"].id == ("external_id",)


def test_empty_text_means_that_an_optional_key_is_unset() -> None:
    config = parse(
        {
            "phone_region": "",
            "destinations": {
                "google": {"customer_id": "123-456-7890", "login_customer_id": "", "client_id": "", "refresh_token": ""}
            },
        }
    )
    google = config.destinations["google"]
    assert isinstance(google, GoogleSettings)
    assert (google.customer_id, google.login_customer_id, google.refresh_token) == ("1234567890", None, None)
    assert config.phone_region is None


def test_each_platform_brings_its_own_waiting() -> None:
    config = parse(
        {
            "destinations": {
                "google": {"customer_id": "1234567890"},
                "yandex": {"counter_id": "1"},
                "vk": {"pixel_id": "1", "slash_encoding": "raw"},
            }
        }
    )
    google, yandex, vk = config.destinations.values()
    assert [d.requests_per_second for d in (google, yandex, vk)] == [4.5, 25, 5]
    assert [d.in_flight for d in (google, yandex, vk)] == [4, 3, 5]
    assert [d.batch_rows for d in (google, yandex, vk)] == [2000, 100_000, 1]
    assert [d.timeout.total_seconds() for d in (google, yandex, vk)] == [60, 60, 10]
    assert [d.connect_timeout.total_seconds() for d in (google, yandex, vk)] == [5, 5, 3]
    assert isinstance(vk, VkSettings)
    assert vk.slash_encoding == "/"


def test_what_is_seldom_meant_is_a_warning() -> None:
    config = parse({"destinations": {"vk": {"pixel_id": "1"}}, "actions": {"lead": {"kind": "lead"}}})
    assert [(finding.level, finding.code, finding.where) for finding in config.warnings()] == [
        ("warning", "unused_destination", "destinations.vk"),
        ("warning", "unsent_action", "actions.lead"),
    ]


@pytest.mark.parametrize(
    ("status", "warned"), [("PAYED", True), ("PAID", False), ("paid_order", False), ("VIP", False)]
)
def test_a_status_that_is_nearly_one_of_metrica_is_a_warning(status: str, warned: bool) -> None:
    config = parse(
        {
            "destinations": {"yandex": {"counter_id": "1"}},
            "actions": {"sale": {"kind": "sale", "yandex": {"status": status}}},
        }
    )
    told = [(finding.code, finding.where, finding.advice) for finding in config.warnings()]
    expected = [("status_as_goal", "actions.sale.yandex", "If PAID was meant, write that.")]
    assert told == (expected if warned else [])


def _with_yandex(targets: dict[str, dict[str, Any]], **settings: Any) -> Config:
    actions = {name: {"kind": "sale", "yandex": target} for name, target in targets.items()}
    return parse({"destinations": {"yandex": {"counter_id": "1", **settings}}, "actions": actions})


def test_a_stage_of_the_crm_in_place_of_a_status_is_a_warning() -> None:
    (told,) = _with_yandex({"sale": {"status": "Оплачен"}}).warnings()
    assert (told.code, told.where) == ("status_as_goal", "actions.sale.yandex")
    assert "IN_PROGRESS, PAID, CANCELLED, SPAM" in told.advice


@pytest.mark.parametrize("order", [{"status": "crm_sale"}, {"status": "PAID", "goals": ["a", "crm_sale:5"]}])
def test_a_goal_of_orders_and_of_conversions_is_a_warning(order: dict[str, Any]) -> None:
    (told,) = _with_yandex({"sale": order, "call": {"goal": "crm_sale"}}).warnings()
    assert (told.code, told.where) == ("goal_both_ways", "destinations.yandex")
    assert "crm_sale is reached by orders (actions.sale) and by conversions (actions.call)" in told.message


def test_goals_that_go_one_way_each_are_no_warning() -> None:
    sale = {"status": "PAID", "goal": "crm_sale", "goals": ["vip"]}
    assert _with_yandex({"sale": sale, "call": {"goal": "crm_sale"}, "lead": {"status": "vip"}}).warnings() == []


@pytest.mark.parametrize(("logins", "warned"), [(["b"], True), (["a", "b"], False), (None, False)])
def test_a_login_that_no_cost_is_read_of_is_a_warning(logins: list[str] | None, warned: bool) -> None:
    more = {} if logins is None else {"cost_client_logins": logins}
    config = _with_yandex({"sale": {"status": "PAID"}}, client_login="a", **more)
    told = [one.code for one in config.warnings()]
    assert told == (["login_unread"] if warned else [])


def test_a_wrong_word_in_a_list_is_one_problem() -> None:
    with pytest.raises(ConfigError) as caught:
        _with_yandex({"sale": {"goal": "crm_sale", "by": ["clientid"]}})
    (line,) = str(caught.value).splitlines()
    assert "actions.sale.yandex.by.0 must be 'yclid', 'client_id', 'user_id' or 'purchase_id'." in line


def test_status_words_of_the_source_are_translated_to_ours_and_to_nothing_else() -> None:
    source = {"type": "csv", "path": "x", "statuses": {"Отказ": "cancelled"}, "fields": {"user_id": ""}}
    config = parse({"sources": {"a": source}})
    assert config.sources["a"].statuses == {"Отказ": "cancelled"}
    assert config.sources["a"].fields == {"user_id": ""}
    with pytest.raises(ConfigError, match=r"sources\.a\.statuses\.Отказ must be 'active', 'cancelled'"):
        parse({"sources": {"a": source | {"statuses": {"Отказ": "lost"}}}})


def test_a_source_list_limits_who_feeds_a_destination() -> None:
    source = {"type": "csv", "path": "x"}
    config = parse({"sources": {"a": source, "b": source}, "destinations": {"vk": {"pixel_id": "1", "sources": ["a"]}}})
    assert [name for name in config.sources if config.feeds(name, "vk")] == ["a"]


@pytest.mark.parametrize(
    ("api", "written", "route", "on_refund"),
    [
        (None, None, "google.data_manager", "zero"),
        ("data_manager", None, "google.data_manager", "zero"),
        ("data_manager", "", "google.data_manager", "zero"),
        ("data_manager", "retract", "google.data_manager", "retract"),
        ("ads", None, "google.ads", "retract"),
        ("ads", "ignore", "google.ads", "ignore"),
    ],
)
def test_each_way_into_google_has_its_route_and_its_way_with_refunds(
    api: str | None, written: str | None, route: str, on_refund: str
) -> None:
    said = {key: value for key, value in (("api", api), ("on_refund", written)) if value is not None}
    config = parse({"destinations": {"google": {"customer_id": "1234567890", **said}}})
    settings = config.destinations["google"]
    assert isinstance(settings, GoogleSettings)
    assert (settings.route, settings.on_refund) == (route, on_refund)


def test_the_way_into_google_can_be_changed_from_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSYNC_DESTINATIONS__GOOGLE__API", "ads")
    monkeypatch.setenv("CONVSYNC_DESTINATIONS__GOOGLE__COST_CUSTOMER_IDS", "123-456-7890, 0987654321")
    settings = load(write(GOOGLE), need_credentials=False).destinations["google"]
    assert isinstance(settings, GoogleSettings)
    assert (settings.route, settings.on_refund) == ("google.ads", "retract")
    assert settings.cost_customer_ids == ("1234567890", "0987654321")


def test_what_google_may_be_told_of_a_shop_and_of_one_action() -> None:
    shop = {"merchant_id": 123, "merchant_feed_label": "ru", "merchant_feed_language": "ru"}
    target = {"conversion_action": 5, "calls": True, "consent_ad_user_data": "unset"}
    config = parse(
        {
            "destinations": {"google": {"customer_id": "1234567890", **shop}},
            "actions": {"call": {"kind": "lead", "google": target}},
        }
    )
    google, call = config.destinations["google"], config.actions["call"].targets["google"]
    assert isinstance(google, GoogleSettings)
    assert isinstance(call, GoogleTarget)
    assert (google.merchant_id, google.merchant_feed_label, google.merchant_feed_language) == ("123", "RU", "ru")
    assert call.told == ("5", None, True, "unset", None)


def test_the_custom_variables_of_a_destination_are_those_of_the_sources_that_feed_it() -> None:
    def source(**variables: str) -> dict[str, object]:
        return {"type": "csv", "path": "x", "custom_variables": variables}

    google = {"customer_id": "1234567890", "sources": ["a", "b"]}
    sources = {"a": source(plan="p", city="c"), "b": source(city="town"), "c": source(secret="s")}
    config = parse({"sources": sources, "destinations": {"google": google, "vk": {"pixel_id": "1", "enabled": False}}})
    assert config.variables_of("google") == ("plan", "city")
    assert config.variables_of("vk") == ()


def test_nothing_changes_after_loading() -> None:
    config = parse({})
    with pytest.raises(ValueError, match="frozen"):
        config.phone_region = "RU"


def test_an_empty_configuration_loads_with_the_defaults(write: Write) -> None:
    config = load(write(""))
    assert config.timezone is None
    assert (config.run.deadline, config.retention.identifiers) == (timedelta(minutes=45), timedelta(days=120))


# ------------------------------------------------------------------------------------------------ durations and lines


@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_duration_reads_back_as_the_same_duration(number: int, unit: str) -> None:
    value = duration(f"{number % 10**6}{unit}")
    assert duration(duration_text(value)) == value


@given(st.text(max_size=12))
def test_no_text_makes_a_duration_fail_otherwise_than_with_a_sentence(text: str) -> None:
    try:
        assert duration(text) >= timedelta(0)
    except ValueError as error:
        assert "a duration" in str(error)


@pytest.mark.parametrize(
    ("written", "seconds"), [("500ms", 0.5), ("30s", 30), ("15m", 900), ("2h", 7200), ("120d", 10368000), (45, 45), ("1.5 h", 5400)]
)  # fmt: skip
def test_durations_have_units_or_are_seconds(written: object, seconds: float) -> None:
    assert duration(written).total_seconds() == seconds


@given(st.text(max_size=20))
def test_a_host_is_loopback_only_if_it_is_written_as_one(host: str) -> None:
    assert not is_loopback(host) or host.lower() == "localhost" or host.startswith("127.") or ":" in host


def test_lines_are_found_through_long_texts_comments_and_lists() -> None:
    text = (
        '# [no]\na = """\n[not.this]\nb = 1\n"""\n[x."y.z"] # [w]\nlist = [\n  "]", # ]\n  "k = 1",\n]\n'
        "'q r' = '''\nz = 1'''\nlast.one = { in = 1 }\n[[t]]\nu = \"\\\"[v]\"\n"
    )
    assert key_lines(text) == {
        ("a",): 2,
        ("x",): 6,
        ("x", "y.z"): 6,
        ("x", "y.z", "list"): 7,
        ("x", "y.z", "q r"): 11,
        ("x", "y.z", "last"): 13,
        ("x", "y.z", "last", "one"): 13,
        ("t",): 14,
        ("t", "u"): 15,
    }
