"""A program that knows nothing of OpenTelemetry: `go` has it make HTTP requests, which are refused and traced by what was loaded
before it; the end of the input ends it at once.
"""

import json
import os
import sys
import urllib.error
import urllib.request


def main():
    plan = json.loads(sys.stdin.readline())
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "go":
            for _ in range(plan["spans"]):
                try:
                    # Nothing listens at port 1.
                    urllib.request.urlopen("http://127.0.0.1:1/work")
                except urllib.error.URLError:
                    pass
        elif line.strip() == "stop":
            sys.exit(0)
    os._exit(0)


main()
