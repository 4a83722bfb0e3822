"""Listeners: none holds up the worker; a slow one misses progress, never a change of state."""

from __future__ import annotations

import threading

from engine.events import Bus, Event, Progress, Stage
from engine.voice import Voice


def progress(done: int, stage: str = "denoise") -> Progress:
    figures = {"eta_s": None, "seconds_per_unit": None, "vram_bytes": None, "rss_bytes": None}
    return Progress(job="j", stage=stage, done=done, total=1000, **figures)  # type: ignore[arg-type]


def test_a_slow_listener_loses_progress_and_nothing_else() -> None:
    gate = threading.Event()
    slow: list[Event] = []
    quick: list[Event] = []

    def stalled(event: Event) -> None:
        gate.wait()
        slow.append(event)

    bus = Bus()
    held, free = bus.subscribe(stalled), bus.subscribe(quick.append)
    for step in range(1000):  # nobody reads in the meantime, and this does not wait
        if step % 100 == 0:
            bus.publish(Stage(job="j", name="denoise", state=str(step)))
        bus.publish(progress(step))
    assert free.close(5)
    assert not held.close(0.05)  # gives up on a listener that takes nothing
    gate.set()
    assert held.close(5)
    states = [event for event in slow if isinstance(event, Stage)]
    assert [event.state for event in states] == [str(step) for step in range(0, 1000, 100)]
    assert len(slow) <= 21
    last = slow[-1]
    assert isinstance(last, Progress)
    assert last.done == 999
    assert [e for e in quick if isinstance(e, Stage)] == states


def test_progress_of_another_stage_is_not_replaced() -> None:
    gate = threading.Event()
    heard: list[Event] = []
    bus = Bus()
    mailbox = bus.subscribe(lambda event: (gate.wait(), heard.append(event))[1])
    for stage in ("check", "encode", "denoise", "decode"):
        bus.publish(progress(1, stage))
        bus.publish(progress(2, stage))
    gate.set()
    assert mailbox.close(5)
    last = {event.stage: event.done for event in heard if isinstance(event, Progress)}
    assert last == dict.fromkeys(("check", "encode", "denoise", "decode"), 2)


def test_stages_follow_each_other_and_loading_is_no_part_of_the_pace() -> None:
    heard: list[Event] = []
    bus = Bus()
    mailbox = bus.subscribe(heard.append)
    voice = Voice(bus, "j", lambda: (1, 2))
    voice.enter("denoise")
    with voice.during("load", "transformer"):
        threading.Event().wait(0.3)
    voice.progress(1, 3)
    voice.enter("denoise")  # again: nothing new
    voice.enter("decode")
    voice.progress(5, 17)
    voice.leave()
    assert mailbox.close(5)
    told = [(e.name, e.state) for e in heard if isinstance(e, Stage)]
    assert told == [
        ("denoise", "started"),
        ("load", "started"),
        ("load", "finished"),
        ("denoise", "finished"),
        ("decode", "started"),
        ("decode", "finished"),
    ]
    first, second = (e for e in heard if isinstance(e, Progress))
    assert first.seconds_per_unit is not None
    assert first.seconds_per_unit < 0.2
    assert (second.stage, second.done, second.vram_bytes, second.rss_bytes) == ("decode", 5, 1, 2)
    assert voice.seconds["denoise"] >= 0.3
