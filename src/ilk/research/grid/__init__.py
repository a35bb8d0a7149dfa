"""Many trainings and baselines on labelled sets, each done once, even if the process is stopped in between.

`Job` says what is trained on what; `Task` adds the images, and with them a key that names the run; `run_jobs` does what
has no row yet and keeps one row for each job in `rows.jsonl`.
"""

from ilk.research.grid.job import Job, refuse_unknown
from ilk.research.grid.row_file import RowFile, append_row, read_rows
from ilk.research.grid.task import Task, task_of
from ilk.research.grid.train_jobs import run_jobs
from ilk.research.options import PIXELS
from ilk.system.own_folders import ROWS

__all__ = [
    "PIXELS", "ROWS", "Job", "RowFile", "Task", "append_row", "read_rows", "refuse_unknown", "run_jobs",
    "task_of",
]  # fmt: skip
