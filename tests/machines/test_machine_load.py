"""From a name to a machine, and what is said when there is none."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.cli import main
from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.machines import device, device_names, system
from tierwise.machines.graph import graph
from tierwise.machines.load import MAX_COUNT

BOARD = """
title: A board of mine
vendor: me
kind: npu
family: mine
released: 2025-01
tiers:
  - {name: sram, kind: scratchpad, capacity: 8MB, bandwidth: 1TB/s, latency: 20ns, source: "my own notes"}
  - {name: dram, kind: memory, capacity: 16GB, bandwidth: 100GB/s, latency: 120ns, source: "my own notes"}
engines:
  - name: array
    kind: matrix
    units: 1
    tiles: [[128, 128]]
    rates: {int8: 20TOPS}
    source: "128 by 128 at 0.6 GHz"
power: {rated: 15W, idle: 2W, source: "estimate: a desk supply"}
dispatch: {eager: 10us, graph: 1us, source: "estimate: one register write"}
"""


def write(folder: Path, text: str, name: str = "board.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("h100-sxm", "h100-sxm"),
        ("H100_SXM", "h100-sxm"),
        ("h100", "h100-sxm"),
        ("h200-sxm", "h200-sxm"),
        ("h800", "h800-sxm"),
        ("a100-80gb", "a100-sxm-80gb"),
        ("a100_sxm", "a100-sxm-80gb"),
        ("l40s", "l40s"),
        ("b200_sxm", "b200-sxm"),
        ("xeon-8480", "xeon-8480"),
        ("Xeon 8480+", "xeon-8480"),
        ("rtx4090", "rtx-4090"),
        ("RTX 4090", "rtx-4090"),
        ("m3-max", "apple-m3-max"),
    ],
)
def test_a_device_answers_to_what_people_write(text: str, found: str) -> None:
    assert device(text).name == found
    assert system(text).device.name == found


@given(
    count=st.integers(1, 100_000),
    name=st.sampled_from(device_names()),
    cross=st.sampled_from(["x", "X", "×", "*", " x ", " X", "x "]),
    upper=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_any_count_of_any_device(count: int, name: str, cross: str, upper: bool) -> None:
    s = system(f" {count}{cross}{name.upper() if upper else name} ")
    assert (s.count, s.device.name) == (count, name)
    assert s.name == (f"{count}x{name}" if count > 1 else name)
    assert (s.nodes - 1) * s.per_node < s.count <= s.nodes * s.per_node
    assert (s.scale_up is None and s.scale_out is None) if count == 1 else True


def test_two_nodes_of_eight() -> None:
    s = system("16xh800")
    assert (s.count, s.per_node, s.nodes) == (16, 8, 2)
    assert s.scale_up is not None and s.scale_up.bandwidth == 200e9
    assert s.scale_out is not None and s.scale_out.bandwidth == 50e9
    assert s.overhead_power > 0


def test_a_catalog_system_and_several_of_it() -> None:
    one, two, rack = system("dgx-h100"), system("2xdgx-h100"), system("gb200-nvl72")
    assert (one.name, one.count, one.nodes) == ("dgx-h100", 8, 1)
    assert (two.name, two.count, two.nodes) == ("2xdgx-h100", 16, 2)
    assert two.scale_out is not None
    assert rack.per_node == 72 and rack.scale_up is not None and rack.scale_up.domain == 72


def test_a_bridge_joins_a_pair_and_the_host_joins_more() -> None:
    pair, eight = system("2xrtx-a6000").scale_up, system("8xrtx-a6000").scale_up
    assert pair is not None and pair.name == "nvlink3-bridge"
    assert eight is not None and (eight.name, eight.kind, eight.domain) == ("pcie4", "scale-up", 8)


# ---------------------------------------------------------------- a user's own file


def test_a_users_file_works_wherever_a_name_does(tmp_path: Path) -> None:
    path = write(tmp_path, BOARD)
    assert device(path).memory.capacity == 16e9
    assert device(path).price.rent != device(path).price.rent  # not stated: nan
    assert system(path).name == "board"
    assert system(f"4 x {path}").count == 4


def test_a_users_system_names_or_embeds_a_device(tmp_path: Path) -> None:
    write(tmp_path, BOARD)
    by_path = "title: Rack\ndevice: board.yaml\ncount: 4\nper_node: 2\nsource: two boxes of two\n"
    by_name = by_path.replace("board.yaml", "h200-sxm")
    embedded = "title: Rack\ncount: 4\nsource: two boxes\ndevice:" + BOARD.replace("\n", "\n  ")
    assert system(write(tmp_path, by_path, "rack.yaml")).device.title == "A board of mine"
    assert system(write(tmp_path, by_name, "rack2.yaml")).nodes == 2
    assert system("3x" + write(tmp_path, embedded, "rack3.yaml")).count == 12


def test_like_changes_what_it_says_and_nothing_else(tmp_path: Path) -> None:
    text = """
