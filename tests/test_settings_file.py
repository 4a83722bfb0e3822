"""config.toml: what it may hold, what is told of what it may not, and how one line of it is changed."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from engine.errors import JobError
from tests.runs import wan_tui
from wan_tui.actions import ACTIONS
from wan_tui.settings import Settings, bad_keys, load_settings, save_setting, settings_file
from wan_tui.settings_fields import FIELDS
from wan_tui.settings_text import commented_file, reference

ROOT = Path(__file__).parent.parent
GOOD = """\
theme = "wan-light"
mouse = false
low_bandwidth = true
ascii = true
preview = "off"
output = "~/videos"

[keys]
"library.download" = "d, delete"
queue.remove = "ctrl+r"
"""


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAN_TUI_CONFIG", raising=False)


@pytest.fixture
def file(own_home: Path) -> Path:
    place = own_home / "config" / "wan-tui" / "config.toml"
    place.parent.mkdir()
    assert settings_file() == place
    return place


def test_without_a_file_the_defaults_hold(own_home: Path) -> None:
    assert load_settings() == (Settings(), ())


def test_every_setting_is_read(file: Path, own_home: Path) -> None:
    file.write_text(GOOD)
    settings, problems = load_settings()
    assert problems == ()
    assert settings == Settings(
        theme="wan-light",
        mouse=False,
        low_bandwidth=True,
        ascii=True,
        preview="off",
        output=own_home / "videos",
        keys={"library.download": "d,delete", "queue.remove": "ctrl+r"},
    )
    assert bad_keys(settings, {"library.download", "queue.remove"}) == ()
    (told,) = bad_keys(settings, {"library.downloads", "queue.remove"})
    assert "keys.library.download is no action. Did you mean library.downloads?" in told


def test_the_file_of_the_environment(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAN_TUI_CONFIG", "~/mine.toml")
    assert settings_file() == own_home / "mine.toml"
    assert "does not exist" in load_settings()[1][0]
    (own_home / "mine.toml").write_text("mouse = false")
    assert load_settings() == (Settings(mouse=False), ())


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("mouse = 1", "mouse cannot be 1; give true or false. The nearest is true. Until then true holds."),
        ('low_bandwidth = "no"', "The nearest is false."),
        ('preview = "half-block"', 'The nearest is "halfblock".'),
        ("ascii = 3", 'give "auto", true or false. Until then "auto" holds.'),
        ('theme = "Wan Dark"', 'The nearest is "wan-dark".'),
        ('output = ""', "output cannot be ''; give the path of a folder."),
        ('output = "a\\u0000b"', "output cannot be"),
        ("keys = 3", "keys cannot be 3; give a table. Until then no key of yours holds."),
        ('themes = "nord"', "themes is no setting. Did you mean theme?"),
        ('"\\u001b[2J" = 1', "\\x1b[2J is no setting."),
        ('keys = {"a.b" = ""}', "keys.a.b cannot be ''"),
        ('keys = {"a.b" = ["d"]}', "keys.a.b cannot be ['d']"),
        ('keys = {"A B" = "d"}', "keys.A B cannot be 'd'"),
        ('keys = {"a.b" = "two words"}', "keys.a.b cannot be 'two words'"),
    ],
)
def test_a_wrong_key_takes_its_default_and_the_others_hold(line: str, told: str, file: Path) -> None:
    other = "mouse = false" if "mouse" not in line else 'preview = "off"'
    file.write_text(f"{other}\n{line}\n")
    settings, (problem,) = load_settings()
    assert settings == (Settings(mouse=False) if "mouse" not in line else Settings(preview="off"))
    assert problem.startswith(str(file))
    assert told in problem
    assert "\x1b" not in problem
    assert file.read_text() == f"{other}\n{line}\n"


@pytest.mark.parametrize(
    "data",
    [b"theme = ", b"\xff\xfe", b"a = " + b"[" * 5000, b"a=1\na=2", b"n = " + b"9" * 5000, b"#" * (2 << 20)],
)
def test_a_broken_file_leaves_the_defaults_and_one_sentence(data: bytes, file: Path) -> None:
    file.write_bytes(data)
    settings, (problem,) = load_settings()
    assert settings == Settings()
    assert problem.startswith(f"{file} cannot be used: ")
    assert len(problem) < 400
    with pytest.raises(JobError, match="could not be written"):
        save_setting("theme", "wan-light")
    assert file.read_bytes() == data


def test_a_folder_and_what_may_not_be_read_are_told(file: Path) -> None:
    file.mkdir()
    assert "cannot be used" in load_settings()[1][0]


def test_many_wrong_keys_are_told_in_few_sentences(file: Path) -> None:
    file.write_text("[keys]\n" + "".join(f'"a.{n}" = 1\n' for n in range(900)))
    assert len(load_settings()[1]) == 21


CHANGES = {
    "theme = 'nord'  # mine\nmouse = true\n": 'theme = "wan-light"  # mine\nmouse = true\n',
    '  "theme"="a"\n': '  theme = "wan-light"\n',
    "theme = 3": 'theme = "wan-light"',
    "": 'theme = "wan-light"\n',
    "mouse = false": 'mouse = false\ntheme = "wan-light"',
    "mouse = false\r\n": 'mouse = false\r\ntheme = "wan-light"\r\n',
    "theme = 'a' # x\r\n[keys]\r\n": 'theme = "wan-light" # x\r\n[keys]\r\n',
    "[keys]\ntheme = 'd'\n": "theme = \"wan-light\"\n[keys]\ntheme = 'd'\n",
    '# theme = "auto"\n\n# [keys]\n': '# theme = "auto"\ntheme = "wan-light"\n\n# [keys]\n',
    "x = '''\ntheme = 'a'\n'''\ntheme = 'b'\n": "x = '''\ntheme = 'a'\n'''\ntheme = \"wan-light\"\n",
    "x = '''\n# theme = 'a'\n'''\n[keys]\n": "x = '''\n# theme = 'a'\n'''\ntheme = \"wan-light\"\n[keys]\n",
    "\ufeffmouse = true\n": '\ufeffmouse = true\ntheme = "wan-light"\n',
    "\ufeff[keys]\n": '\ufefftheme = "wan-light"\n[keys]\n',
}


@pytest.mark.parametrize(("old", "new"), CHANGES.items())
def test_one_setting_is_changed_and_every_other_byte_stays(old: str, new: str, file: Path) -> None:
    file.write_bytes(old.encode())
    save_setting("theme", "wan-light")
    assert file.read_bytes() == new.encode()
    assert load_settings()[0].theme == "wan-light"
    save_setting("theme", "wan-light")
    assert file.read_bytes() == new.encode()


@pytest.mark.parametrize(
    "old", ["theme = '''\nnord'''\n", 'theme = """a"""', "theme.name = 'a'\n", "[theme]\nname = 'a'\n"]
)
def test_what_it_cannot_change_it_refuses(old: str, file: Path) -> None:
    file.write_text(old)
    with pytest.raises(JobError) as refused:
        save_setting("theme", "wan-light")
    assert "a way this program does not change" in refused.value.message
    assert refused.value.suggestions == ('Write theme = "wan-light" into the file yourself.',)
    assert file.read_text() == old
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_a_setting_saved_first_begins_the_file(own_home: Path) -> None:
    save_setting("low_bandwidth", True)
    save_setting("output", Path('/a "b"\\c'))
    assert load_settings() == (Settings(low_bandwidth=True, output=Path('/a "b"\\c')), ())
    kept = [line for line in settings_file().read_text().splitlines() if line.startswith(("low", "output"))]
    assert kept == ["low_bandwidth = true", r'output = "/a \"b\"\\c"']
    assert settings_file().stat().st_mode & 0o777 == 0o600
    with pytest.raises(JobError, match='preview must be "auto"'):
        save_setting("preview", "sixel")


def test_a_link_stays_a_link_and_a_shared_file_shared(file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles.toml"
    kept.write_text("mouse = false\n")
    kept.chmod(0o644)
    file.symlink_to(kept)
    save_setting("theme", "nord")
    assert file.is_symlink()
    assert kept.read_text() == 'mouse = false\ntheme = "nord"\n'
    assert kept.stat().st_mode & 0o777 == 0o644


def test_the_commented_file_changes_nothing_and_holds_everything(file: Path) -> None:
    file.write_text(commented_file())
    assert load_settings() == (Settings(), ())
    bare = [line.removeprefix("# ") for line in commented_file().splitlines()]
    setting = [line for line in bare if " = " in line or line == "[keys]"]
    table = tomllib.loads("\n".join(line for line in setting if line[0] in '["' or line.split(" = ")[0] in FIELDS))
    assert list(table) == list(FIELDS)
    assert table["keys"] == {action.id: action.keys for action in ACTIONS}
    file.write_text("\n".join(line for line in setting if line[0] in '["' or line.split(" = ")[0] in FIELDS))
    settings, problems = load_settings()
    assert problems == bad_keys(settings, {action.id for action in ACTIONS}) == ()


def test_the_page_of_the_documentation_is_that_of_the_settings() -> None:
    assert (ROOT / "docs" / "config.md").read_text(encoding="utf-8") == reference(), "write it anew: see reference()"


def test_config_show_path_init(own_home: Path) -> None:
    path = wan_tui("config", "path").stdout.strip()
    assert path == str(settings_file())
    assert json.loads(wan_tui("config", "path", "--json").stdout) == {"path": path, "exists": False}
    made = wan_tui("config", "init")
    assert (made.returncode, made.stdout.strip()) == (0, path)
    assert Path(path).read_text() == commented_file()
    Path(path).write_text('theme = "wan-drak"\nmouse = 2\n[keys]\n"app.halp" = "d"\n')
    again = wan_tui("config", "init")
    assert (again.returncode, again.stdout) == (2, "")
    assert "nothing was written" in again.stderr
    assert json.loads(wan_tui("config", "init", "--json").stdout)["code"] == "config-exists"
    shown = wan_tui("config", "show")
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[0].split() == ["theme", "wan-drak", "file"]
    assert shown.stdout.splitlines()[1].split() == ["mouse", "true", "default"]
    for told in ("mouse cannot be 2", "Did you mean app.help?", "there is no theme wan-drak"):
        assert told in shown.stderr
    answer = json.loads(wan_tui("config", "show", "--json").stdout)
    assert answer["settings"][0] == {"key": "theme", "value": "wan-drak", "origin": "file"}
    assert len(answer["problems"]) == 3
