"""The size of the report's page. (Making the thumbnails takes longer than a unit test may.)"""

from __future__ import annotations

from ilk.reports.page import render
from made_payloads import make_payload


def test_ten_thousand_images_take_about_five_megabytes() -> None:
    assert len(render(make_payload(10_000, 20, labels=True, tile=36)).encode()) < 6_000_000
