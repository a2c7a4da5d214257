"""VK's lead forms from the configuration to the report: what cannot be configured, what is read, and what a sale counts for."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from convsync.config import VkLeadsSource, load, parse
from convsync.errors import ConfigError
from convsync.sandbox.vk_leads import Lead, LeadsConfig

FORMS = """
[sources.forms]
type = "vk_leads"
account = "vk"
action = "form_lead"
"""
CRM = """
[sources.crm]
type = "jsonl"
path = "crm.jsonl"
id = "id"
"""
ACTION = """
[actions.form_lead]
kind = "micro"
"""
KEYS = 'client_id = "sandbox-vk"\nclient_secret = "sandbox-vk-secret"\napi_requests_per_second = 1000\n'
PHONE = "+7 916 765-40-21"
VK = {"pixel_id": "1", "client_id": "a", "client_secret": "b"}


@pytest.fixture
def forms(shop: Any) -> Any:
    """A shop with lead forms, and a CRM that tells of phones."""
    configure(shop)
    (shop.folder / "crm.jsonl").write_text("", "utf-8")
    return shop


def configure(shop: Any, more: str = "", *, keys: str = KEYS) -> None:
    def change(text: str) -> str:
        head, _, vk = text.partition("[destinations.vk]\n")
        api = f'api_url = "{shop.box.url}"\n'
        return f"{head}{FORMS}{more}{CRM}{ACTION}\n[destinations.vk]\n{keys}{api}{vk}"

    shop.configure(change)


def ago(**span: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(**span)


def given_leads(shop: Any, *leads: tuple[int, datetime, int | None], **told: Any) -> LeadsConfig:
    """Number, moment and campaign of each; all of one person."""
    made = [
        Lead(
            number, form_id=101, ad_plan_id=campaign, created=moment.isoformat(), phone=PHONE, email="anna@example.com"
        )
        for number, moment, campaign in leads
    ]
    shop.box.config.vk.leads = LeadsConfig(made, created_zone="moscow", **told)
    found: LeadsConfig = shop.box.config.vk.leads
    return found


def crm(shop: Any, *rows: dict[str, Any]) -> None:
    known = {"occurred_at": ago(hours=1).isoformat(), "phone": "8 916 7654021"}
    lines = [json.dumps({"id": f"c{number}", **known, **row}) + "\n" for number, row in enumerate(rows)]
    (shop.folder / "crm.jsonl").write_text("".join(lines), "utf-8")


def run(shop: Any, *args: str, code: int = 0) -> dict[str, Any]:
    result = shop.run("-q", *args, "--json")
    assert result.exit_code == code, result.output
    assert not any(secret in result.output for secret in ("sandbox-vk-secret", "7654021", "765-40-21", "anna@"))
    told: dict[str, Any] = json.loads(result.stdout)
    return told


# -- the configuration


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"account": "vkk"}, "sources.forms.account names no [destinations.*] section of VK Ads. Did you mean vk?"),
        ({"account": "google"}, "sources.forms.account names no [destinations.*] section of VK Ads. Known here: vk."),
        (
            {"action": "from_lead"},
            "sources.forms.action names no [actions.*] section, so that every lead would be skipped.",
        ),
        (
            {"account": None},
            "sources.forms.account is missing. Write the name of the [destinations.*] section of VK Ads",
        ),
        ({"action": None}, "sources.forms.action is missing. Write the name of the [actions.*] section"),
        ({"forms": []}, "sources.forms.forms must name at least one, or be left out."),
        ({"forms": ["a1"]}, "sources.forms.forms.0 must be digits only"),
        ({"overlap": "a day"}, "sources.forms.overlap is not a duration."),
        ({"timezone": "Moscow"}, "sources.forms.timezone is not a time zone."),
        ({"fields": {"phone": "tel"}}, "sources.forms.fields is not a known key."),
        ({"page_rows": 10}, "sources.forms.page_rows is not a known key."),
    ],
)
def test_a_mistake_is_told_with_its_cure(change: dict[str, Any], said: str) -> None:
    told = {"type": "vk_leads", "account": "vk", "action": "form_lead"} | change
    section = {name: value for name, value in told.items() if value is not None}
    google = {"customer_id": "1234567890"}
    with pytest.raises(ConfigError) as caught:
        parse(
            {
                "sources": {"forms": section},
                "actions": {"form_lead": {"kind": "micro"}},
                "destinations": {"vk": VK, "google": google},
            }
        )
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("consent", "target", "warned"),
    [
        (None, {"list": "Leads"}, ["no_consent"]),
        (False, {"goal": "lead", "list": "Leads"}, ["no_consent"]),
        (True, {"goal": "lead"}, ["no_click"]),
        (True, {"list": "Leads"}, []),
    ],
)
def test_leads_that_vk_will_not_take_are_told_before_they_are_read(
    consent: bool | None, target: dict[str, str], warned: list[str]
) -> None:
    source = {"type": "vk_leads", "account": "vk", "action": "form_lead", "consent_ad_user_data": consent}
    config = parse({
        "sources": {"forms": {name: value for name, value in source.items() if value is not None}},
        "actions": {"form_lead": {"kind": "micro", "vk": target}},
        "destinations": {"vk": VK},
    })  # fmt: skip
    assert [one.code for one in config.warnings() if one.where == "sources.forms"] == warned


def test_form_leads_that_are_counted_and_sent_nowhere_are_no_reason_to_warn() -> None:
    source = {"type": "vk_leads", "account": "vk", "action": "form_lead"}
    actions = {"form_lead": {"kind": "lead"}, "sale": {"kind": "sale", "vk": {"goal": "sale"}}}
    config = parse({"sources": {"forms": source}, "actions": actions, "destinations": {"vk": VK}})
    assert config.warnings() == []


def test_without_a_section_of_vk_it_is_said_what_is_needed() -> None:
    section = {"type": "vk_leads", "account": "vk", "action": "lead"}
    with pytest.raises(
        ConfigError, match=r"sources\.forms\.account needs a \[destinations\.vk\] section with the keys"
    ):
        parse({"sources": {"forms": section}, "actions": {"lead": {"kind": "lead"}}})


def test_what_is_not_written_has_a_default() -> None:
    section = {"type": "vk_leads", "account": "vk_kz", "action": "lead", "forms": [101, "102"]}
    vk = VK | {"platform": "vk", "enabled": False}
    config = parse(
        {"sources": {"forms": section}, "actions": {"lead": {"kind": "lead"}}, "destinations": {"vk_kz": vk}}
    )
    settings = config.sources["forms"]
    assert isinstance(settings, VkLeadsSource)
    assert (settings.forms, settings.overlap, settings.timezone) == (
        ("101", "102"),
        timedelta(days=1),
        ZoneInfo("Europe/Moscow"),
    )
    assert (settings.consent_ad_user_data, settings.consent_ad_personalization) == (None, None)
    assert (config.zone_of("forms"), config.page_rows_of("forms")) == (ZoneInfo("Europe/Moscow"), 2000)
    assert (config.variables_of("vk_kz"), config.tells_lead_forms()) == ((), True)
    assert config.redacted()["sources"]["forms"]["overlap"] == "1d"


@pytest.mark.parametrize(("fields", "told"), [({"lead_form": "form"}, True), ({"lead_form": ""}, False), ({}, False)])
def test_a_file_may_tell_of_lead_forms_as_well(fields: dict[str, str], told: bool) -> None:
    config = parse({"sources": {"leads": {"type": "csv", "path": "leads.csv", "fields": fields}}})
    assert config.tells_lead_forms() is told


def test_a_variable_can_name_the_forms(forms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSYNC_SOURCES__FORMS__FORMS", "101, 102")
    settings = load(forms.path, need_credentials=False).sources["forms"]
    assert isinstance(settings, VkLeadsSource)
    assert settings.forms == ("101", "102")


@pytest.mark.parametrize("lacking", ["client_id", "client_secret"])
def test_nothing_is_read_without_keys_and_the_missing_one_is_named(forms: Any, lacking: str) -> None:
    configure(forms, keys="".join(line for line in KEYS.splitlines(keepends=True) if not line.startswith(lacking)))
    result = forms.run("sync")
    assert result.exit_code == 2
    assert f"destinations.vk.{lacking} is empty" in result.output
    assert not forms.ledger.exists()
    [finding] = [one for one in run(forms, "check", code=1)["findings"] if one["where"] == "source forms"]
    assert f"destinations.vk.{lacking} is empty" in finding["message"]


# -- check


def test_check_asks_vk_only_online(forms: Any) -> None:
    given_leads(forms, (1, ago(hours=3), 7))
    offline = [one["message"] for one in run(forms, "check")["findings"] if one["where"] == "source forms"]
    assert offline == ["VK is asked for its leads with --online."]
    assert forms.box.books()["vk"]["leads"]["totals"]["pages"] == 0
    result = forms.run("check", "--online", "--json")
    online = [one["message"] for one in json.loads(result.stdout)["findings"] if one["where"] == "source forms"]
    assert online == ["VK lists 1 lead.", "it can be read (vk_leads)."]


def test_check_tells_that_vk_does_not_open_lead_forms(forms: Any) -> None:
    given_leads(forms, closed=True)
    result = forms.run("check", "--online", "--json")
    (finding,) = [one for one in json.loads(result.stdout)["findings"] if one["where"] == "source forms"]
    assert finding["level"] == "error"
    assert "does not open lead forms to this client" in finding["message"]
    assert "Export the leads from VK Ads as CSV" in finding["advice"]


# -- a run


def test_a_vk_that_refuses_stops_no_other_source(forms: Any) -> None:
    given_leads(forms, denied=True)
    crm(forms, {"action": "lead"})
    told = run(forms, "sync", code=2)
    (finding,) = [one for one in told["findings"] if one["where"] == "source forms"]
    assert "HTTP 403 access_denied" in finding["message"]
    assert told["read"] == 1


def test_a_vk_that_is_down_is_asked_again_by_the_next_run(forms: Any) -> None:
    given_leads(forms, (1, ago(hours=3), 7))
    forms.box.faults.add({"on": "vk.leads", "kind": "status", "status": 503})
    assert run(forms, "sync", code=3)["read"] == 0
    assert run(forms, "sync")["read"] == 1


def test_one_token_serves_every_run_and_every_page(forms: Any) -> None:
    given_leads(forms, *[(number, ago(hours=200 - number), 7) for number in range(1, 131)])
    assert run(forms, "sync")["new"] == 130
    again = run(forms, "sync")
    assert (again["new"], again["read"] < 40) == (0, True)
    assert sum(one["new"] for one in forms.box.books()["vk"]["token_users"].values()) == 1


def test_a_backfill_reads_its_span_and_moves_no_mark(forms: Any) -> None:
    given_leads(forms, *[(number, ago(days=20 - number), 7) for number in range(1, 20)])
    since, until = ago(days=10, minutes=5), ago(days=8, minutes=5)
    told = run(forms, "backfill", "--since", since.isoformat(), "--until", until.isoformat(), "--source", "forms")
    assert told["read"] == 2
    assert run(forms, "sync")["read"] == 19


def test_a_dry_run_reads_leads_and_keeps_nothing_of_them(forms: Any) -> None:
    given_leads(forms, (1, ago(hours=3), 7))
    assert run(forms, "sync", "--dry-run")["new"] == 1
    assert run(forms, "sync")["new"] == 1


def report(shop: Any) -> dict[tuple[str, str], dict[str, Any]]:
    since = (datetime.now(UTC) - timedelta(days=40)).date().isoformat()
    rows = run(shop, "report", "--since", since, "--by", "platform,campaign")["rows"]
    return {(row["platform"], row["campaign"]): row for row in rows if row["platform"] != "total"}


def test_a_sale_of_the_crm_counts_for_the_campaign_of_the_form(forms: Any) -> None:
    """The deal names no campaign; VK matches it by its user id, so that it is sent there and counts as taken."""
    given_leads(forms, (1, ago(days=3), 9100102))
    crm(
        forms,
        {"action": "sale", "value": 100, "currency": "RUB", "vk_user_id": "u1"},
        {"action": "sale", "value": 30, "currency": "RUB", "phone": "+79990000000", "vk_user_id": "u2"},
        {"action": "sale", "value": 7, "currency": "RUB", "gclid": "Cj0KCQ-1"},
    )
    assert run(forms, "sync")["new"] == 4
    rows = report(forms)
    brought = rows["vk", "9100102"]
    assert (brought["actions"], brought["leads"], brought["sales"], brought["value"]) == (2, 0, 1, 100)
    assert brought["coverage"] == 1
    assert rows["(unattributed)", "(no campaign)"]["sales"] == 1
    assert rows["google", "(no campaign)"]["sales"] == 1


@pytest.mark.parametrize(("kind", "number", "told"), [("lead", 3, True), ("lead", 2, False), ("micro", 3, False)])
def test_a_report_says_that_leads_count_twice(forms: Any, kind: str, number: int, told: bool) -> None:
    forms.path.write_text(forms.path.read_text("utf-8").replace(ACTION, ACTION.replace("micro", kind)), "utf-8")
    given_leads(forms, (1, ago(hours=2), 7))
    crm(forms, *[{"action": "lead", "gclid": f"Cj0KCQ-{at}"} for at in range(number)])
    run(forms, "sync")
    notes = run(forms, "report")["notes"]
    assert [note for note in notes if note.startswith("3 leads of crm are of people who left a lead at forms")] == (
        [
            "3 leads of crm are of people who left a lead at forms within hours, by their phone: both count. If they are the"
            ' same, give those of forms an action of kind = "micro".'
        ]
        if told
        else []
    )


def test_leads_exported_by_hand_are_joined_like_those_that_were_read(shop: Any) -> None:
    """Where VK does not open the API."""

    def change(text: str) -> str:
        fields = '[sources.crm.fields]\nlead_form = "form"\n'
        return text.replace("[actions.lead]", f"{CRM}{fields}{ACTION}\n[actions.lead]", 1)

    shop.configure(change)
    crm(
        shop,
        {
            "action": "form_lead",
            "occurred_at": ago(days=2).isoformat(),
            "form": "101",
            "campaign_id": "7",
            "utm_source": "vk",
        },
        {"action": "sale", "value": 100, "currency": "RUB", "ym_client_id": "1600000000012345678"},
    )
    run(shop, "sync")
    assert report(shop)["vk", "7"]["sales"] == 1


def test_a_run_with_lead_forms_imports_no_client_of_google(forms: Any) -> None:
    given_leads(forms, (1, ago(hours=3), 7))
    code = (
        "import sys; from convsync.cli import commands\n"
        f"try: commands(['--config', {str(forms.path)!r}, '-q', 'sync', '--source', 'forms'])\n"
        "except SystemExit as end: print(end.code, [m for m in sys.modules if m.startswith(('grpc', 'google.ads'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=forms.folder)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


def test_no_contact_of_a_lead_is_in_the_ledger_in_clear(forms: Any) -> None:
    given_leads(forms, (1, ago(hours=3), 7))
    run(forms, "sync")
    kept = b"".join(path.read_bytes() for path in Path(forms.folder).glob("ledger.db*"))
    assert not any(contact in kept for contact in (b"916765", b"916 765", b"765-40-21", b"anna@"))
