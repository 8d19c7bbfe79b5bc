"""A worker of a benchmark without a process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from benchmarks.harness.worker import Session, Worker


class InProcess(Worker):
    """Answers as `Worker` does; requests and replies pass through JSON."""

    def __init__(self, session: Session) -> None:
        self.contender, self.session = session.name, session

    def ask(self, **request: Any) -> dict[str, Any]:
        return json.loads(json.dumps(self.session.handle(json.loads(json.dumps(request)))))

    def close(self) -> None: ...


def worker_of(session: Callable[[str], Session]) -> Callable[..., InProcess]:
    """Stand in for `Worker` itself."""
    return lambda python, module, contender, *options: InProcess(session(contender))
