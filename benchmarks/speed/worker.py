"""One contender in a process of its own: answers a line of JSON with a line of JSON.

    python -m speed.worker CONTENDER

A request names a function, of the contender's module or of the one that it says, and its arguments; the answer is what
it returns, or what was raised. What a contender has prepared it keeps between requests.
"""

import importlib
import json
import os
import sys
import traceback


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr
    importlib.import_module(f"speed.{sys.argv[1]}")
    for line in sys.stdin:
        request = json.loads(line)
        module = importlib.import_module(f"speed.{request.pop('of', sys.argv[1])}")
        try:
            answer = {"value": getattr(module, request.pop("do"))(**request)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
