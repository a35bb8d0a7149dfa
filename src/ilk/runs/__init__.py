"""The folder of one training: its settings, its tables, its log."""
