"""How far a fetch came before it broke: what was asked for and did not come, and of a single item how many bytes did."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hauld.engine.stall import PassingPart
from hauld.model import Body, Buffer, PartWriter, PendingItem, Sink, Writer


class Trial:
    """One fetch. ``unmet`` are the items that had not come when it ended; where only one is asked for (``alone``), ``reached``
    is how many of its bytes are there, those of earlier fetches included."""

    def __init__(self, *, alone: bool) -> None:
        self.alone = alone
        self.unmet: Sequence[PendingItem] = ()
        self.reached = 0

    def over(self, sink: Sink) -> Sink:
        """The same sink, measured where that says something."""
        return _Sink(sink, self) if self.alone else sink


class _Sink:
    def __init__(self, sink: Sink, trial: Trial) -> None:
        self._sink = sink
        self._trial = trial

    def open(self, key: str, size: int) -> Writer:
        return _Writer(self._sink.open(key, size), self._trial, 0)

    async def resume(self, key: str, size: int) -> PartWriter | None:
        writer = await self._sink.resume(key, size)
        return None if writer is None else _PartWriter(writer, self._trial)


class _Writer:
    def __init__(self, writer: Writer, trial: Trial, offset: int) -> None:
        self._writer = writer
        self._trial = trial
        self._there = offset
        self._note(0)

    def write(self, data: Buffer) -> bool:
        may_go_on = self._writer.write(data)
        self._note(len(data))
        return may_go_on

    def when_ready(self, resume: Callable[[], None]) -> None:
        self._writer.when_ready(resume)

    def finish(self) -> Body:
        return self._writer.finish()

    def discard(self) -> None:
        self._writer.discard()

    def _note(self, more: int) -> None:
        self._there += more
        self._trial.reached = max(self._trial.reached, self._there)


class _PartWriter(PassingPart, _Writer):
    def __init__(self, part: PartWriter, trial: Trial) -> None:
        super().__init__(part, trial, part.offset)
        self._part = part
