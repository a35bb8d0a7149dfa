"""Many trainings and baselines on labelled sets, each done once, whatever stops them in between."""

from ilk.research.grid.job import PIXELS, READ_OUTS, Job, refuse_unknown
from ilk.research.grid.row_file import ROWS, Rows, append_row, read_rows
from ilk.research.grid.task import Task, task_of
from ilk.research.grid.train_jobs import run_jobs

__all__ = [
    "PIXELS", "READ_OUTS", "ROWS", "Job", "Rows", "Task", "append_row", "read_rows", "refuse_unknown", "run_jobs",
    "task_of",
]  # fmt: skip
