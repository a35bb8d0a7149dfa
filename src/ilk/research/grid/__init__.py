"""Many trainings and baselines on labelled sets, each done once, whatever stops them in between."""

from .job import PIXELS, READ_OUTS, Job, refuse_unknown
from .rows import ROWS, Rows, append_row, read_rows
from .run import run_jobs
from .task import Task, task_of

__all__ = [
    "PIXELS", "READ_OUTS", "ROWS", "Job", "Rows", "Task", "append_row", "read_rows", "refuse_unknown", "run_jobs",
    "task_of",
]  # fmt: skip
