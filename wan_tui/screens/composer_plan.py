"""What is known of the job in the form, as text: beside the form, or in four lines below it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

from engine.errors import WanError
from engine.units import counted, size
from wan_tui.composing.form import Form
from wan_tui.drawing import UNKNOWN, bar
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
    manifest. `remark` is what this version does of the model; `predicting`: its modules are being traced."""

    form: Form
    problems: Mapping[str, str]
    prospect: Prospect | None = None
    examining: bool = False
    broken: WanError | None = None
    title: str | None = None
    remark: str | None = None
    run_key: str = ""
    instead_key: str = ""
    predicting: bool = False


def plan_text(known: Known, width: int, *, full: bool = False) -> Content:
    """All of it, for a column; with `full` the stages, too."""
    prospect = known.prospect
    plan = prospect.plan if prospect else None
    rows = [("Model", _model(known), "bold"), ("Device", _device(prospect), "")]
    lines = [line for row in rows for line in _row(*row, width)]
    room = max(8, min(40, width - _NAME - 1))
    lines.append(Content.assemble((f"{'Memory':<{_NAME}}", "$foreground-muted"), _bar(prospect, room)))
    rows = [("", memory_words(prospect), ""), *_planned(known, full=full), ("Clips", _clips(known.form), "")]
    lines += [line for row in rows for line in _row(*row, width)]
    lines += [Content(""), *_remarks(known), _state(known)]
    if plan:
        from wan_tui.screens.composer_figures import reasons

        lines += [Content(""), *(line for row in reasons(plan) for line in _row(*row, width))]
    return Content("\n").join(lines)


def _planned(known: Known, *, full: bool) -> list[tuple[str, str, str]]:
    """What a plan tells beside the memory."""
    plan = known.prospect.plan if known.prospect else None
    if plan is None or not plan.stages:
        rows = [(name, UNKNOWN, "") for name in ("RAM", "Time")]
        rung = UNKNOWN if plan is None else plan.profile
        return [("Rung", rung, ""), *rows, ("", _waits(known), "$foreground-muted")]
    from wan_tui.screens.composer_figures import plan_rows, rung_look, rung_text

    rows = [("Rung", rung_text(plan), rung_look(plan)), *plan_rows(plan, full=full)]
    if plan.alternatives and known.instead_key:
        at = next(number for number, row in enumerate(rows) if row[0] == "Instead") + len(plan.alternatives)
        rows.insert(at, ("", f"Esc {known.instead_key} takes one of them", "$foreground-muted"))
    return rows


def _waits(known: Known) -> str:
    """Why nothing is predicted."""
    if known.predicting:
        return "predicting: what the modules of this model take…"
    return "not predicted yet"


def plan_lines(known: Known, width: int) -> Content:
    """The same in four lines."""
    prospect = known.prospect
    first = " · ".join((_model(known), _device(prospect), _clips(known.form)))
    room = 20 if width >= 76 else 12
    lines = [
        Content.styled(_cut(first, width), "bold"),
        Content.assemble(_bar(prospect, room), " ", _cut(memory_words(prospect), width - room - 1)),
        Content(_cut(_in_short(known), width)),
        Content(_cut(_state_in_short(known), width)).stylize(_tone(known)),
    ]
    return Content("\n").join(lines)


def _state_in_short(known: Known) -> str:
    settled = not known.broken and not _problems(known) and not known.examining
    if settled and known.prospect and known.prospect.refusal:
        return f"✗ It does not fit: {known.run_key} shows why, and what would."
    return _state(known).plain


def _in_short(known: Known) -> str:
    plan = known.prospect.plan if known.prospect else None
    if plan is None or not plan.stages:
        rung = UNKNOWN if plan is None else plan.profile
        return f"Rung {rung} · RAM {UNKNOWN} · Time {UNKNOWN} ({_waits(known)})"
    from wan_tui.screens.composer_figures import figures_text, rung_text

    return f"Rung {rung_text(plan)} · {figures_text(plan)}"


def memory_words(prospect: Prospect | None) -> str:
    """What it takes of what there is; of a model that cannot be predicted what its largest part does."""
    if prospect and prospect.plan and prospect.plan.stages:
        from wan_tui.screens.composer_figures import memory_text

        return memory_text(prospect.plan, prospect.total_bytes)
    if prospect is None or (prospect.need is None and prospect.total_bytes is None):
        return f"{UNKNOWN} not known"
    part = prospect.need
    need = f"{size(part.bytes)} for the {one_line(part.component)} alone" if part else UNKNOWN
    free = UNKNOWN if prospect.free_bytes is None else size(prospect.free_bytes)
    total = UNKNOWN if prospect.total_bytes is None else size(prospect.total_bytes)
    return f"{need}; {free} of {total} free"


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


def _bar(prospect: Prospect | None, room: int) -> Content:
    if prospect and prospect.plan and prospect.plan.stages:
        from wan_tui.screens.composer_figures import memory_bar

        return memory_bar(prospect.plan, prospect.total_bytes, room)
    total = prospect.total_bytes if prospect else None
    if prospect is None or not total or prospect.need is None:
        return Content.styled(bar(None, room), "$accent")
    free = None if prospect.free_bytes is None else prospect.free_bytes / total
    return Content.styled(bar(prospect.need.bytes / total, room, free), "$accent")


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
    found += [f"{key} is kept, and not shown." for key in known.form.kept]
    return [Content.styled(f"! {plain_lines(text)}\n", "$warning") for text in dict.fromkeys(found)]


def _problems(known: Known) -> list[str]:
    """Without that of a prompt nobody has typed yet: that is no mistake."""
    return [text for key, text in known.problems.items() if key != "prompt" or key in known.form.texts]


def _tone(known: Known) -> str:
    stopped = known.prospect and (known.prospect.problem or known.prospect.refusal) and not known.examining
    if known.broken or _problems(known) or stopped:
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
    if refusal := known.prospect.refusal:
        hint = f"\n{known.run_key} shows what would."
        return Content.assemble((f"✗ {plain_lines(refusal.message)}", "$error"), (hint, "$foreground-muted"))
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
