"""Keys are promises: what a key is made of can never change, or everything is sent a second time."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync.model import key_of


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        (("shop", "deal-1", "sale", "google", "2222222222"), "bcb1afb6b3ae0680a7dc856df23bea53"),
        (("", "", "", "", ""), "fabc833872435cea3f0863489221d2c8"),
        (("магазин", "заказ-7", "лид", "яндекс", "цель"), "078ae2a989bbc6e37e3b51c322ceaa9c"),
        (("a:b", "1:2", "3:", "vk", ":4"), "4876bd693ad4e110e37f189c17a6369b"),
        (("shop", "😀" * 20, "x" * 300, "google_2", "0"), "e4e334fa7c2fe3592464dc3cae1c47a5"),
    ],
)
def test_a_key_is_the_same_for_ever(parts: tuple[str, str, str, str, str], key: str) -> None:
    """Written down on the day of the first release: never to be edited."""
    assert key_of(*parts).hex() == key


@given(st.tuples(*[st.text(max_size=20)] * 5))
def test_a_key_is_the_hash_of_its_parts_each_after_its_length(parts: tuple[str, str, str, str, str]) -> None:
    whole = "".join(f"{len(part)}:{part}" for part in parts)
    assert key_of(*parts) == hashlib.sha256(whole.encode()).digest()[:16]
