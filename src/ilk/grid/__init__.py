"""Many trainings and baselines on labelled sets, each done once, whatever stops them in between."""

from .job import PIXELS, READ_OUTS, Job, refuse_unknown
from .rows import ROWS, Rows, append_row, read_rows
from .run import run_jobs

__all__ = ["PIXELS", "READ_OUTS", "ROWS", "Job", "Rows", "append_row", "read_rows", "refuse_unknown", "run_jobs"]
