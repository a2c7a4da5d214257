"""VK Ads: two routes, `pixel` (goals of a pixel) and `lists` (offline conversions by contact).

`api` and `tokens` are what asks the VK Ads API: the lists, cost, goals, lead forms. The pixel needs neither.
"""

from convsync.destinations.vk.lists import Lists
from convsync.destinations.vk.pixel import Pixel

__all__ = ["Lists", "Pixel"]
