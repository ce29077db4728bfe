"""Answers with feedback: the events of each put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from clip_client.feedback_calls import FeedbackEvent


@dataclass
class Answer:
    """Answer to a search, and what was chosen of it.

    Attributes:
        first: its first event.
        shown: the longest list of ids that was sent for it.
        chosen: positions that were opened or marked as right, in order of time, each once.
        marked_right, marked_wrong: positions that were marked; contradictions stay.
    """

    first: FeedbackEvent
    shown: Sequence[str]
    chosen: list[int] = field(default_factory=list)
    marked_right: list[int] = field(default_factory=list)
    marked_wrong: list[int] = field(default_factory=list)

    def takes(self, event: FeedbackEvent) -> bool:
        """Tell if an event is of this answer: the same search, and one list begins with the other."""
        mine = self.first
        if (mine.query, mine.model, mine.space, mine.client) != (event.query, event.model, event.space, event.client):
            return False
        shared = min(len(self.shown), len(event.shown))
        return list(self.shown[:shared]) == event.shown[:shared]

    def add(self, event: FeedbackEvent) -> None:
        """Take an event in."""
        if len(event.shown) > len(self.shown):
            self.shown = event.shown
        lists = {"click": [self.chosen], "right": [self.chosen, self.marked_right], "wrong": [self.marked_wrong]}
        for positions in lists[event.kind]:
            if event.position not in positions:
                positions.append(event.position)


def answers(events: Iterable[FeedbackEvent]) -> list[Answer]:
    """Return the answers that events are about, by the time of their first."""
    by_query: dict[str, list[Answer]] = {}
    every: list[Answer] = []
    for event in events:
        same = by_query.setdefault(event.query_id, [])
        answer = next((answer for answer in same if answer.takes(event)), None)
        if answer is None:
            answer = Answer(event, event.shown)
            same.append(answer)
            every.append(answer)
        answer.add(event)
    return every
