"""Run folders written from arrays, without a training."""

from report_fixtures import run_folder, written_run

__all__ = ["run_folder", "written_run"]
