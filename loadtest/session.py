"""Session of a load: preparation before its start, report after its end."""

import contextlib
import threading
from pathlib import Path
from typing import Any

from locust.env import Environment
from locust.exception import StopTest
from locust.runners import MasterRunner, WorkerRunner

from busiest import bottleneck
from clip_client.errors import ClipError
from outcomes import error_kinds, rows
from recording import Recording, Target
from report import Report
from samples import DRAWN, samples
from scenario import searching, serving

PREPARED = "prepared"


class Session:
    """Session in one locust process: alone, a worker with users only, or the master of workers, which only reports."""

    def __init__(self, environment: Environment, of_triton: Any, of_sidecar: Any) -> None:
        self._environment = environment
        self._of_triton, self._of_sidecar = of_triton, of_sidecar
        self._opened = contextlib.ExitStack()
        self._preparing, self._prepared = threading.Lock(), False
        self._recording: Recording | None = None
        self._awaited = 0
        self._quitting = False
        runner = environment.runner
        if isinstance(runner, MasterRunner):
            runner.register_message(PREPARED, self.worker_prepared)

    def prepare(self) -> None:
        """Connect and learn the references, once for each load; raise ClipError for missing servers and wrong answers."""
        with self._preparing:
            if not self._prepared and not isinstance(self._environment.runner, MasterRunner):
                self._connect()
            self._prepared = True

    def begin(self, **_: Any) -> None:
        """Prepare and start recording; a server that can't be reached ends the load before it begins."""
        runner = self._environment.runner
        try:
            self.prepare()
            if isinstance(runner, WorkerRunner):
                runner.send_message(PREPARED)
            elif isinstance(runner, MasterRunner):
                self._awaited = runner.worker_count
            else:
                self._record()
        except ClipError as problem:
            self._environment.process_exit_code = 1
            raise StopTest(str(problem)) from problem

    def worker_prepared(self, **_: Any) -> None:
        """Count a prepared worker; the master records as soon as all are."""
        self._awaited -= 1
        if not self._awaited:
            self._record()

    def end(self, **_: Any) -> None:
        """Stop recording, close connections, write the report unless figures of workers are still to come."""
        if self._recording:
            self._recording.stop()
        self._opened.close()
        self._prepared = False
        if self._quitting or not (self._options.headless and isinstance(self._environment.runner, MasterRunner)):
            self._write()

    def quit(self, **_: Any) -> None:
        """Write the report if it hasn't been; an interrupted load quits first and ends then."""
        self._quitting = True
        if self._recording and self._recording.stopped:
            self._write()

    @property
    def _options(self) -> Any:
        """Options of the locustfile; the web UI may have changed them since the last load."""
        return self._environment.parsed_options

    def _connect(self) -> None:
        options = self._options
        sent = samples(Path(options.photos) if options.photos else None)
        if self._chosen(self._of_triton):
            self._of_triton.serving = serving(options.triton, options.name, sent, DRAWN, float(options.corrupt))
            self._opened.callback(self._of_triton.serving.clip.close)
        if self._chosen(self._of_sidecar):
            self._of_sidecar.searching = searching(options.sidecar, sent.images[:DRAWN])
            self._opened.callback(self._of_sidecar.searching.close)

    def _chosen(self, kind: type) -> bool:
        return any(issubclass(users, kind) for users in self._environment.user_classes)

    def _record(self) -> None:
        sidecar = self._options.sidecar if self._chosen(self._of_sidecar) else ""
        self._recording = Recording(Target(self._options.triton, self._options.name, sidecar))

    def _write(self) -> None:
        if self._recording:
            self._report(self._recording, Path(self._options.report))
            self._recording = None

    def _report(self, recording: Recording, folder: Path) -> None:
        runner: Any = self._environment.runner
        stats = self._environment.stats
        load = recording.load(max(1, runner.worker_count), self._mean_ms())
        report = Report(
            target=recording.target,
            users=runner.target_user_count,
            duration_s=recording.duration_s,
            rows=rows(stats, recording.duration_s),
            errors=error_kinds(stats),
            load=load,
            bottleneck=bottleneck(load),
        )
        report.write(folder)
        print(f"\n{report.markdown()}\n\nin {folder}")

    def _mean_ms(self) -> float | None:
        """Return the mean of a request to Triton; None without any."""
        entries = [entry for entry in self._environment.stats.entries.values() if entry.method == self._of_triton.kind]
        requests = sum(entry.num_requests for entry in entries)
        return sum(entry.total_response_time for entry in entries) / requests if requests else None
