"""How good a finished run is, by the protocols of the papers and without labels. Nothing here changes a run's model.

`score_run` gives the scores that take seconds; `evaluate_run` runs the protocols and writes `evaluation.json`.
"""

from ilk.evaluation.evaluated_images import find_labels
from ilk.evaluation.evaluation_options import PROTOCOLS, EvaluationOptions
from ilk.evaluation.intervals import score_with_intervals
from ilk.evaluation.label_free import LabelFree, label_free_scores, run_agreement
from ilk.evaluation.long_tail import long_tailed, long_tailed_images
from ilk.evaluation.printout import evaluation_lines
from ilk.evaluation.provenance import are_positions, same_source
from ilk.evaluation.run_protocols import evaluate_run
from ilk.evaluation.run_scores import known_scores, score_run

__all__ = [
    "PROTOCOLS",
    "EvaluationOptions",
    "LabelFree",
    "are_positions",
    "evaluate_run",
    "evaluation_lines",
    "find_labels",
    "known_scores",
    "label_free_scores",
    "long_tailed",
    "long_tailed_images",
    "run_agreement",
    "same_source",
    "score_run",
    "score_with_intervals",
]