like: h100-sxm
title: H100 with a faster memory
released: 2030-01
without: [pcie5]
tiers:
  - {name: hbm, bandwidth: 6TB/s, source: "estimate: a what-if"}
"""
    d, h100 = device(write(tmp_path, text)), device("h100-sxm")
    assert d.memory.bandwidth == 6e12 and d.memory.capacity == h100.memory.capacity
    assert d.engines == h100.engines and d.tiers[:2] == h100.tiers[:2]
    assert d.link("host") is None and d.link("scale-up") == h100.link("scale-up")
    assert d.price.list_price != d.price.list_price  # a price is a device's own


def test_a_changed_number_needs_its_own_source(tmp_path: Path) -> None:
    text = "like: h100-sxm\ntitle: x\nreleased: 2030-01\ntiers: [{name: hbm, bandwidth: 9TB/s}]\n"
    with pytest.raises(BadField, match=r"tiers\[2\]\.source"):
        device(write(tmp_path, text))


# ---------------------------------------------------------------- errors are answers


def test_an_unknown_name_brings_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean") as error:
        system("8xh10O-sxm")
    assert "h100-sxm" in error.value.nearest
    with pytest.raises(UnknownName, match="adding-a-machine"):
        device("zzzz")


@pytest.mark.parametrize("text", ["", "  ", "0xh100-sxm", "00000xh100", f"{MAX_COUNT + 1}xh100", "9" * 6000 + "xt4"])
def test_impossible_counts(text: str) -> None:
    with pytest.raises(BadField, match="allowed"):
        system(text)


@pytest.mark.parametrize(
    "text", ["../../etc/passwd", "/dev/zero", "x" * 5000, "h100\x00", "nonexistent.yaml", "8x", "*"]
)
def test_strange_names_are_plain_errors(text: str) -> None:
    with pytest.raises(TierwiseError):
        system(text)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("bandwidth: 100GB/s", "bandwith: 100GB/s", r"tiers\[1\]\.bandwith.*did you mean 'bandwidth'"),
        ("vendor: me", "vender: me", "did you mean 'vendor'"),
        ("vendor: me\n", "", r"vendor: found 'nothing'; allowed: a value \(this field is required"),
        ("capacity: 16GB", "capacity: 16 parsecs", r"tiers\[1\]\.capacity: found '16 parsecs'.*80GB"),
        ("capacity: 16GB", "capacity: -16GB", r"tiers\[1\]\.capacity.*zero or more"),
        ("capacity: 16GB", "capacity: 0GB", r"tiers\[1\]\.capacity.*above zero"),
        ("capacity: 16GB", "capacity: .nan", r"tiers\[1\]\.capacity.*finite"),
        ("capacity: 16GB", "capacity: true", r"tiers\[1\]\.capacity.*80GB"),
        ("capacity: 16GB", "capacity: [1]", r"tiers\[1\]\.capacity.*80GB"),
        ("kind: npu", "kind: gqu", "kind: found 'gqu'.*did you mean 'gpu'"),
        ("kind: memory", "kind: cache", "at least one tier of kind memory"),
        ("int8: 20TOPS", "int9: 20TOPS", r"engines\[0\]\.rates\.int9.*int8"),
        ("int8: 20TOPS", "", r"engines\[0\]\.rates"),
        ("units: 1", "units: 0", r"engines\[0\]\.units"),
        ("[[128, 128]]", "[[128, 0]]", r"engines\[0\]\.tiles\[0\]\[1\]"),
        ("idle: 2W", "idle: 20W", "power.*idle at most rated"),
        ("released: 2025-01", "released: someday", "released.*a date such as"),
        ("name: sram", "name: dram", r"tiers\[1\]\.name.*no other"),
        ('source: "128 by 128 at 0.6 GHz"', "source: datasheat", r"engines\[0\]\.source: found 'datasheat'"),
        ('source: "128 by 128 at 0.6 GHz"', 'source: ""', r"engines\[0\]\.source"),
        ("dispatch:", "price: {rent: $3, date: 2025-01, source: a b}\ndispatch:", r"price\.rent.*\$2\.99/h"),
        ("dispatch:", "7: 8\ndispatch:", "7"),
    ],
)
def test_a_bad_field_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in BOARD
    path = write(tmp_path, BOARD.replace(old, new, 1))
    with pytest.raises(BadField, match=says) as error:
        device(path)
    assert "board.yaml" in str(error.value) and "allowed:" in str(error.value)


def test_kernels_need_a_dispatch_time(tmp_path: Path) -> None:
    with pytest.raises(BadField, match="dispatch"):
        device(write(tmp_path, BOARD[: BOARD.index("dispatch")]))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOARD[:150].rstrip() + " {", "line"),
        ("a: [1, 2", r"board\.yaml, line \d+: not valid YAML"),
        (BOMB, "alias"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested deeper"),
        ("a: " + "{a: " * 200 + "1" + "}" * 200, "nested deeper"),
        ("x" * 1_100_000, "larger than"),
        ("[1, 2]", "found list"),
        ("", "found NoneType"),
        ("a: !!python/object/apply:os.system [echo]", "not valid YAML"),
        ("a: 1\na: 2", "given twice"),
        ("released: 2022-13-45", "not valid YAML"),
        ("a: \x07", "not valid YAML"),
        ("n: " + "9" * 6000, "not valid YAML|allowed"),
        ("---\na: 1\n---\nb: 2", "not valid YAML"),
    ],
)
def test_hostile_files_are_refused_quickly(tmp_path: Path, text: str, says: str) -> None:
    start = time.monotonic()
    with pytest.raises(TierwiseError, match=says):
        system(write(tmp_path, text))
    assert time.monotonic() - start < 2


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "board.yaml"
    path.write_bytes(b"title: \xff\xfe\x00")
    with pytest.raises(TierwiseError, match="UTF-8"):
        device(str(path))


@given(cut=st.integers(0, len(BOARD) - 1), junk=st.text(max_size=12))
@settings(max_examples=120, deadline=None)
def test_any_mangled_file_is_a_device_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "mangled.yaml"
    path.write_text(BOARD[:cut] + junk + BOARD[cut + len(junk) :], encoding="utf-8", errors="replace")
    try:
        assert device(str(path)).memory.capacity > 0
    except TierwiseError as error:
        assert "mangled.yaml" in str(error)


def test_like_of_a_like_goes_as_deep_as_it_is_written(tmp_path: Path) -> None:
    write(tmp_path, "like: h200-sxm\ntitle: one\nreleased: 2030-01\nwithout: [nvlink4]\n", "one.yaml")
    two = "like: one.yaml\ntitle: two\nreleased: 2030-02\npower: {rated: 600W, idle: 70W, source: a cap of mine}\n"
    write(tmp_path, two, "two.yaml")
    d = device(write(tmp_path, "like: two.yaml\ntitle: three\nreleased: 2030-03\n", "three.yaml"))
    h200 = device("h200-sxm")
    assert (d.memory, d.engines, d.power.rated, d.title) == (h200.memory, h200.engines, 600.0, "three")
    assert d.link("scale-up") is None and h200.link("scale-up") is not None
    with pytest.raises(UnknownName, match="h100"):
        device(write(tmp_path, "like: h1000-sxm\ntitle: x\nreleased: 2030-01\n"))


def test_a_circle_of_likes_is_refused_by_name(tmp_path: Path) -> None:
    for name, like in (("a", "b"), ("b", "c"), ("c", "a")):
        path = write(tmp_path, f"like: {like}.yaml\ntitle: x\nreleased: 2030-01\n", f"{name}.yaml")
    with pytest.raises(BadField, match=r"c\.yaml like a\.yaml like b\.yaml like c\.yaml"):
        device(path)
    with pytest.raises(BadField, match=r"board\.yaml like board\.yaml"):
        device(write(tmp_path, "like: board.yaml\ntitle: x\nreleased: 2030-01\n"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("b300_sxm", "b300-sxm"),
        ("gb200_sxm", "gb200"),
        ("rtx_pro_6000_server", "rtx-pro-6000-server"),
        ("b60", "arc-b60"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("NVIDIA B300 SXM6 AC", "b300-sxm"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-server"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("Tesla V100-SXM2-32GB", "v100-sxm-32gb"),
        ("V100-PCIE-16GB", "v100-pcie-16gb"),
        ("Tesla V100-PCIE-16GB", "v100-pcie-16gb"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("Quadro RTX 6000", "quadro-rtx-6000"),
        ("Intel Data Center GPU Max 1550", "max-1550"),
        ("AMD Instinct MI300X", "mi300x"),
        ("Intel(R) Arc(TM) Pro B60 Graphics", "arc-b60"),
        ("NVIDIA GH200 480GB", "gh200"),
    ],
)
def test_a_device_answers_to_what_drivers_and_recordings_call_it(text: str, found: str) -> None:
    assert device(text).name == found
    assert system(f"2x{text}").device.name == found
    assert " " not in system(text).name


@pytest.mark.parametrize(
    "text",
    # The drivers of every Jetson Orin say "Orin".
    ["NVIDIA", "sxm", "Orin", "NVIDIA 80GB HBM3", "h100-120gb", "b200-pcie", "NVIDIA Tesla"],
)
def test_a_name_that_could_mean_another_device_is_no_name(text: str) -> None:
    with pytest.raises(UnknownName):
        system(text)


# ---------------------------------------------------------------- all that is wrong, at once


def test_everything_that_is_missing_or_wrong_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
title: A bad board
kind: npu
family: mine
released: someday
tiers:
  - {name: sram, kind: scratchpad, bandwith: 1TB/s, latency: 20ns, source: notes of mine}
engines:
  - {name: array, kind: matrix, rates: {int9: 20TOPS}, source: notes of mine}
"""
    path = write(tmp_path, text)
    told = ("vendor", "released", "tiers[0].capacity", "tiers[0].bandwith", "engines[0].units", "engines[0].rates",
            "tiers:", "dispatch")  # fmt: skip
    with pytest.raises(BadField) as error:
        device(path)
    lines = str(error.value).splitlines()
    assert lines[0].endswith(f"{len(told)} fields are wrong or missing:")
    assert len(lines) == 1 + len(told)
    assert all(any(line.strip().startswith(field) for line in lines[1:]) for field in told), lines
    with pytest.raises(SystemExit) as done:
        main(["machines", path])
    assert done.value.code == 2 and "dispatch" in capsys.readouterr().err


