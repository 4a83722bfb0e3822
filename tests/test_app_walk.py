"""Every action of the app: its key, the palette, its help, and that it does something in every state."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.binding import Binding
from textual.events import Paste
from textual.pilot import Pilot
from textual.screen import Screen

from engine.control import Control
from engine.runtime.journal import Journal
from engine.runtime.locks import device_lock
from tests.app import Watched, ragged, send, shown, until
from tests.shelf import make_shelf
from wan_tui.actions import ACTIONS, BY_ID
from wan_tui.actions.action import Action
from wan_tui.actions.reference import page
from wan_tui.screens.place import Place
from wan_tui.session import Session
from wan_tui.settings import Settings, load_settings, settings_file
from wan_tui.widgets.choose import Choose
from wan_tui.widgets.filtered import Filtered
from wan_tui.widgets.help import Help, help_text
from wan_tui.widgets.keys import Keys

PLACES = Watched.PLACES
DOCS = Path(__file__).parent.parent / "docs" / "keys.md"
Walk = Callable[[Watched, "Pilot[int]"], Awaitable[None]]
# A key of a place that the list under the cursor takes: what the list says then does the same.
BY_THE_LIST = {("gallery.watch", "enter"), ("composer.write", "enter")}
# What moves something does nothing where there is no further to go.
MOVES = {action.id for action in ACTIONS if action.place == "list"} | {"gallery.scroll-down", "gallery.scroll-up"}


def named(*places: str) -> list[Action]:
    return [action for action in ACTIONS if action.place in places]


def walk(steps: Walk, size: tuple[int, int] = (80, 24), settings: Settings | None = None) -> None:
    async def go() -> None:
        app = Watched(Session(), settings or Settings())
        async with app.run_test(size=size) as pilot:
            try:
                await steps(app, pilot)
            finally:
                await asyncio.to_thread(app.session.stop, "user")
        assert app.crash is None

    asyncio.run(go())


async def go_to(app: Watched, pilot: Pilot[int], name: str) -> Place:
    """Out of whatever is open, to a place, and until it stands still."""

    def there() -> bool:
        return isinstance(app.screen, Place) and name == app.screen.PLACE

    for _ in range(5):  # a question may come late, from a thread
        await leave(app, pilot)
        await send(app, BY_ID[f"app.{name}"].keys.split(",")[0])
        if await comes(there, 2):
            break
    await rest(app, pilot)
    await leave(app, pilot)
    place = app.screen
    assert isinstance(place, Place)
    return place


async def leave(app: Watched, pilot: Pilot[int]) -> None:
    """By Esc alone."""
    for _ in range(6):
        if len(app.screen_stack) == 1:
            return
        before = app.screen
        await send(app, "escape")
        await until(pilot, lambda before=before: app.screen is not before, 5)  # type: ignore[misc]
    raise AssertionError(f"Esc does not leave {app.screen_stack}")


async def rest(app: Watched, pilot: Pilot[int], still: float = 0.06) -> str:
    """Until what is shown has not changed for a moment; the clocks aside."""
    before, since = "", asyncio.get_running_loop().time()
    end = since + 10
    while (now := asyncio.get_running_loop().time()) < end:
        text = timeless(shown(app))
        if not text or text != before or "Looking" in text or "Checking " in text:
            before, since = text, now
        elif now - since > still:
            break
        await asyncio.sleep(0.02)
    return before


def timeless(text: str) -> str:
    return re.sub(r"\d", "0", text)


# What the registry says


def test_every_action_tells_what_it_is() -> None:
    assert len(BY_ID) == len(ACTIONS)
    for action in ACTIONS:
        assert re.fullmatch(
            r"(app|list|library|diagnostics|composer|monitor|queue|gallery)\.[a-z]+(-[a-z]+)*", action.id
        )
        assert action.keys and action.title and cell_len(action.title) <= 13, action
        assert action.help.endswith(".") and action.help[0].isupper(), action


def test_no_two_actions_of_a_place_have_a_key_in_common() -> None:
    for place in (*PLACES, "list"):
        taken: dict[str, str] = {}
        for action in named(place, "app"):
            for key in action.keys.split(","):
                assert key not in taken, f"{key}: {action.id} and {taken[key]}"
                taken[key] = action.id


def test_the_page_of_keys_is_that_of_the_registry() -> None:
    if os.environ.get("WAN_TUI_SNAPSHOTS") == "update":
        DOCS.write_text(page(), encoding="utf-8")
    assert DOCS.read_text(encoding="utf-8") == page(), "python -m wan_tui.actions.reference > docs/keys.md"


# Keys


def test_every_key_reaches_its_action_in_its_place() -> None:
    async def steps(app: Watched, pilot: Pilot[int]) -> None:
        for name in PLACES:
            place = await go_to(app, pilot, name)
            if name == "composer":  # letters are typed until Esc
                reached(place, [action for action in named(name) if action.priority], priority=True)
                await send(app, "escape")
                await until(pilot, lambda place=place: place.focused is None)  # type: ignore[misc]
            for action in named(name, "app"):
                assert callable(getattr(app if action.place == "app" else place, f"action_{action.method}", None)), (
                    action
                )
            reached(place, named(name, "app"))

    walk(steps)


def reached(place: Screen[None], actions: list[Action], *, priority: bool = False) -> None:
    """Each key of the actions ends at its own: nothing that is asked before it takes the key."""
    for action in actions:
        for key in action.keys.split(","):
            holders = [
                (binding, node)
                for node, bindings in place._binding_chain
                for binding in bindings.key_to_bindings.get(key, ())
                if binding.action not in ("scroll_left", "scroll_right")  # lets the key go on where nothing scrolls so
            ]
            before = [binding for binding, _ in holders if binding.priority] + [b for b, _ in holders if not b.priority]
            if priority and not (before and before[0].priority):
                continue  # a letter, in a field
            first = before[0] if before else None
            if (action.id, key) not in BY_THE_LIST:
                assert first is not None and first.id == action.id, f"{key} of {action.id} goes to {first}"


def test_keys_of_the_users_own() -> None:
    file = settings_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('[keys]\n"library.show" = "Z"\n"app.messages" = "ctrl+y"\n"list.down" = "s"\n"list.filter" = "F"\n')
    settings, problems = load_settings()
    assert problems == ()

    async def steps(app: Watched, pilot: Pilot[int]) -> None:
        await go_to(app, pilot, "library")
        assert "Z Show" in shown(app).splitlines()[-2]
        for key, done in (("Z", "show"), ("s", "down"), ("ctrl+y", "messages")):
            app.performed.clear()
            await send(app, key)
            await until(pilot, lambda done=done: done in [name for _, name in app.performed])  # type: ignore[misc]
        await leave(app, pilot)
        app.performed.clear()
        await send(app, *(BY_ID[id].keys.split(",")[0] for id in ("library.show", "list.down", "app.messages")))
        await rest(app, pilot)
        assert app.performed == []  # the default keys are free

    walk(steps, (120, 40), settings)


@pytest.mark.soak
def test_every_action_can_have_a_key_of_its_own() -> None:
    keys = {action.id: f"alt+{chr(0x100 + number)}" for number, action in enumerate(ACTIONS)}

    async def steps(app: Watched, pilot: Pilot[int]) -> None:
        assert not app.said
        for name in PLACES:
            place = await go_to_by(app, pilot, keys[f"app.{name}"], name)
            await send(app, "escape")
            wanted = {action.id: keys[action.id] for action in named(name, "app")}
            await until(pilot, partial(lambda at, due: due.items() <= held(at).items(), place, wanted))

    walk(steps, settings=Settings(keys=keys))


def held(place: Place) -> dict[str | None, str]:
    """The key of each action that can be done now, by where the focus is."""
    return {
        binding.id: key
        for _, bindings in place._binding_chain
        for key, bound in bindings.key_to_bindings.items()
        for binding in bound
    }


async def go_to_by(app: Watched, pilot: Pilot[int], key: str, name: str) -> Place:
    await send(app, key)
    await until(pilot, lambda: isinstance(app.screen, Place) and name == app.screen.PLACE)
    await rest(app, pilot)
    assert isinstance(app.screen, Place)
    return app.screen


# The footer and the help


@pytest.mark.parametrize("size", [(80, 24), (60, 20), pytest.param((200, 50), marks=pytest.mark.soak)])
def test_the_footer_fits_and_cuts_no_key(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def steps(app: Watched, pilot: Pilot[int]) -> None:
        with filled(tmp_path, monkeypatch):
            for name in PLACES:
                place = await go_to(app, pilot, name)
                # Painted is what is rendered; where a list has just been filled, a moment later.
                await until(pilot, lambda: shown(app).splitlines()[-2:] == [f" {line}" for line in footer(app)])
                actions, places = footer(app)
                assert cell_len(actions) <= size[0] - 2 and cell_len(places) <= size[0] - 2
                assert re.search(r"(^|  )(\?|F1) Help  \^p All$", actions)  # where one types ? is text
                whole = [f"{app.get_key_display(binding)} {binding.description}" for binding in all_shown(place)]
                told = actions.split("  ")[:-2]
                assert told == whole[: len(told)]
                assert told or not whole

    walk(steps, size)


def footer(app: Watched) -> list[str]:
    return app.screen.query_one(Keys).render().plain.split("\n")  # type: ignore[union-attr]


def all_shown(place: Place) -> list[Binding]:
    found: dict[str, Binding] = {}
    for active in place.active_bindings.values():
        if active.binding.show and active.enabled:
            found.setdefault(active.binding.action, active.binding)
    return list(found.values())


def test_the_help_of_a_place_tells_every_action_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def steps(app: Watched, pilot: Pilot[int]) -> None:
        with filled(tmp_path, monkeypatch):
            for name in PLACES:
                place = await go_to(app, pilot, name)
                hidden = {a.id for a in named(name) if place.check_action(a.method, ()) is False}
                await send(app, "escape", "f1")
                await until(pilot, lambda: isinstance(app.screen, Help))
                assert isinstance(app.screen, Help)
                text = " ".join(help_text(place, 70).plain.split())
                for action in named(name, "app"):
                    assert (action.help in text) != (action.id in hidden), action.id
                assert place.ABOUT in text  # type: ignore[attr-defined]

    walk(steps, (120, 40))


# The palette


async def choose(app: Watched, pilot: Pilot[int], place: str, words: str) -> None:
    """By the palette from that place; once more where a failure of what was done before comes over it."""
    while not (isinstance(app.screen, Choose) and f"▸{words}" in shown(app)):
        while app.current_mode != place or len(app.screen_stack) > 1:
            await leave(app, pilot)
            await send(app, BY_ID[f"app.{place}"].keys.split(",")[0])
            await comes(lambda: app.current_mode == place, 2)
        await send(app, "ctrl+p")
        await comes(lambda: isinstance(app.screen, Choose) and app.screen.focused is not None, 2)
        if app.screen.focused:
            app.screen.focused.post_message(Paste(words))
            await comes(lambda: f"▸{words}" in shown(app), 1)


@pytest.mark.early
@pytest.mark.sampled(8)
@pytest.mark.parametrize("part", range(8))
def test_the_palette_does_every_action_from_another_place(
    part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def steps(app: Watched, pilot: Pilot[int]) -> None:
        with filled(tmp_path, monkeypatch):
            for action in ACTIONS[part::8]:
                if action.place == "list" or action.id == "app.quit":
                    continue
                words = action.title if action.place == "app" else f"{action.place.capitalize()}: {action.title}"
                await choose(app, pilot, "gallery" if action.place != "gallery" else "library", words)
                app.performed.clear()
                said = len(app.said)
                await send(app, "enter")
                await until(
                    pilot,
                    lambda: action.method in [name for _, name in app.performed] or len(app.said) > said,  # noqa: B023
                )

    walk(steps)


# Every state


@contextmanager
def filled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A model on the disk, jobs that are over, a clip, and a device that another job holds."""
    (folder / "outputs").mkdir(exist_ok=True)
    with make_shelf(folder / "shelf", monkeypatch) as shelf, device_lock("cpu", lambda _: None, Control(), job="other"):
        shelf.download()
        journal = Journal()
        for how in ("finished", "failed"):
            toml = 'model = "demo@1"\nprompt = "a cat"\nseed = 7\n'
            id = journal.accept(model="demo@1", task="text", prompt="a cat", job_toml=toml)
            journal.start(id)
            if how == "finished":
                clip = folder / "outputs" / "cat.mp4"
                clip.write_bytes(b"no video")
                journal.finish(id, output=clip, seconds=187.0, recorded={"frames": 5})
            else:
                error = {"code": "x", "message": "It failed.", "cause": "y", "suggestions": ["z"], "actions": []}
                journal.fail(id, error)
        yield


