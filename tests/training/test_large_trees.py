"""The number of clusters of real digits, and of features without clusters."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ilk.analysis.hierarchy import grow_tree


def test_the_number_of_digits_is_found_within_a_fifth() -> None:
    found = grow_tree(load_digits().data, k_high=30)
    assert 8 <= found.chosen <= 12
    assert found.sure != "low"


@pytest.mark.parametrize("kind", ["gaussian", "box"])
def test_one_blob_has_no_clear_clusters(kind: str) -> None:
    random = np.random.default_rng(0)
    x = (
        random.normal(size=(700, 40)) * np.arange(1, 41) ** -0.5
        if kind == "gaussian"
        else random.uniform(size=(700, 20))
    )
    found = grow_tree(x)
    assert found.sure == "low"
    assert found.sentence.startswith("No clear clusters")
