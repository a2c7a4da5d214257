"""Yandex.Metrica, from where conversions reach Yandex.Direct: two routes, `orders` and `conversions`.

`metrica` is what they share: the counter, the token, the table of replies.
"""

from convsync.destinations.yandex.conversions import Conversions
from convsync.destinations.yandex.orders import Orders

__all__ = ["Conversions", "Orders"]
