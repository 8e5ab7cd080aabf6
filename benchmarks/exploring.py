"""The explorer's page in Chromium: its size and how fast it answers; and its server under load.

    python benchmarks/exploring.py --write docs/explorer.md

Trains the preset for the digits, exports its page, and opens it offline; then lets 64 connections send good and bad
requests to a server for a minute.
"""

import argparse
import http.client
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from facts import finish, paragraph, provenance, put_into, table
from sections import Floor

FLAGS = ["--no-sandbox", "--disable-gpu"]
CONNECTIONS = 64
DECODE = """async n => {
    const z = Array.from({ length: n }, (_, i) => new Array(vaekit.facts().latents).fill(i / n));
    const times = [];
    for (let i = 0; i < 15; i++) {
        const began = performance.now();
        await vaekit.decode(z);
        times.push(performance.now() - began);
    }
    return times.sort((a, b) => a - b)[7];
}"""


def page(url: str, times: int = 5) -> dict[str, float]:
    """Medians in seconds and milliseconds, over fresh windows."""
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {"tabs": [], "decoded": [], "one": [], "grid": []}
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for _ in range(times):
            context = browser.new_context(offline=True)
            window = context.new_page()
            began = time.monotonic()
            window.goto(url)
            window.wait_for_selector("[role=tab]")
            found["tabs"] += [time.monotonic() - began]
            window.wait_for_selector(".inspector canvas")
            found["decoded"] += [time.monotonic() - began]
            found["one"] += [window.evaluate(DECODE, 1)]
            found["grid"] += [window.evaluate(DECODE, 400)]
            context.close()
        browser.close()
    return {name: statistics.median(values) for name, values in found.items()}


def load(run: Path, seconds: float) -> dict[str, float]:
    """Statuses and memory of a server under good and bad requests."""
    command = [sys.executable, "-m", "vaekit", "explore", str(run), "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = int(server.stdout.readline().split("127.0.0.1:")[1].split("/")[0])
    before, statuses = resident(server.pid), list[int]()
    deadline = time.monotonic() + seconds

    def ask(rng: random.Random) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        path = rng.choice(
            ["/", "/model.json", "/api/decode", "/api/encode", "/api/bound?draws=9", "/%00", "/" + "a" * 9000]
        )
        headers = {"X-Rows": str(rng.randrange(-2, 2000))} | ({"Host": "evil.example"} if rng.random() < 0.1 else {})
        body = rng.randbytes(rng.choice([0, 64, 4096, 1 << 20, 9 << 20]) if rng.random() < 0.2 else 64)
        try:
            connection.request(rng.choice(["GET", "POST", "PUT", "TRACE"]), path, body, headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def attack(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < deadline:
            statuses.append(ask(rng))

    threads = [threading.Thread(target=attack, args=(seed,)) for seed in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/model.json")
    good = connection.getresponse().status
    grown = resident(server.pid) - before
    server.terminate()
    server.wait(20)
    server.stdout.close()
    return {"requests": len(statuses), "faults": sum(s >= 500 for s in statuses), "grown": grown / 1e6, "good": good}


def resident(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page whose part is written")
    parser.add_argument("--seconds", type=float, default=60, help="of the load on the server")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run, file = Path(scratch) / "run", Path(scratch) / "digits.html"
        for words in (["train", "digits", "--run-dir", str(run)], ["explore", str(run), "--export", str(file)]):
            subprocess.run([sys.executable, "-m", "vaekit", *words], check=True, stdout=subprocess.DEVNULL)
        size, times, under = file.stat().st_size / 1e6, page(file.as_uri()), load(run, arguments.seconds)
    floors = [
        Floor("one file for the digits", size, 6, " MB", most=True),
        Floor("from opening it to its tabs", times["tabs"], 2, " s", most=True),
        Floor("from opening it to the first decoded picture", times["decoded"], 2, " s", most=True),
        Floor("decoding one picture", times["one"], 5, " ms", most=True),
        Floor("decoding a grid of 20 x 20", times["grid"], 250, " ms", most=True),
        Floor(
            f"answers of 500 and more to {under['requests']:.0f} requests under load", under["faults"], 0, "", most=True
        ),
        Floor("memory that the server gains under load", under["grown"], 300, " MB", most=True),
        Floor("status of a good request afterwards", under["good"], 200),
    ]
    about = paragraph(
        f"Medians over five fresh windows of headless Chromium without a GPU; then {arguments.seconds:g} s of good and "
        f"bad requests by {CONNECTIONS} connections to a server."
    )
    text = "\n\n".join([provenance([0]), about, table(["", "measured", "required", ""], [f.row() for f in floors])])
    if arguments.write:
        put_into(arguments.write, "exploring", text)
    finish(text, all(floor.passed for floor in floors), None)


if __name__ == "__main__":
    main()