def test_what_cannot_be_built_is_told_at_once_too(tmp_path: Path) -> None:
    text = BOARD.replace("bandwidth: 1TB/s", "bandwidth: 50GB/s").replace(
        '"my own notes"}\n  - {name: dram', "notes}\n  - {name: dram"
    )
    with pytest.raises(BadField, match=r"(?s)2 fields.*tiers\[1\]\.bandwidth.*nearer sram.*tiers\[0\]\.source"):
        device(write(tmp_path, text))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("kind: memory,", "kind: memory, to: [sram2],", r"tiers\[1\]\.to: found 'sram2'.*array, sram"),
        ("kind: scratchpad,", "kind: scratchpad, to: [dram],", r"tiers\[0\]\.to.*a way to an engine \(array\)"),
        ("capacity: 16GB, bandwidth: 100GB/s", "capacity: 16GB, bandwidth: 2TB/s", "at most that of the nearer sram"),
    ],
)
def test_tiers_must_lead_to_an_engine_and_slow_down_outward(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(BadField, match=says):
        device(write(tmp_path, BOARD.replace(old, new)))


def test_two_scratchpads_side_by_side_feed_one_array(tmp_path: Path) -> None:
    more = """
  - {name: wmem, kind: scratchpad, to: [array], capacity: 1MB, bandwidth: 3TB/s, latency: 9ns, source: "my own notes"}
"""
    text = (
        BOARD.replace("tiers:\n", "tiers:" + more)
        .replace("kind: scratchpad, capacity: 8MB", "kind: scratchpad, to: [array], capacity: 8MB")
        .replace("kind: memory,", "kind: memory, to: [wmem, sram],")
    )
    g = graph(system(write(tmp_path, text)))
    assert {e.of for e in g.edges if e.to == "array"} == {"wmem", "sram"}
    assert {e.to for e in g.edges if e.of == "dram"} == {"wmem", "sram"}


# ---------------------------------------------------------------- costs nothing until used


def test_importing_machines_reads_nothing() -> None:
    code = (
        "import sys, tierwise.machines as m; m.device_names(); "
        "assert not {'pydantic', 'yaml', 'numpy'} & set(sys.modules), 'eager import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_page_on_adding_a_machine_is_true(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "adding-a-machine.md"
    blocks = [b.split("```")[0] for b in page.read_text().split("```yaml\n")[1:]]
    devices = [b for b in blocks if b.startswith("title") and "tiers:" in b]
    whatifs = [b for b in blocks if b.startswith("like:")]
    systems = [b for b in blocks if "count:" in b]
    assert devices and whatifs and systems
    for text in devices:
        write(tmp_path, text, "my-board.yaml")
        made = device(str(tmp_path / "my-board.yaml"))
        assert made.kind in ("npu", "pim") and graph(system(str(tmp_path / "my-board.yaml"))).computes()
    write(tmp_path, devices[0], "my-board.yaml")
    for text in whatifs:
        assert device(write(tmp_path, text, "what-if.yaml")).memory.bandwidth > 0
    for text in systems:
        made_of = system(write(tmp_path, text, "my-rack.yaml"))
        assert made_of.rented == made_of.count if "price:" in text else made_of.nodes == 2
