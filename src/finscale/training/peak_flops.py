"""What accelerators can do at most, and the share of it that a training uses (MFU).

MFU = C r / (W P): C operations of one window, forward and backward (`finscale.models.counting.flops`; what is
computed a second time does not count), r windows/s, W processes, P peak of one device (Chowdhery et al. 2022,
appendix B).
"""

from typing import Final, NamedTuple

import torch

from finscale.models.counting import flops
from finscale.training.config import ExecutionConfig
from finscale.training.run_spec import RunSpec
from finscale.windows.data import WindowData

__all__ = ["peak_flops", "utilisation"]


class _Peak(NamedTuple):
    """Of one device, in 1e12 operations per second; None where it has no units for the type."""

    fp32: float
    tf32: float | None
    bf16: float | None
    fp16: float | None


_A100 = _Peak(19.5, 156.0, 312.0, 312.0)
_H100_SXM = _Peak(67.0, 494.5, 989.5, 989.5)
_H100_NVL = _Peak(60.0, 417.5, 835.5, 835.5)

_PEAKS: Final[dict[str, _Peak]] = {
    "A100-SXM4-40GB": _A100,
    "A100-SXM4-80GB": _A100,
    "A100-PCIE-40GB": _A100,
    "A100 80GB PCIe": _A100,
    "H100 80GB HBM3": _H100_SXM,
    "H100 PCIe": _Peak(51.0, 378.0, 756.5, 756.5),
    "H100 NVL": _H100_NVL,
    "H200": _H100_SXM,
    "H200 NVL": _H100_NVL,
    "L4": _Peak(30.3, 60.0, 121.0, 121.0),
    "L40S": _Peak(91.6, 183.0, 362.05, 362.05),
    "T4": _Peak(8.1, None, None, 65.0),
    "V100-SXM2-16GB": _Peak(15.7, None, None, 125.0),
    "V100-SXM2-32GB": _Peak(15.7, None, None, 125.0),
    "V100-PCIE-16GB": _Peak(14.0, None, None, 112.0),
    "V100-PCIE-32GB": _Peak(14.0, None, None, 112.0),
    "GeForce RTX 4090": _Peak(82.6, 82.6, 165.2, 165.2),
}
"""By the driver's name, less NVIDIA's own: a slice of a device (MIG) or a laptop's chip has another name.

Dense products accumulated in float32; where a data sheet tells of sparse ones only, half of them. Data sheets
of the A100 (2021), H100 (PCIe 2022; SXM, NVL 2024), H200 (2024), L4, L40S (2023), T4 (2019) and V100 (2020);
NVIDIA's white paper on the Ada architecture (2022) for the RTX 4090.
"""


def peak_flops(device_name: str, execution: ExecutionConfig) -> float | None:
    """Return the dense peak of a device in the precision executed, in operations per second.

    Parameters
    ----------
    device_name : str
        As the driver gives it.

    Returns
    -------
    float or None
        None where the device is not in the table, or has no units for the precision: nothing is guessed.

    Examples
    --------
    >>> peak_flops("NVIDIA H200", ExecutionConfig(precision="bf16"))
    989500000000000.0
    """
    peak = _PEAKS.get(device_name.removeprefix("NVIDIA ").removeprefix("Tesla "))
    if peak is None:
        return None
    if execution.precision == "fp32":
        found: float | None = peak.tf32 if execution.tf32 and peak.tf32 else peak.fp32
    else:
        found = peak.bf16 if execution.precision == "bf16" else peak.fp16
    return None if found is None else found * 1e12


def utilisation(
    spec: RunSpec,
    data: WindowData,
    *,
    samples_per_s: float,
    execution: ExecutionConfig,
    device: torch.device,
    n_processes: int,
) -> float | None:
    """Return the MFU of a training, a share of 1; None where the device's peak is not known.

    Parameters
    ----------
    samples_per_s : float
        Training windows per second, of all processes together.
    n_processes : int
        Each on a device like ``device``.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    peak = peak_flops(name, execution)
    if peak is None:
        return None
    sizes = {"n_features": data.n_features, "context_length": data.spec.context_length}
    return flops(spec.model, **sizes).training * samples_per_s / (n_processes * peak)
