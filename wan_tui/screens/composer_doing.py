"""What is done with the form: files, presets, the editor, seeds; queueing is in `composer_run.py`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from engine.errors import WanError
from wan_tui.composing.editor import Edited, edit
from wan_tui.composing.files import Loaded, load, load_text, save
from wan_tui.composing.form import LONG_TEXTS, SEED_MODES, Form
from wan_tui.composing.presets import (
    Preset,
    apply,
    load_presets,
    name_problem,
    presets_folder,
    save_preset,
    shipped,
)
from wan_tui.composing.read import path_text, read
from wan_tui.screens.composer_run import Running
from wan_tui.widgets.ask import Ask
from wan_tui.widgets.choose import Choose, Option
from wan_tui.widgets.file_picker import FilePicker
from wan_tui.widgets.typed import AskLine

_SAVE = " save"  # no preset has that name


class Doing(Running):
    _folder: Path | None = None  # of the job file that was opened last

    # The fields

    def action_default(self) -> None:
        self.take_typed()
        key = self._view.focused_key
        if key is None:
            self.app.tell("Go to the field that is to be the model's default.", "warning")
            return
        form = self.form.with_seed_mode("random") if key == "seed" else self.form.without((key,))
        if form == self.form:
            self.app.tell("The field is the model's default.")
        else:
            self.change(form)

    def action_seed_mode(self) -> None:
        self.take_typed()
        at = SEED_MODES.index(self.form.seed_mode)
        self.change(self.form.with_seed_mode(SEED_MODES[(at + 1) % len(SEED_MODES)]))

    def action_write(self) -> None:
        self._view.go_to(self.last_key)

    def action_new(self) -> None:
        if self.form == Form():
            self.app.tell("The form is empty.")
        self.replace(Form())
        self._view.go_to("prompt")

    # The editor

    def action_editor(self) -> None:
        self.take_typed()
        key = self._view.focused_key
        key = key if key in LONG_TEXTS else "prompt"
        try:
            edited = edit(self.form.texts.get(key, ""), os.environ, self.app.run_outside)
        except RuntimeError as error:  # no terminal to lend
            edited = Edited("", str(error))
        if edited.problem:
            self.app.tell(edited.problem, "warning")
        else:
            self.change(self.form.put(key, edited.text))
        self._view.go_to(key)

    # Job files

    def action_open(self) -> None:
        def chosen(file: Path | None) -> None:
            if file:
                self._folder = file.parent
                self.in_background(lambda: load(file, self.here), lambda loaded: self._loaded(loaded, file.name))

        self.app.push_screen(FilePicker("Open a job", self._folder or self.here, "job"), chosen)

    def load_text(self, text: str, name: str) -> None:
        """Take in the text of a job file."""
        self.in_background(
            lambda: load_text(text, Path(name), self.here), lambda loaded: self._loaded(loaded, Path(name).name)
        )

    def _loaded(self, loaded: Loaded, name: str) -> None:
        self.replace(loaded.form)
        self.app.tell(" ".join((f"Loaded {name}.", *loaded.notes)))

    def action_save(self) -> None:
        self.take_typed()
        reading = read(self.asked, self.here)
        if reading.job is None:
            self.tell_problem()
            return
        job = reading.job

        def chosen(name: str | None) -> None:
            if name:
                file = self.here / os.path.expanduser(name)
                self._save(lambda over: save(job, file, self.here, overwrite=over), str(file))

        def problem(name: str) -> str | None:
            return None if name.strip().endswith(".toml") else "The name of a job file ends in .toml."

        start = path_text(self._folder / "job.toml", self.here) if self._folder else "job.toml"
        self.app.push_screen(AskLine("Save as", "The path of a job file.", start, problem), chosen)

    def _save(self, write: Callable[[bool], object], name: str, *, over: bool = False) -> None:
        """Write something; asks where that would be over something else."""

        def failed(error: WanError) -> None:
            if error.code != "file-exists":
                self.app.show_error(error)
                return

            def answered(agreed: bool | None) -> None:
                if agreed:
                    self._save(write, name, over=True)

            self.app.push_screen(Ask(f"Write over {name}?", "What it holds now is lost.", yes="write over"), answered)

        self.in_background(lambda: write(over), lambda _: self.app.tell(f"Saved {name}."), failed)

    # Presets

    def action_presets(self) -> None:
        self.in_background(lambda: load_presets(presets_folder(), self.here), self._offer_presets)

    def _offer_presets(self, found: tuple[tuple[Preset, ...], tuple[str, ...]]) -> None:
        presets, problems = found
        for problem in problems:
            self.app.tell(problem, "warning")
        known = {f"own:{one.name}": one for one in presets}
        known |= {f"shipped:{one.name}": one for one in shipped(self.spec)}
        options = [Option(key, one.name, _about(one), "" if one.file else "shipped") for key, one in known.items()]
        options.append(Option(_SAVE, "save these settings…", "Under a name, as a file in the config folder."))

        def chosen(key: str | None) -> None:
            if key == _SAVE:
                self._save_preset()
            elif key:
                self.replace(apply(known[key], self.form))
                self.app.tell(f"Preset {known[key].name}: {_about(known[key])}")

        self.app.push_screen(Choose("Presets", options), chosen)

    def _save_preset(self) -> None:
        form, folder = self.asked, presets_folder()

        def chosen(name: str | None) -> None:
            if name:
                self._save(lambda over: save_preset(name, form, folder, overwrite=over), f"preset {name}")

        self.app.push_screen(AskLine("Save settings as", "The name of the preset.", "", name_problem), chosen)


def _about(preset: Preset) -> str:
    """What it does to a form."""
    parts = [f"{key} {text or 'none'}" for key, text in preset.texts.items()]
    parts += [f"{key} kept" for key in preset.kept]
    cleared = [key for key in preset.clears if key not in preset.texts]
    parts += [f"the model's {', '.join(cleared)}"] if cleared else []
    return "; ".join(parts) + "."
