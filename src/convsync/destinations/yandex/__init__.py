"""Yandex.Metrica, from where conversions reach Yandex.Direct: `orders` is the route, `metrica` what routes share."""

from convsync.destinations.yandex.orders import Orders

__all__ = ["Orders"]
