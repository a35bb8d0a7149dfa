"""Studies: the papers' ablations, repeated on any labelled set and compared with the printed scores.

definition    a study, its cells and conclusions, read from a TOML file
setting       what a run of studies has in common, and the names of its pages
train_cells   trains the cells through `ilk.research.grid`
verdicts      whether a published order of cells holds here
pages         the tables and the text; `cell_plot` the plot; `terminal` what the command line prints
"""

from ilk.research.study.definition import Study, cost_line, find_study, seconds_of, studies, wanted

__all__ = ["Study", "cost_line", "find_study", "seconds_of", "studies", "wanted"]
