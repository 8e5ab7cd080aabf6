"""Keeping a run's folder while it trains: metrics, checkpoints, status."""

import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from torch import nn

from vaekit.errors import VaekitError
from vaekit.findings import Finding
from vaekit.processes import is_out_of_memory
from vaekit.runs.tree import Run
from vaekit.training import Event, RunFolder, State, pack

SAVE_SECONDS = 60
ASK_EVERY = 20  # steps between the questions of several processes whether it is time to save
MOST_FAILED_SAVES = 3  # in a row


class RunWriter:
    """Follows a training and keeps its folder; with no folder, it only follows.

    Args:
        folder: Of the run.
        state: Of the training.
        run: Its settings.
        save_seconds: Between checkpoints, where the settings do not say after how many steps.
    """

    def __init__(self, folder: RunFolder | None, state: State, run: Run, save_seconds: float = SAVE_SECONDS):
        self.folder, self.state, self.run, self.save_seconds = folder, state, run, save_seconds
        self.world = state.step.world
        self.saved, self.failed = time.monotonic(), 0
        self.begun = False  # the folder agrees with the state, so that it may be saved there
        self.findings: list[Finding] = []
        self.apart = False  # an error may have left the other processes elsewhere

    def follow(
        self, events: Iterator[Event], notice: str = "", findings: Sequence[Finding] = ()
    ) -> Generator[Event, None, None]:
        """The events, with notices of what went wrong in keeping them; ends with a last checkpoint.

        findings: of settings and data, made known after the start.
        """
        status, finished = "", False
        try:
            notice = self._begin() or notice
            for event in events:
                for text in (notice, self._log()):
                    if text:
                        yield _notice(event, text)
                notice, finished = "", event.kind == "end"
                yield from self._found(event)
                yield event
                if event.kind == "start":
                    for finding in findings:
                        found = replace(event, kind="finding", message=finding.text, finding=finding)
                        yield from self._found(found)
                        yield found
                if trouble := self._save_if_due(event):
                    yield _notice(event, trouble)
        except BaseException as error:
            self.apart = self.state.twin is not None
            if not isinstance(error, GeneratorExit | KeyboardInterrupt):
                status = f"failed at step {self.state.at.step}: {str(error) or type(error).__name__}"
            raise
        finally:
            self._end(status or ("finished" if finished else f"interrupted at step {self.state.at.step}"))

    def _found(self, event: Event) -> Iterator[Event]:
        """Keep the finding of an event, if it has one; a notice where that failed."""
        if event.finding is None:
            return
        self.findings += [event.finding]
        if self.folder is not None:
            try:
                self.folder.keep_findings(self.findings)
            except OSError as error:
                yield _notice(event, f"cannot write {self.folder.path / 'findings.json'} ({error.strerror or error})")

    def _begin(self) -> str:
        """Make the folder agree with the state; a run begins with a checkpoint, so that it can always be resumed."""
        if self.folder is not None:
            try:
                written = self.folder.trim_history(self.state.at.epoch)
            except OSError as error:
                raise VaekitError(
                    f"cannot write into {self.folder.path} ({error.strerror}): make room, or change its permissions, "
                    "then use --resume"
                ) from None
            self.state.unlogged = [line for line in self.state.unlogged if line["epoch"] not in written]
            self.state.history = [*(self.folder.history() if written else ()), *self.state.unlogged]
            self._write_status("running")
        self.begun = True
        first = self.folder is not None and not self.folder.checkpoints.any()
        return self._save() if self.world.agree(first) else ""

    def _end(self, status: str) -> None:
        """The last lines, checkpoint and status; an error where the end of a run could not be kept."""
        trouble, finished = "", status == "finished"
        try:
            if self.begun:
                trouble = self._log()
                if self.state.status != "updating" and not self.apart and self.failed < MOST_FAILED_SAVES:
                    trouble = self._save() or trouble
        except BaseException as error:
            trouble = str(error) or type(error).__name__
            raise
        finally:
            self._write_status(f"failed: training is finished, but {trouble}" if trouble and finished else status)
        if trouble and finished:
            raise VaekitError(f"training is finished, but {trouble}")
        if trouble:
            warnings.warn(trouble, stacklevel=2)

    def load_weights(self, model: nn.Module) -> None:
        """Give the model the weights that the run's settings ask for."""
        if self.apart:
            return
        self.state.status = "finished"
        best = self.run.train.weights == "best" and self.state.best
        model.load_state_dict(self.state.best if best else self.state.weights())

    def _log(self) -> str:
        """Write the metrics of epochs that are not written yet."""
        unlogged = self.state.unlogged
        if self.folder is None:
            unlogged.clear()
        try:
            while unlogged and self.folder:
                self.folder.log(unlogged[0])
                del unlogged[0]
        except OSError as error:
            where = self.folder.path / "metrics.jsonl" if self.folder else ""
            return f"cannot write to {where} ({error.strerror or error}); the line is kept, and tried again"
        return ""

    def _save_if_due(self, event: Event) -> str:
        if event.kind != "step":
            return ""
        every = self.run.train.save_every
        if every is not None:
            return self._save() if event.step % every == 0 else ""
        if self.world.size > 1 and event.step % ASK_EVERY:
            return ""
        return self._save() if self.world.agree(time.monotonic() - self.saved > self.save_seconds) else ""

    def _save(self) -> str:
        """Write a checkpoint; what there is to tell of it, mostly nothing.

        Raises:
            VaekitError: It has failed too often.
        """
        self.saved = time.monotonic()
        if self.run.run_dir is None:
            return ""
        step = self.state.at.step
        try:
            files = pack(self.state)
            warning = self.folder.checkpoints.save(step, files) if self.folder else ""
        except (OSError, MemoryError, RuntimeError) as error:
            if not isinstance(error, OSError) and (self.world.size > 1 or not is_out_of_memory(error)):
                raise
            self.failed += 1
            reason = (error.strerror or error) if isinstance(error, OSError) else "out of memory"
            why = f"cannot write a checkpoint of step {step} into {self.run.run_dir} ({reason})"
            if self.failed >= MOST_FAILED_SAVES:
                raise VaekitError(f"{why}, {self.failed} times in a row: make room, then use --resume") from None
            return f"{why}; the one before is kept"
        self.failed = 0
        return warning

    def _write_status(self, status: str) -> None:
        if self.folder:
            try:
                self.folder.write_status(status)
            except OSError as error:
                warnings.warn(f"cannot write {self.folder.path / 'STATUS'} ({error.strerror})", stacklevel=2)


def _notice(event: Event, text: str) -> Event:
    return replace(event, kind="notice", message=text, metrics={}, finding=None)
