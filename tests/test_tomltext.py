"""Endless keys are refused before tomllib looks at them, and nothing that is sound is."""

from __future__ import annotations

import tomllib

import pytest
import tomli_w

from engine.tomltext import MOST_PARTS, loads

DOTS = ".".join("a" * 5000)
ENDLESS = ".".join(["a"] * 400_000)  # hours, if tomllib were asked


@pytest.mark.parametrize(
    "text",
    [
        f"{ENDLESS} = 1",
        f"x = 1\n  {ENDLESS} = 1",
        f"[{ENDLESS}]",
        f"[[ {ENDLESS} ]]",
        f"x = {{{ENDLESS} = 1}}",
        f"x = [1, {{y = 1, {ENDLESS} = 1}}]",
        ENDLESS.replace(".", " .\t") + " = 1",
        ENDLESS.replace("a", '"a.\\""') + " = 1",
        ENDLESS.replace("a", "'\"'") + " = 1",
        ENDLESS.replace("a", "ä-_9") + " = 1",
        f'x = """\n"""\n{ENDLESS} = 1',
        f"x = '''\"\"\"'''\n{ENDLESS} = 1",
        f"x = 1 # it's\n{ENDLESS} = 1",
        f'x = "\\""\n{ENDLESS} = 1',
        f"x = 'it\\'\n{ENDLESS} = 1",
        f'x = """"quoted"""""\n{ENDLESS} = 1',
        f'"".{ENDLESS} = 1',
    ],
)
def test_an_endless_key_is_refused(text: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError, match=f"more than {MOST_PARTS} parts"):
        loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"{ending}{DOTS}" for ending in ("", "[", "{", ", ", "# ", "' ", '" ', "'''", '"""', "\\")),
        DOTS,
        f'"{DOTS}" = 1',
        "'" * 5000,
        '"' * 5000,
        "\\",
        "",
    ],
)
def test_no_text_is_refused_for_what_stands_in_it(text: str) -> None:
    table = {"prompt": text, "other": [text, {"inner": text}], "after": 1}
    assert loads(tomli_w.dumps(table)) == table
    assert loads(tomli_w.dumps(table, multiline_strings=True)) == table
    assert loads(f"# {text.splitlines()[0] if text else ''}\nx = 1") == {"x": 1}


def test_keys_of_as_many_parts_as_are_taken() -> None:
    key = ".".join(["a"] * MOST_PARTS)
    assert loads(f"{key} = 1") == tomllib.loads(f"{key} = 1")


@pytest.mark.parametrize("text", ['"""', "'''", '"', "'", '\\"""', '"""\\', "#", ". ", "a.", '"".', "[a."])
def test_what_is_no_toml_takes_no_longer_either(text: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        loads("x = ?" + text * 300_000)
