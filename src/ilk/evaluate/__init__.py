"""How good a finished run is, by the protocols of the papers and without labels. Nothing here changes a run's model.

`score_run` is the quick form; `evaluate_run` runs the protocols and writes `evaluation.json`.
"""

from ilk.evaluate.imbalance import long_tailed, long_tailed_images
from ilk.evaluate.intervals import score_with_intervals
from ilk.evaluate.label_free import LabelFree, label_free_scores
from ilk.evaluate.quick import find_labels, known_scores, score_run
from ilk.evaluate.run import PROTOCOLS, Asked, evaluate_run
from ilk.evaluate.table import evaluation_lines

__all__ = [
    "PROTOCOLS",
    "Asked",
    "LabelFree",
    "evaluate_run",
    "evaluation_lines",
    "find_labels",
    "known_scores",
    "label_free_scores",
    "long_tailed",
    "long_tailed_images",
    "score_run",
    "score_with_intervals",
]
