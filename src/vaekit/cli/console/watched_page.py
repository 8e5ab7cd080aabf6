"""The page of a run that is being trained: a process of its own, so that training does not wait for it."""

import json
import shlex
import subprocess
import sys
import threading
from pathlib import Path

from rich.console import Console


class WatchedPage:
    """`vaekit explore RUN --watch` beside a training.

    Args:
        run: The run folder.
        console: Where the page's address is printed.
        browser: Open the page in the user's browser.
    """

    def __init__(self, run: Path, console: Console, *, browser: bool):
        self.run, self.console, self.address = run, console, ""
        command = [sys.executable, "-m", "vaekit", "explore", str(run), "--watch", "--json"]
        self.process = subprocess.Popen(
            [*command, *(() if browser else ("--no-browser",))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the training, which ends the page
        )
        threading.Thread(target=self._announce, daemon=True).start()

    def _announce(self) -> None:
        """Print the address as soon as the page answers, or why it does not."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        text = ""
        for line in self.process.stdout:
            text += line
            if line.startswith("}"):
                self.address = json.loads(text)["address"]
                self.console.print(f"[bold]{self.address}[/] shows the run as it is trained", soft_wrap=True)
                return
        why = self.process.stderr.read().strip().splitlines()
        if why:
            self.console.print(f"[yellow]note:[/] no page: {why[-1]}", soft_wrap=True)

    def stay(self) -> None:
        """Leave the page open until Ctrl-C where the output is a terminal; else close it."""
        if not (self.address and self.console.is_terminal):
            self.close()
            return
        self.console.print(
            f"The page stays at [bold]{self.address}[/] until Ctrl-C; later: "
            f"vaekit explore {shlex.quote(str(self.run))}",
            soft_wrap=True,
        )
        try:
            self.process.wait()
        except KeyboardInterrupt:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """End the page."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
