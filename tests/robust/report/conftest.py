"""Run folders written from arrays, without a training, and a browser to show their reports."""

from browser import browser, show
from report_fixtures import run_folder, written_run

__all__ = ["browser", "run_folder", "show", "written_run"]
