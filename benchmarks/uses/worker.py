"""Runs one method on one case, and prints what it measured as the last line, in JSON.

    python -m uses.worker MODULE:FUNCTION CASE SEED

Any Python that has what the module imports can run it.
"""

import importlib
import json
import resource
import sys
import time


def main() -> None:
    module, _, name = sys.argv[1].partition(":")
    function = getattr(importlib.import_module(module), name)
    began, cpu = time.perf_counter(), time.process_time()
    numbers = function(sys.argv[2], int(sys.argv[3]))
    spent = {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - began}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"numbers": {key: float(value) for key, value in numbers.items()}, **spent, "peak_gb": peak}))


if __name__ == "__main__":
    main()
