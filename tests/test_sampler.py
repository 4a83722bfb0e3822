"""What a box does right now, under drivers of every kind. The bindings are the real ones; the library below is ours."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.sampling.figures import GpuSample, HostSample, Sample
from engine.sampling.history import SECONDS, Rings
from engine.sampling.ours import driver_knows_us, our_share
from engine.sampling.sampler import Sampler
from tests.nvml import GIB, Box, a_4090, build

FIGURES = (
    "total_bytes",
    "used_bytes",
    "free_bytes",
    "utilization",
    "temperature_c",
    "power_w",
    "clock_mhz",
    "throttle",
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def box(library: Path, tmp_path: Path) -> Iterator[Box]:
    box = Box(library, tmp_path)
    yield box
    box.close()


def figures(gpu: dict[str, Any]) -> list[Any]:
    return [gpu[name] for name in FIGURES]


def test_a_card_with_everything(box: Box) -> None:
    box.has(a_4090())
    sample = box.read()
    assert (sample["driver"], sample["cuda"], sample["notice"]) == ("580.82.07", "13.0", None)
    assert sample["gpus"] == [
        {
            "uuid": "GPU-4090",
            "name": "NVIDIA GeForce RTX 4090",
            "torch_index": 0,
            "hidden": False,
            "bus_id": "00000000:01:00.0",
            "capability": [8, 9],
            "mig_parent": None,
            "shared_memory": False,
            "total_bytes": 24 * GIB,
            "used_bytes": 8 * GIB,
            "free_bytes": 15 * GIB,
            "our_bytes": 0,
            "torch_allocated_bytes": None,
            "torch_reserved_bytes": None,
            "torch_peak_bytes": None,
            "utilization": 97,
            "memory_utilization": 41,
            "temperature_c": 71,
            "power_w": 389.5,
            "power_limit_w": 450.0,
            "clock_mhz": 2520,
            "pstate": 2,
            "throttle": ["power cap"],
            "lost": False,
            "problem": None,
        }
    ]


def test_our_share_is_that_of_our_process(box: Box) -> None:
    box.has(a_4090())
    box.read()
    box.has(a_4090(processes=f"1:1000 {box.pid}:5000"))
    assert box.read(1)["gpus"][0]["our_bytes"] == 5000
    box.has(a_4090(processes=f"{box.pid}:{2**64 - 1}"))  # NVML's word for unknown
    assert box.read(2)["gpus"][0]["our_bytes"] is None
    box.has(a_4090(processes="!4"))
    assert box.read(3)["gpus"][0]["our_bytes"] is None


def test_what_changes_slowly_is_asked_every_two_seconds(box: Box) -> None:
    box.has(a_4090())
    box.read(0)
    box.has(a_4090(temperature=80, utilization="5 5", throttle=0))
    gpu = box.read(1)["gpus"][0]
    assert (gpu["temperature_c"], gpu["utilization"], gpu["throttle"]) == (71, 5, ["power cap"])
    gpu = box.read(2)["gpus"][0]
    assert (gpu["temperature_c"], gpu["throttle"]) == (80, [])


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        ("0x1", []),
        ("0x60", ["thermal"]),
        ("0x48", ["thermal", "hardware slowdown"]),
        ("0x84", ["power cap", "power brake"]),
    ],
)
def test_what_holds_the_clocks_is_told_in_words(box: Box, bits: str, words: list[str]) -> None:
    box.has(a_4090(throttle=bits))
    assert box.read()["gpus"][0]["throttle"] == words


def test_four_cards_go_by_their_uuids(box: Box) -> None:
    box.has(*(a_4090(index, f"GPU-{index}") for index in range(4)))
    box.variables["CUDA_VISIBLE_DEVICES"] = "3,GPU-1"
    gpus = box.read()["gpus"]
    assert [(gpu["uuid"], gpu["torch_index"], gpu["hidden"]) for gpu in gpus] == [
        ("GPU-0", None, True),
        ("GPU-1", 1, False),
        ("GPU-2", None, True),
        ("GPU-3", 0, False),
    ]


@pytest.mark.parametrize(
    ("variables", "numbers"),
    [
        ({}, [None, None]),  # CUDA puts the fastest first, and which that is only CUDA knows
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, [0, 1]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-b,GPU-a"}, [1, 0]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, [None, None]),
        ({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, [None, 0]),
    ],
)
def test_no_number_is_guessed(box: Box, variables: dict[str, str], numbers: list[int | None]) -> None:
    box.has(a_4090(0, "GPU-a"), a_4090(1, "GPU-b", name="NVIDIA RTX A2000"))
    box.variables = variables
    assert [gpu["torch_index"] for gpu in box.read()["gpus"]] == numbers


@pytest.mark.parametrize("memory", [None, "0 0 0"])
def test_unified_memory_is_the_hosts(box: Box, memory: str | None) -> None:
    without = dict.fromkeys(("memory_v2", "limit"))
    box.has(a_4090(name="NVIDIA GB10", memory=memory, processes="1:5", **without))
    sample = box.read()
    gpu, host = sample["gpus"][0], sample["host"]
    assert gpu["shared_memory"]
    assert (gpu["total_bytes"], gpu["free_bytes"]) == (host["ram_total_bytes"], host["ram_available_bytes"])
    assert gpu["used_bytes"] == host["ram_total_bytes"] - host["ram_available_bytes"]
    assert (gpu["power_limit_w"], gpu["power_w"], gpu["problem"]) == (None, 389.5, None)


def test_parts_of_a_split_card_and_their_parent(box: Box) -> None:
    refused = {"memory": "!4", "memory_v2": "!4", "utilization": None, "processes": "!4", "mig": 1}
    parts = {
        f"0.{part}.{question}": answer
        for part in (0, 1)
        for question, answer in {
            "uuid": f"MIG-{part}",
            "name": "NVIDIA H100 MIG 3g.40gb",
            "memory": f"{40 * GIB} {GIB} {39 * GIB}",
            "temperature": "!2",
            "processes": "7:7",
        }.items()
    }
    box.has(a_4090(uuid="GPU-h", name="NVIDIA H100", capability="9.0", **refused) | parts)
    whole, first, second = box.read()["gpus"]
    assert (whole["uuid"], whole["torch_index"], whole["temperature_c"]) == ("GPU-h", None, 71)
    assert figures(whole)[:4] == [None] * 4
    assert whole["problem"] == "The driver does not let this user see its memory."
    assert not whole["shared_memory"]
    assert [(part["uuid"], part["mig_parent"], part["torch_index"]) for part in (first, second)] == [
        ("MIG-0", "GPU-h", None),  # CUDA takes one part, and does not say which
        ("MIG-1", "GPU-h", None),
    ]
    assert figures(first) == [40 * GIB, GIB, 39 * GIB, None, None, None, None, None]
    assert (first["capability"], first["bus_id"]) == ([9, 0], "00000000:01:00.0")


def test_fields_that_are_not_available_are_unknown(box: Box) -> None:
    box.has({"0.uuid": "GPU-x", "0.memory": f"{GIB} 1 2", "0.pstate": 32})
    gpu = box.read()["gpus"][0]
    assert figures(gpu) == [GIB, 1, 2, *[None] * 5]
    assert (gpu["name"], gpu["pstate"], gpu["our_bytes"], gpu["capability"]) == ("GPU", None, None, None)


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ({"init": "!18"}, "not the version that is installed"),
        ({"init": "!4"}, "may not use the NVIDIA driver"),
        ({"init": "!9"}, "not loaded"),
        ({"init": "!999"}, "cannot be used: Unknown Error."),
        ({"count": 0}, "sees no GPU"),
    ],
)
def test_a_box_without_devices_says_why(box: Box, system: dict[str, object], words: str) -> None:
    box.has(**system)
    sample = box.read()
    assert sample["gpus"] == []
    assert words in sample["notice"]
    assert sample["host"]["ram_total_bytes"] > 0


def test_no_library(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").touch()  # hides one that this box may have
    box = Box(tmp_path, tmp_path)
    sample = box.read()
    box.close()
    assert (sample["gpus"], sample["driver"]) == ([], None)
    assert "No NVIDIA driver was found" in sample["notice"]


def test_a_card_that_is_lost_and_comes_back(box: Box) -> None:
    cards = [a_4090(index, f"GPU-{index}") for index in range(3)]
    box.has(*cards)
    box.read(0)
    box.has(cards[0], a_4090(1, "GPU-1", memory_v2="!15", handle="!15"), cards[2])
    for at in (1, 12):  # also when the driver is opened anew, and does not even tell its name
        gpus = box.read(at)["gpus"]
        assert [(gpu["uuid"], gpu["lost"], gpu["torch_index"]) for gpu in gpus] == [
            ("GPU-0", False, 0),
            ("GPU-1", True, 1),
            ("GPU-2", False, 2),
        ]
        assert figures(gpus[1]) == [None] * len(FIGURES)
        assert "dmesg" in gpus[1]["problem"]
    box.has(cards[0], a_4090(1, "GPU-2", bus=cards[2]["2.bus"]))  # it is not even counted any more
    gpus = box.read(23)["gpus"]
    assert [(gpu["uuid"], gpu["lost"], gpu["torch_index"]) for gpu in gpus] == [
        ("GPU-0", False, 0),
        ("GPU-1", True, 1),
        ("GPU-2", False, 2),
    ]
    box.has(*cards)
    assert [gpu["used_bytes"] for gpu in box.read(34)["gpus"]] == [8 * GIB] * 3


def test_cards_that_do_not_tell_their_names(box: Box) -> None:
    box.has({"0.handle": "!15"}, {"1.handle": "!4"}, a_4090(2))
    lost, refused, card = sorted(box.read()["gpus"], key=lambda gpu: gpu["name"])
    assert (lost["name"], lost["lost"]) == ("GPU 0", True)
    assert (refused["name"], refused["lost"]) == ("GPU 1", False)
    assert "let this user" in refused["problem"]
    assert card["torch_index"] is None  # CUDA may count the lost one, or not


@pytest.mark.parametrize("code", [1, 9, 999])
def test_a_driver_that_goes_away_and_comes_back(box: Box, code: int) -> None:
    box.has(a_4090())
    box.read(0)
    box.has(a_4090(), count=f"!{code}", init="!9")
    for at in (1.0, 5.0, 11.5):
        sample = box.read(at)
        assert [(gpu["uuid"], gpu["lost"]) for gpu in sample["gpus"]] == [("GPU-4090", True)]
        assert figures(sample["gpus"][0]) == [None] * len(FIGURES)
        assert "does not answer any more" in sample["notice"]
    box.has(a_4090())
    sample = box.read(22)
    assert (sample["gpus"][0]["used_bytes"], sample["gpus"][0]["lost"], sample["notice"]) == (8 * GIB, False, None)


def test_a_driver_that_goes_away_in_the_middle_of_a_reading(box: Box) -> None:
    box.has(a_4090(), a_4090(1, "GPU-1"))
    box.read(0)
    box.has(a_4090(), a_4090(1, "GPU-1", utilization="!1"))
    sample = box.read(1)
    assert [(gpu["lost"], gpu["utilization"]) for gpu in sample["gpus"]] == [(True, None)] * 2
    assert "does not answer any more" in sample["notice"]


def test_a_driver_that_is_loaded_later(box: Box) -> None:
    box.has(init="!9")
    assert box.read(0)["gpus"] == []
    box.has(a_4090())
    assert [gpu["uuid"] for gpu in box.read(11)["gpus"]] == ["GPU-4090"]


def test_in_a_container_a_number_of_ours_may_be_a_strangers(box: Box) -> None:
    box.has(a_4090())
    box.read(0, known=False)
    box.has(a_4090(processes=f"{box.pid}:5000"))
    assert box.read(1, known=False)["gpus"][0]["our_bytes"] is None


_TORCH = """
import sys, types
properties = types.SimpleNamespace(uuid="4090", name="card", total_memory=24 * 2**30)
stats = {"allocated_bytes.all.current": 3000, "reserved_bytes.all.current": 4000, "reserved_bytes.all.peak": 6000}
torch = types.ModuleType("torch")
torch.version = types.SimpleNamespace(hip=HIP)
torch.cuda = types.SimpleNamespace(
    is_initialized=lambda: True, device_count=lambda: 1,
    get_device_properties=lambda index: properties, memory_stats=lambda index: stats,
)
sys.modules["torch"] = torch
"""


def with_torch(box: Box, folder: Path, hip: str | None = None) -> None:
    """Let the reading program have a torch that has used a card; a real one needs the card."""
    (folder / "sitecustomize.py").write_text(_TORCH.replace("HIP", repr(hip)))
    box.variables["PYTHONPATH"] = str(folder)


def test_a_container_that_hides_whose_memory_it_is_says_so(box: Box, tmp_path: Path) -> None:
    with_torch(box, tmp_path)
    box.has(a_4090(processes="4194999:5000"))
    sample = box.read(known=False)
    (gpu,) = sample["gpus"]
    assert gpu["our_bytes"] is None
    assert (gpu["torch_allocated_bytes"], gpu["torch_reserved_bytes"], gpu["torch_peak_bytes"]) == (3000, 4000, 6000)
    assert "container hides" in sample["notice"]
    box.has(a_4090(processes=f"{box.pid}:5000"))
    sample = box.read(1)
    assert (sample["gpus"][0]["our_bytes"], sample["notice"]) == (5000, None)


def test_torch_knows_its_number_best(box: Box, tmp_path: Path) -> None:
    with_torch(box, tmp_path)
    box.has(a_4090(0, "GPU-other", name="NVIDIA RTX A2000"), a_4090(1))
    gpus = box.read()["gpus"]
    assert [(gpu["uuid"], gpu["torch_index"], gpu["hidden"]) for gpu in gpus] == [
        ("GPU-other", None, True),
        ("GPU-4090", 0, False),
    ]


def test_cards_of_rocm_are_what_torch_tells(box: Box, tmp_path: Path) -> None:
    with_torch(box, tmp_path, "6.4")
    box.has(init="!9")
    sample = box.read()
    (gpu,) = sample["gpus"]
    assert (gpu["total_bytes"], gpu["torch_reserved_bytes"], gpu["torch_index"]) == (24 * GIB, 4000, 0)
    assert (gpu["used_bytes"], gpu["utilization"]) == (None, None)
    assert "ROCm" in sample["notice"]


def test_whose_share_it_is(tmp_path: Path) -> None:
    me, other = os.getpid(), os.getpid() + 1
    assert our_share([(me, 5), (other, 9)], True, None) == 5
    assert our_share([(other, 9)], True, None) == 0
    assert our_share([(me, None)], True, None) is None
    assert our_share(None, True, 7) is None
    assert our_share([(other, 9)], False, 7) is None
    assert our_share([(me, 5)], False, 7) is None  # less than torch alone holds
    assert our_share([(me, 9)], False, 7) == 9
    assert not driver_knows_us(tmp_path)
    assert not driver_knows_us(tmp_path / "absent")


# --- history and thread -----------------------------------------------------------------------------------------------


def a_sample(at: float, used: int | None = 1) -> Sample:
    gpu = GpuSample("GPU-1", "card", used_bytes=used, utilization=50)
    return Sample(at, (gpu,), HostSample(ram_total_bytes=10, ram_available_bytes=4), (), None, None, None)


def test_history_is_one_figure_a_second() -> None:
    rings = Rings()
    assert rings.gpu("GPU-1").used_bytes == (None,) * SECONDS
    for second in range(200):
        rings.add(a_sample(1000 + second + 0.1 * (second % 3), second))
    found = rings.gpu("GPU-1")
    assert found.used_bytes == tuple(range(80, 200))
    assert found.power_w == (None,) * SECONDS
    assert rings.gpu("GPU-2").utilization == (None,) * SECONDS
    assert rings.host().ram_used_bytes == (6,) * SECONDS


def test_a_pause_leaves_no_hole_in_history_but_a_halt_does() -> None:
    rings = Rings()
    for at in (0, 5, 10, 60, 61):
        rings.add(a_sample(at, at))
    last = rings.gpu("GPU-1").used_bytes[-62:]
    assert last[:12] == (0,) * 5 + (5,) * 5 + (10,) * 2
    assert last[17:60] == (None,) * 43
    assert last[60:] == (60, 61)


def test_unknown_stays_unknown_in_history() -> None:
    rings = Rings()
    rings.add(a_sample(0, 5))
    rings.add(replace(a_sample(1, None)))
    assert rings.gpu("GPU-1").used_bytes[-2:] == (5, None)


def test_the_thread_tells_every_sample_while_somebody_looks() -> None:
    told: list[Sample] = []
    three, threads = threading.Event(), set()

    def keep(sample: Sample) -> None:
        told.append(sample)
        threads.add(threading.current_thread().name)
        if len(told) == 3:
            three.set()

    sampler = Sampler(keep, period=0.01)
    assert sampler.latest is None
    sampler.start()
    assert three.wait(20)
    sampler.stop()
    sampler.join(20)
    assert threads == {"sampler"}
    assert sampler.latest in told
    assert [sample.time for sample in told] == sorted(sample.time for sample in told)
    assert told[0].host.cpu_percent is None
    assert sampler.host_history().ram_used_bytes[-1] == sampler.latest.host.ram_used_bytes  # type: ignore[union-attr]
    assert len(sampler.history("GPU-none").utilization) == SECONDS


def test_paused_it_samples_and_tells_nobody() -> None:
    told = threading.Event()
    sampler = Sampler(lambda _: told.set(), paused=True, period=0.01)
    sampler.start()
    while sampler.latest is None:
        assert not told.wait(0.01)
    assert not told.wait(0.1)
    sampler.resume()
    assert told.wait(4)  # at once, not when the five seconds are over
    sampler.pause()
    sampler.stop()
    sampler.join(20)


def test_torch_tells_our_share_once_it_uses_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that has used CUDA cannot be had without a card: this one has the names that are asked for."""
    import sys

    from engine.sampling.ours import torch_memory

    stats = {"allocated_bytes.all.current": 3, "reserved_bytes.all.current": 4, "reserved_bytes.all.peak": 5}
    cuda = SimpleNamespace(
        is_initialized=lambda: False,
        device_count=lambda: 1,
        get_device_properties=lambda index: SimpleNamespace(uuid="aa", name="card", total_memory=9),
        memory_stats=lambda index: stats,
    )
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert torch_memory() == ()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())  # one that another thread is importing  # type: ignore
    assert torch_memory() == ()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))  # type: ignore[arg-type]
    assert torch_memory() == ()
    cuda.is_initialized = lambda: True
    (device,) = torch_memory()
    assert (device.uuid, device.allocated_bytes, device.reserved_bytes, device.peak_bytes) == ("GPU-aa", 3, 4, 5)
