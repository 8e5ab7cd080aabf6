"""One contender in a process of its own: answers a line of JSON with a line of JSON.

    python worker.py CONTENDER

A request names a function of the contender's module and its arguments; the answer is what it returns, or what was
raised. Contenders that prepare work keep it between requests.
"""

import importlib
import json
import os
import sys
import traceback


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr
    contender = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": getattr(contender, request.pop("do"))(**request)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
