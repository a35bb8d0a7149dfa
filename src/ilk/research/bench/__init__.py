"""How fast this machine is with ilk, beside what people use otherwise: `ilk bench`."""

from ilk.research.bench.record import differences, read, show
from ilk.research.bench.run import PARTS, Found, chosen_parts, run_bench

__all__ = ["PARTS", "Found", "chosen_parts", "differences", "read", "run_bench", "show"]
