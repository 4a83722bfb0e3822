"""What is known of the job in the form, as text: beside the form, or in four lines below it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

from engine.errors import WanError
from engine.units import counted, size
from wan_tui.composing.form import Form
from wan_tui.drawing import UNKNOWN, bar, clock
from wan_tui.text import one_line
from wan_tui.widgets.ask import plain_lines
from wan_tui.widgets.listing import fitted

if TYPE_CHECKING:
    from wan_tui.composing.examine import Prospect

_NAME = 9  # cells
_LONG_PROMPT = 1500  # characters: 512 tokens are some 2,000 letters of English, and fewer signs of Chinese


@dataclass(frozen=True)
class Known:
    """`prospect` is the newest answer, of the form as it is unless `examining`; `broken` is what is wrong with the
    manifest. `remark` is what this version does of the model."""

    form: Form
    problems: Mapping[str, str]
    prospect: Prospect | None = None
    examining: bool = False
    broken: WanError | None = None
    title: str | None = None
    remark: str | None = None
    run_key: str = ""


def plan_text(known: Known, width: int) -> Content:
    """All of it, for a column."""
    prospect = known.prospect
    room = max(8, min(40, width - _NAME - 1))
    rows = [("Model", _model(known), "bold")]
    rows += [("", reason, "$foreground-muted") for reason in (prospect.reasons if prospect else ())]
    rows += [("Device", _device(prospect), "")]
    rows += [("Memory", bar(*_shares(prospect, room)), "$accent"), ("", memory_words(prospect), "")]
    if prospect and prospect.need_bytes is not None and prospect.need_basis:
        rows += [("", prospect.need_basis, "$foreground-muted")]
    rows += [("Rung", _rung(prospect), ""), *((name, text, "") for name, text in _figures(prospect))]
    if not _predicted(prospect):
        rows += [("", "not predicted yet", "$foreground-muted")]
    rows += [("Clips", _clips(known.form), "")]
    lines = [line for row in rows for line in _row(*row, width)]
    return Content("\n").join([*lines, Content(""), *_remarks(known), _state(known)])


def plan_lines(known: Known, width: int) -> Content:
    """The same in four lines."""
    prospect = known.prospect
    first = " · ".join((_model(known), _device(prospect), _clips(known.form)))
    figures = " · ".join(f"{name} {text}" for name, text in _figures(prospect))
    predicted = "" if _predicted(prospect) else " (not predicted yet)"
    memory = memory_words(prospect)
    room = 20 if width >= 76 else 12
    lines = [
        Content.styled(_cut(first, width), "bold"),
        Content.assemble((bar(*_shares(prospect, room)), "$accent"), " ", _cut(memory, width - room - 1)),
        Content(_cut(f"Rung {_rung(prospect)} · {figures}{predicted}", width)),
        Content(_cut(_state(known).plain, width)).stylize(_tone(known)),
    ]
    return Content("\n").join(lines)


def memory_words(prospect: Prospect | None) -> str:
    """What the largest part takes of what is free."""
    if prospect is None or (prospect.need_bytes is None and prospect.total_bytes is None):
        return f"{UNKNOWN} not known"
    need = UNKNOWN if prospect.need_bytes is None else size(prospect.need_bytes)
    part = f" ({one_line(prospect.component)})" if prospect.component else ""
    free = UNKNOWN if prospect.free_bytes is None else size(prospect.free_bytes)
    total = UNKNOWN if prospect.total_bytes is None else size(prospect.total_bytes)
    return f"needs {need}{part}; {free} of {total} free"


# --- the parts --------------------------------------------------------------------------------------------------------


def _row(name: str, text: str, look: str, width: int) -> list[Content]:
    """A name, and beside it a text in as many lines as it needs."""
    wrapped = Content(one_line(text)).wrap(max(8, width - _NAME))
    names = (name, *[""] * len(wrapped))
    return [
        Content.assemble((f"{name:<{_NAME}}", "$foreground-muted"), line.stylize(look) if look else line)
        for name, line in zip(names, wrapped, strict=False)
    ]


def _model(known: Known) -> str:
    meant = (known.prospect and known.prospect.model) or known.form.model
    asked = "auto: " if known.form.model == "auto" and meant != "auto" else ""
    title = f"{known.title} · " if known.title else ""
    return f"{asked}{title}{meant[-200:]}"


def _shares(prospect: Prospect | None, room: int) -> tuple[float | None, int, float | None]:
    total = prospect.total_bytes if prospect else None
    need = prospect.need_bytes if prospect else None
    free = prospect.free_bytes if prospect else None
    if not total or need is None:
        return None, room, None
    return need / total, room, None if free is None else free / total


def _rung(prospect: Prospect | None) -> str:
    if prospect is None or prospect.profile is None:
        return UNKNOWN
    fits = {True: " (fits)", False: " (does not fit)", None: ""}[prospect.fits]
    return prospect.profile + fits


def _figures(prospect: Prospect | None) -> list[tuple[str, str]]:
    vram = prospect.vram_bytes if prospect else None
    ram = prospect.ram_bytes if prospect else None
    return [
        ("VRAM", UNKNOWN if vram is None else size(vram)),
        ("RAM", UNKNOWN if ram is None else size(ram)),
        ("Time", clock(prospect.seconds if prospect else None)),
    ]


def _predicted(prospect: Prospect | None) -> bool:
    return prospect is not None and prospect.seconds is not None and prospect.vram_bytes is not None


def _clips(form: Form) -> str:
    text = form.texts.get("count", "1")
    count = counted(int(text), "clip") if text.isascii() and text.isdigit() and len(text) < 5 else UNKNOWN
    seed = one_line(form.texts.get("seed", "drawn at the start")[:24])
    return f"{count}, seed {seed}" + (", then counted on" if form.seed_mode == "increment" else "")


def _remarks(known: Known) -> list[Content]:
    found = [known.remark] if known.remark else []
    found += known.prospect.notes if known.prospect else ()
    prompt = known.form.texts.get("prompt", "")
    if len(prompt) > _LONG_PROMPT:
        told = f"The prompt has {len(prompt):,} characters. Words beyond 512 tokens are dropped, with a warning."
        found.append(told)
    found += [f"{key} is kept from the file that was loaded, and not shown." for key in known.form.kept]
    return [Content.styled(f"! {plain_lines(text)}\n", "$warning") for text in dict.fromkeys(found)]


def _problems(known: Known) -> list[str]:
    """Without that of a prompt nobody has typed yet: that is no mistake."""
    return [text for key, text in known.problems.items() if key != "prompt" or key in known.form.texts]


def _tone(known: Known) -> str:
    if known.broken or _problems(known) or (known.prospect and known.prospect.problem and not known.examining):
        return "$error"
    return "$foreground-muted" if known.examining or known.problems else "$success"


def _state(known: Known) -> Content:
    """Whether it may run, and what is to be done else."""
    if known.broken:
        parts = [known.broken.message, *known.broken.suggestions]
        return Content.styled("✗ " + plain_lines(" ".join(parts)), "$error")
    if problems := _problems(known):
        more = f" And {len(problems) - 1} more." if len(problems) > 1 else ""
        return Content.styled(f"✗ {plain_lines(problems[0][:300])}{more}", "$error")
    if known.examining or known.prospect is None:
        return Content.styled("Examining…", "$foreground-muted")
    if problem := known.prospect.problem:
        hint = f"\n{known.run_key} shows what can be done."
        what = plain_lines(" ".join((problem.message, *problem.suggestions)))
        return Content.assemble((f"✗ {what}", "$error"), (hint, "$foreground-muted"))
    if known.problems:
        return Content.styled("It wants a prompt: say what is to be seen.", "$foreground-muted")
    return Content.styled(f"✓ Ready: {known.run_key} queues it.", "$success")


def _device(prospect: Prospect | None) -> str:
    return (prospect and prospect.device) or UNKNOWN


def _cut(text: str, width: int) -> str:
    return fitted(text, width).rstrip()
