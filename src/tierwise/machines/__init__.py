"""What AI runs on: devices, the systems made of them, and the catalog that describes both.

>>> from tierwise import machines
>>> machines.system("8xh200-sxm").count
8
"""

from tierwise.machines.held import hold
from tierwise.machines.load import device, device_names, several, system, system_names
from tierwise.machines.types import Device, Dispatch, Engine, Link, Power, Price, System, Tier

__all__ = [
    "Device",
    "Dispatch",
    "Engine",
    "Link",
    "Power",
    "Price",
    "System",
    "Tier",
    "device",
    "device_names",
    "hold",
    "several",
    "system",
    "system_names",
]
