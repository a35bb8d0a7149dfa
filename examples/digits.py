"""Cluster an array of images in Python, list the least certain images, and assign new images.

python examples/digits.py [EPOCHS]
"""

import sys

import numpy as np
from sklearn.datasets import load_digits

from ilk import Clusterer
from ilk.analysis.metrics import accuracy

digits = load_digits()
images = (digits.images * (255 / 16)).round().astype(np.uint8)  # (1797, 8, 8)
old, new = images[:1500], images[1500:]

clusterer = Clusterer(n_clusters=10, epochs=int(sys.argv[1]) if len(sys.argv) > 1 else 60, random_state=0)
clusterer.fit(old)
print(f"accuracy {accuracy(digits.target[:1500], clusterer.labels_):.3f} on the 1,500 training images")
print(f"accuracy {accuracy(digits.target[1500:], clusterer.predict(new)):.3f} on 297 new images")

uncertain = np.argsort(clusterer.confidence_)[:5]
print("least certain:", ", ".join(f"image {i} ({clusterer.confidence_[i]:.0%})" for i in uncertain))

similarity = clusterer.transform(new[:1]) @ clusterer.embedding_.astype(np.float32).T  # (1, 1500), cosine
print("most similar to the first new image:", np.argsort(-similarity[0])[:5])
