"""A machine held back acts through its price: what it holds back slows what needs it, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

import tierwise as tw
from tierwise.core.errors import TierwiseError
from tierwise.machines.held import joined, split

MODEL = "llama-3.1-8b"


def run(machine: str, prompt: float = 2048.0, batch: float = 8.0) -> tw.Result:
    return tw.evaluate(tw.Scenario(MODEL, machine, tw.Batch(prompt, 64.0, batch)))


def test_a_lower_clock_slows_arithmetic_and_hardly_what_waits_for_memory() -> None:
    plain, slow = run("h100-sxm"), run("h100-sxm:clock=0.5")
    assert plain.phase("prefill").bound_by == "compute" and plain.phase("decode").bound_by == "hbm"
    assert 1.7 < slow.ttft / plain.ttft <= 2.0
    assert 1.0 <= slow.tpot / plain.tpot < 1.15
    # Where nothing was fitted that mixes the two, decode does not move at all.
    assert run("mi300x:clock=0.5").tpot == pytest.approx(run("mi300x").tpot)


def test_a_power_cap_slows_what_draws_most_and_is_kept() -> None:
    plain, capped = run("h100-sxm"), run("h100-sxm:power_cap=300W")
    around = capped.energy_parts["system"]
    assert capped.ttft / plain.ttft > capped.tpot / plain.tpot > 1.0
    assert (capped.energy - around) / capped.time <= 300.0 * (1 + 1e-9)
    assert run("h100-sxm:power_cap=700W").time == run("h100-sxm:power_cap=900W").time == pytest.approx(plain.time)


def test_a_share_of_the_links_slows_what_devices_say_to_each_other() -> None:
    plain, shared = run("4xh100-sxm"), run("4xh100-sxm:link_share=0.25")
    assert shared.phase("prefill").bounds["link"] > 3.0 * plain.phase("prefill").bounds["link"]
    assert shared.time > plain.time
    assert run("h100-sxm:link_share=0.25").time == run("h100-sxm").time


def test_settings_stay_with_the_name() -> None:
    found = tw.load_system("8xh100-sxm:clock=0.9,link_share=0.5")
    assert found.name == "8xh100-sxm:clock=0.9,link_share=0.5" and found.count == 8
    assert split(found.name)[0] == "8xh100-sxm"
    assert joined(found.name, {"clock": 0.8}) == "8xh100-sxm:clock=0.8,link_share=0.5"
    assert joined("h100-sxm", {"power_cap": 500.0}) == "h100-sxm:power_cap=500"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("h100-sxm:clock=1.1", "at most 1"),
        ("h100-sxm:clock=0", "above 0"),
        ("h100-sxm:power_cap=10W", "draws idle"),
        ("h100-sxm:clok=0.9", "did you mean 'clock'"),
        ("h100-sxm:clock=fast", "clock"),
    ],
)
def test_what_cannot_be_is_refused(text: str, told: str) -> None:
    with pytest.raises(TierwiseError, match=told):
        tw.load_system(text)


@pytest.mark.parametrize("flags", [("--clock", "0.5"), ("--power-cap", "300W"), ("--link-share", "0.5")])
def test_every_command_that_names_a_machine_takes_them(
    flags: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from tierwise.cli import main

    saved = tmp_path / "s.yaml"
    with pytest.raises(SystemExit) as done:
        main(["explain", MODEL, "--on", "2xh100-sxm", *flags, "--ops", "0", "--save", str(saved)])
    assert not done.value.code
    name = f"2xh100-sxm:{flags[0][2:].replace('-', '_')}="
    assert tw.Scenario.load(str(saved)).machine.startswith(name)  # type: ignore[union-attr]
    for command in (["explain", str(saved)], ["compare", str(saved), f"… {' '.join(flags)}"]):
        with pytest.raises(SystemExit) as done:
            main(command)
        assert not done.value.code, capsys.readouterr().err
    told = " ".join(capsys.readouterr().out.split())
    assert any(words in told for words in ("(clock at 0.5)", "(capped at 300 W)", "(links at 0.5)"))


def test_advice_is_of_the_machine_as_it_is_held() -> None:
    """More of a card that is held back are held back too, also where the catalog joins them."""
    from tierwise.machines.load import several

    found = several(tw.load_system("rtx-4090:clock=0.5"), 2)
    assert found.count == 2 and found.name == "2xrtx-4090:clock=0.5"
    assert found.device.clock == pytest.approx(0.5 * tw.load_system("rtx-4090").device.clock)


def test_a_machines_file_takes_settings_and_its_own_engines(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("title: Mine\ndevice: h100-sxm\ncount: 2\nsource: two cards on a desk\n")
    found = tw.load_system(f"{file}:link_share=0.5")
    assert found.scale_up is not None
    assert found.scale_up.bandwidth == pytest.approx(0.5 * tw.load_system(str(file)).scale_up.bandwidth)  # type: ignore[union-attr]


def test_a_rent_of_ones_own_is_of_a_device_or_of_a_whole_instance() -> None:
    assert tw.load_system("8xh100-sxm:rent=2.5/h").rent(8) * 3600 == pytest.approx(20.0)
    # A cloud's instance type of eight devices is paid whole.
    instance = tw.load_system("azure:nd96isr-h200-v5:rent=84/h")
    assert instance.rent(1) * 3600 == instance.rent(8) * 3600 == pytest.approx(84.0)
    assert run("h100-sxm:rent=9/h").time == run("h100-sxm").time
    for wrong in ("98", "cheap", "-1/h"):
        with pytest.raises(TierwiseError, match="rent"):
            tw.load_system(f"h100-sxm:rent={wrong}")
