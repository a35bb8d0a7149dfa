"""Methods and baselines side by side on labelled sets: the trainings, their tables and their picture.

The parts, in the order of use: `jobs` (what is trained), `groups` (rows averaged over seeds), `published_figures` (what
papers report, and how their protocol differs), `tables`, `picture`, and `results`, which writes and prints them.
"""

from ilk.research.compare.jobs import comparison_jobs
from ilk.research.compare.results import print_results, run_comparison, write_comparison

__all__ = ["comparison_jobs", "print_results", "run_comparison", "write_comparison"]
