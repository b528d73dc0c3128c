"""What the answer says of money: a rent with its date, or that none is known of what is for rent."""

from __future__ import annotations

import json

import pytest

from tierwise.cli import main


@pytest.mark.parametrize(
    ("machine", "said"),
    [("gcp-a4-highgpu-8g", "not known"), ("azure:nd96isr-h200-v5", "$10.60 a device and hour"),
     ("azure:nd96isr-mi300x-v5", "$6.00 a device and hour"), ("raspberry-pi-5", ""),
     ("h100-sxm", "a device and hour"), ("gcp-a4-highgpu-8g:rent=80/h", "$10.00 a device and hour")],
)  # fmt: skip
def test_an_instance_without_a_rent_says_so(capsys: pytest.CaptureFixture[str], machine: str, said: str) -> None:
    for form in ((), ("--json", "-")):
        with pytest.raises(SystemExit):
            main(["explain", "llama-3.2-1b", "--on", machine, "--prompt", "64", "--output", "4", *form])
        out = capsys.readouterr().out
        if form:
            assert (json.loads(out)["scenario"]["machine"]["no_price"] is not None) == (said == "not known")
        else:
            rent = [line for line in out.splitlines() if line.strip().startswith("Rent")]
            assert [said in line for line in rent] == ([True] if said else [])
            assert ("--rent" in out) == (said == "not known")
