"""What a terminal shows of a run is in Prefect's log of it, too."""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar

import pytest
from prefect.logging.handlers import APILogHandler

from flows.progress_display import BothScreens, LogScreen, ToPrefect

RUN: ContextVar[str | None] = ContextVar("RUN", default=None)


def test_a_line_from_a_thread_is_sent_with_the_settings_of_its_flow_run(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = list[tuple[str, str | None]]()
    monkeypatch.setattr(APILogHandler, "emit", lambda self, record: sent.append((record.getMessage(), RUN.get())))
    token = RUN.set("this one")
    logger = logging.Logger("refit", logging.INFO)
    logger.addHandler(ToPrefect())
    RUN.reset(token)
    threads = [threading.Thread(target=logger.info, args=(f"line {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sent) == [(f"line {number}", "this one") for number in range(8)]


def test_two_screens_show_the_same(caplog: pytest.LogCaptureFixture) -> None:
    loggers = [logging.Logger(name, logging.INFO) for name in ("terminal", "prefect")]
    for logger in loggers:
        logger.addHandler(caplog.handler)
    both = BothScreens(*map(LogScreen, loggers))
    both.begin("train")
    both("fitting a", 0, 3)
    both.end("train", "executed", 1.25)
    lines = [(record.name, record.getMessage()) for record in caplog.records]
    assert [text for name, text in lines if name == "terminal"] == ["fitting a", "train: executed in 1.2 s"]
    assert [text for name, text in lines if name == "prefect"] == ["fitting a", "train: executed in 1.2 s"]
