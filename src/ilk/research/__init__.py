"""Many trainings: comparisons, studies, benchmarks and the papers' published tables."""
