"""Studies: the papers' ablations, run again on any labelled set, beside the figures that they print."""

from ilk.research.study.definition import Study, cost_line, find_study, seconds_of, studies, wanted

__all__ = ["Study", "cost_line", "find_study", "seconds_of", "studies", "wanted"]
