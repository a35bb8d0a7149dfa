"""`ilk demo`: a training on handwritten digits that need no download."""

from __future__ import annotations

from ilk.analysis.metrics import accuracy
from ilk.images import load_images
from ilk.pipeline.fitting import fit
from ilk.pipeline.request import Request
from ilk.runs.folder import Run
from ilk.system.progress import Watch


def demo(request: Request, run: Run, watch: Watch | None = None) -> float:
    """Clusters scikit-learn's 1,797 handwritten digits; returns the accuracy of k-means on the raw pixels."""
    from sklearn.cluster import KMeans
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = load_images((digits.images * (255 / 16)).round().astype("uint8"), labels=digits.target)
    fit(request, images, run, watch=watch)
    pixels = KMeans(10, n_init=10, random_state=request.seed).fit_predict(digits.data)
    return accuracy(digits.target, pixels)
