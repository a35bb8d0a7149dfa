"""How fast this machine is with ilk, compared with other libraries: `ilk bench`."""

from ilk.research.bench.parts import PARTS, BenchRecord, chosen_parts, run_bench
from ilk.research.bench.record import differing_conditions, read_record, show_record

__all__ = ["PARTS", "BenchRecord", "chosen_parts", "differing_conditions", "read_record", "run_bench", "show_record"]
