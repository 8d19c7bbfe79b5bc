"""Files of weights: reading them, and refusing those of another network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# The files whose weights fit, by embedding.
_FILES = {
    "clap": "CLAP_weights_2022.pth or CLAP_weights_2023.pth of microsoft/msclap on Hugging Face",
    "panns": "Wavegram_Logmel_Cnn14_mAP=0.439.pth of PANNs on Zenodo (record 3987831)",
}
# Checkpoints hold arrays and numbers of NumPy besides tensors; these are what makes them, by the names of NumPy 1
# and 2. Reading them runs no code of the file.
_ARRAYS: list[Any] = [
    *(
        (make.__reduce__()[0], f"numpy.{core}.multiarray.{name}")
        for make, name in ((np.empty(0), "_reconstruct"), (np.float64(0.0), "scalar"))
        for core in ("core", "_core")
    ),
    (np.ndarray, "numpy.ndarray"),
    (np.dtype, "numpy.dtype"),
    *(type(np.dtype(kind)) for kind in ("int32", "int64", "float32", "float64", "bool")),
]
# Counters of batch norms, which older files lack; they have no part in the output.
_COUNTER = "num_batches_tracked"


def file_of_weights(name: str, path: Path | None) -> Path:
    """Return the file of an embedding's weights.

    Raises:
        ValueError: there is none.
    """
    if path is None or not path.is_file():
        given = "no file given" if path is None else f"{path} is no file"
        raise ValueError(
            f"Invalid weights of {name}: {given}; expected {_FILES[name]}; download it and "
            f"pass --{name}-weights FILE"
        )
    return path


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, by name, from its entry "model" if it has one, or the first of a tuple.

    Raises:
        ValueError: the file is no checkpoint, or holds what may run code.
    """
    try:
        with torch.serialization.safe_globals(_ARRAYS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes the unpickler do
        lines = str(error).splitlines() or [type(error).__name__]
        reason = next((line for line in lines if "Unsupported" in line), lines[0]).strip().split(". ")[0]
        raise ValueError(
            f"Invalid weights: {path} cannot be read ({reason}); expected a checkpoint of torch; download it again"
        ) from error
    if isinstance(content, tuple) and content:
        content = content[0]
    state = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"Invalid weights: {path} holds no tensors by name; expected the checkpoint of a network")
    return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}


def load_frozen(network: nn.Module, state: Mapping[str, Tensor], path: Path, what: str) -> nn.Module:
    """Give a network its weights and freeze it, in evaluation mode.

    Raises:
        ValueError: names or shapes of the weights are those of another network, or numbers are not finite.
    """
    own = {name: value.shape for name, value in network.state_dict().items() if not name.endswith(_COUNTER)}
    given = {name: value.shape for name, value in state.items() if not name.endswith(_COUNTER)}
    missing, unknown = len(own.keys() - given.keys()), len(given.keys() - own.keys())
    unlike = sum(own[name] != given[name] for name in own.keys() & given.keys())
    if missing or unknown or unlike:
        raise ValueError(
            f"Invalid weights: {path} is of another architecture; expected {len(own)} tensors of {what}, "
            f"of which {missing} are missing and {unlike} have another shape, and no others, of which there are "
            f"{unknown}"
        )
    if not all(value.isfinite().all() for value in state.values()):
        raise ValueError(f"Invalid weights: {path} has numbers that are not finite; expected those of {what}")
    network.load_state_dict(state, strict=False)
    return network.requires_grad_(False).eval()
