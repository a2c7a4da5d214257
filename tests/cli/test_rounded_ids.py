"""What `check` and `sync` tell of ClientIDs that went through a spreadsheet."""

from __future__ import annotations

import json
from typing import Any


def test_check_and_sync_warn_of_rounded_ids_and_send_them_all_the_same(shop: Any) -> None:
    for number in range(24):
        shop.row(str(number), "lead", ym_client_id=f"16{number:013d}0000")
    for command in (("check",), ("sync",)):
        result = shop.run(*command, "--json")
        assert result.exit_code == 0, result.output
        (found,) = [one for one in json.loads(result.stdout)["findings"] if one["code"] == "rounded_ids"]
        assert (found["level"], found["where"]) == ("warning", "source shop")
        assert found["message"].startswith("24 of 24 ids in the column ym_client_id")
    assert set(shop.states("yandex").values()) == {"accepted"}
