"""The folder of one training: its settings, its tables, its log. Needs no torch."""

from ilk.runs.folder import Run
from ilk.runs.tables import read_embeddings, read_table

__all__ = ["Run", "read_embeddings", "read_table"]
