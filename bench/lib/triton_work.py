"""Work of Triton's models, from its own statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clip_client.triton import Triton


@dataclass(frozen=True)
class Work:
    """Work of a model since its server started; :meth:`since` gives that of a period.

    Nanoseconds are summed over requests; each has the whole time of the batch that it was part of.
    """

    requests: int  # answered, whatever the number of items
    items: int  # computed
    executions: int  # batches in which they were computed
    total_ns: int  # with the sending of the answer: it may end after the client has it
    queue_ns: int
    input_ns: int
    infer_ns: int
    output_ns: int
    busy_ns: int  # input, inference and output; each batch is counted once

    def since(self, before: Work | None) -> Work:
        """Return the difference; all of it for a model that wasn't there before, or was loaded anew."""
        if before is None or self.requests < before.requests:
            return self
        return Work(*(now - then for now, then in zip(vars(self).values(), vars(before).values(), strict=True)))

    @property
    def queue_ms(self) -> float:
        """Mean wait of a request."""
        return self.queue_ns / 1e6 / self.requests

    @property
    def input_ms(self) -> float:
        """Mean time of a request to bring its batch into the model."""
        return self.input_ns / 1e6 / self.requests

    @property
    def infer_ms(self) -> float:
        """Mean time of a request to compute its batch."""
        return self.infer_ns / 1e6 / self.requests

    @property
    def compute_ms(self) -> float:
        """Mean time of a request to take in, compute and hand out its batch."""
        return (self.input_ns + self.infer_ns + self.output_ns) / 1e6 / self.requests


def work(triton: Triton) -> dict[str, Work]:
    """Return the work of every model of a server so far."""
    return {model.name: _work(model) for model in triton.statistics().model_stats}


def _work(model: Any) -> Work:
    stats = model.inference_stats
    return Work(
        requests=stats.success.count,
        items=model.inference_count,
        executions=model.execution_count,
        total_ns=stats.success.ns,
        queue_ns=stats.queue.ns,
        input_ns=stats.compute_input.ns,
        infer_ns=stats.compute_infer.ns,
        output_ns=stats.compute_output.ns,
        busy_ns=sum(
            part.ns for batch in model.batch_stats for part in (batch.compute_input, batch.compute_infer, batch.compute_output)
        ),
    )
