"""Choosing for a field of the form: a model, a size, a device, a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from textual import on

from engine.catalog import Catalog
from wan_tui.composing.fields import Field
from wan_tui.composing.form import SEED_MODES, is_folder
from wan_tui.composing.read import path_text
from wan_tui.screens.composer_doing import Doing
from wan_tui.screens.composer_form import FormView
from wan_tui.widgets.choose import Choose, Option
from wan_tui.widgets.file_picker import FilePicker

_CLIP = "clip.mp4"
_FOLDER = " folder"  # no model has that name
_MODES = {
    "random": "A seed is drawn for each start.",
    "fixed": "The seed that stands there, each time; one is drawn where none stands.",
    "increment": "Each start goes on with the next seed.",
}


class Choosing(Doing):
    _inputs_folder: Path | None = None  # where a file was picked last
    _options: Sequence[Option] = ()  # models
    _choosing: Choose | None = None  # among them, while they are looked for

    @on(FormView.Entered)
    def _choose_for(self, event: FormView.Entered) -> None:
        one = self._view.field(event.key)
        if one is None:
            return
        if one.key == "model":
            self._choose_model()
        elif one.key == "device":
            self.in_background(_devices, lambda options: self._offer(one, options))
        elif one.kind == "seed":
            options = [Option(mode, mode, _MODES[mode]) for mode in SEED_MODES]
            self.app.push_screen(Choose("Seeds", options, current=self.form.seed_mode), self._take_mode)
        elif one.kind in ("path", "paths"):
            self._pick(one)
        else:
            self._offer(one, [Option(text, text, note=_default(one, text)) for text in one.choices])

    def _offer(self, one: Field, options: Sequence[Option]) -> None:
        if not options:
            self.app.tell(f"{one.label}: type it; which ones this model was made for is not known.", "warning")
            return

        def chosen(text: str | None) -> None:
            if text is not None:
                self.change(self.form.put(one.key, text))

        current = self.form.texts.get(one.key, one.default)
        self.app.push_screen(Choose(one.label, options, current=current), chosen)

    def _take_mode(self, mode: str | None) -> None:
        for known in SEED_MODES:
            if known == mode:
                self.change(self.form.with_seed_mode(known))

    # Models

    def catalog_read(self, catalog: Catalog) -> None:
        """Look which models are on disk, before somebody asks."""
        self.in_background(lambda: _models(catalog), self._keep_options)

    def _keep_options(self, options: list[Option]) -> None:
        self._options = options
        if self._choosing and self._choosing.is_attached:
            self._choosing.offer(options)

    def _choose_model(self) -> None:
        if self._broken:
            self.app.tell(self._broken.message, "warning")
        else:
            self._choosing = Choose("Model", self._options, current=self.form.model)
            self.app.push_screen(self._choosing, self._take_model)

    def _take_model(self, id: str | None) -> None:
        if id == _FOLDER:
            start = self._start(self.form.model if is_folder(self.form.model) else "")
            self.app.push_screen(FilePicker("The folder of a model", start, "folder"), self._take_folder)
        elif id:
            self.take_model(id)

    def _take_folder(self, folder: Path | None) -> None:
        if folder:
            text = path_text(folder, self.here)
            self.take_model(text if "/" in text else os.path.join(".", text))

    def take_model(self, name: str) -> None:
        """Compose with this one; what was typed stays."""
        self.change(self.form.put("model", "" if name == "auto" else name))

    # Files

    def _pick(self, one: Field) -> None:
        text = self.form.texts.get(one.key, "").split("\n")[-1]

        def chosen(path: Path | None) -> None:
            if path:
                self._take_path(one, path)

        self.app.push_screen(FilePicker(one.label, self._start(text), one.files), chosen)

    def _take_path(self, one: Field, path: Path) -> None:
        self._inputs_folder = path if one.files == "folder" else path.parent
        before = self.form.texts.get(one.key, "")
        if one.files == "folder":
            path = path / (Path(before).name or _CLIP)
        text = path_text(path, self.here)
        if one.kind == "paths" and before:
            text = f"{before}\n{text}"
        self.change(self.form.put(one.key, text))

    def _start(self, text: str) -> Path:
        """Where to begin looking for a file: beside the one that stands there."""
        if text and "\0" not in text:
            return (self.here / os.path.expanduser(text)).parent
        return self._inputs_folder or self.here


def _models(catalog: Catalog) -> list[Option]:
    from wan_tui.screens.composer_models import model_options

    return model_options(catalog, _FOLDER)


def _devices() -> list[Option]:
    from wan_tui.screens.composer_models import device_options

    return device_options()


def _default(one: Field, text: str) -> str:
    return "the model's default" if text == one.default else ""
