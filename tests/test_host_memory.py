"""RAM within a cgroup, read from folders laid out as the kernel lays out its own (cgroup v2)."""

from __future__ import annotations

from pathlib import Path

from engine.host import cgroup_memory


def group(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"memory.{name}").write_text(text)
    return folder


def own(tmp_path: Path, relative: str) -> Path:
    file = tmp_path / "cgroup-of-this-process"
    file.write_text(f"0::{relative}\n")
    return file


def test_the_tightest_limit_on_the_way_to_the_root_counts(tmp_path: Path) -> None:
    root = group(tmp_path / "root", max="max\n")
    group(root / "a", max="4000\n", current="900\n")
    group(root / "a" / "b", max="9000\n", current="100\n")
    assert cgroup_memory(root, own(tmp_path, "/a/b")) == (4000, 900)


def test_pages_of_files_are_not_counted_as_used(tmp_path: Path) -> None:
    stat = "anon 700\nfile 2300\nactive_file 1500\ninactive_file 800\n"
    root = group(tmp_path / "root", max="4000\n", current="3100\n", stat=stat)
    assert cgroup_memory(root, own(tmp_path, "/")) == (4000, 800)


def test_what_cannot_be_read_is_unknown_or_counted_whole(tmp_path: Path) -> None:
    root = group(tmp_path / "root", max="4000\n")
    assert cgroup_memory(root, own(tmp_path, "/")) == (4000, None)
    group(root, current="3100\n", stat="not numbers\n")
    assert cgroup_memory(root, own(tmp_path, "/")) == (4000, 3100)
    assert cgroup_memory(root, tmp_path / "no such file") == (None, None)