@pytest.mark.parametrize(
    "state", ["empty", *(pytest.param(one, marks=pytest.mark.soak) for one in ("nothing found", "filled"))]
)
@pytest.mark.early
def test_every_key_does_something(state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    idle: list[str] = []

    async def steps(app: Watched, pilot: Pilot[int]) -> None:
        for name in PLACES:
            for action in named(name, *(["app"] if name == "library" else [])):
                if action.id not in ("app.quit", "app.demo"):
                    idle.extend(await pressed(app, pilot, name, action, state))

    if state == "filled":
        with filled(tmp_path, monkeypatch):
            walk(steps)
    else:
        walk(steps)
    assert not idle, "\n".join(idle)


def test_in_a_terminal_too_small_no_key_of_a_place_acts() -> None:
    async def steps(app: Watched, pilot: Pilot[int]) -> None:
        for name in PLACES:
            place = await go_to(app, pilot, name)
            keys = [action.keys.split(",")[0] for action in named(name)]
            await pilot.resize_terminal(59, 24)
            await until(pilot, lambda place=place: place.too_small, 5)  # type: ignore[misc]
            app.performed.clear()
            await send(app, *keys)
            await rest(app, pilot)
            methods = {action.method for action in named(name)}
            assert not methods & {one for _, one in app.performed}
            assert app.screen is place and "This needs a terminal" in shown(app)
            await pilot.resize_terminal(80, 24)
            await until(pilot, lambda place=place: not place.too_small, 5)  # type: ignore[misc]

    walk(steps)


async def pressed(app: Watched, pilot: Pilot[int], name: str, action: Action, state: str) -> list[str]:
    """Press the key of an action: what is wrong where it is not done, or nothing comes of it though it is no hidden
    one."""
    place = await go_to(app, pilot, name)
    if name == "composer":
        await send(app, "escape")
    if state == "nothing found" and place.query(Filtered):
        await send(app, "slash", *"qzx", "enter")
        await until(pilot, lambda: "Nothing matches" in shown(app) or not place.query_one(Filtered).listing.rows)
    hidden = place.check_action(action.method, ()) is False
    before, said, clip = await rest(app, pilot), len(app.said), app.clipboard
    app.performed.clear()
    await send(app, action.keys.split(",")[0])
    done = await comes(lambda: action.method in [one for _, one in app.performed], 0.1 if hidden else 2)
    if done == hidden:
        return [f"{action.id} is {'done though hidden' if done else 'not done'}"]
    if hidden or action.id == f"app.{name}" or action.id in MOVES:
        return []
    if not await comes(lambda: timeless(shown(app)) != before or len(app.said) > said or app.clipboard != clip, 2):
        return [f"{action.id} does nothing"]
    await rest(app, pilot)
    return [f"{action.id}: {wrong}" for wrong in ragged(app)]


async def comes(condition: Callable[[], bool], seconds: float) -> bool:
    end = asyncio.get_running_loop().time() + seconds
    while not condition() and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.01)
    return condition()
