"""One answer to "was that a lack of memory?", for a process with or without torch."""

import errno
import subprocess
import sys

import pytest
import torch

from finscale.archgrid.out_of_memory import is_out_of_memory

LACKS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "cuda-by-class": torch.OutOfMemoryError("HIP: no words for it"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
    "macos": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cudnn": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "library": RuntimeError("unable to mmap 4096 bytes: Cannot allocate memory (12)"),
    "mps-buffer": RuntimeError("Invalid buffer size: 74.51 GB"),
    "onednn": RuntimeError("could not create a primitive"),
    "python": MemoryError(),
    "fork": OSError(errno.ENOMEM, "Cannot allocate memory"),
}
OTHERS = {
    "shapes": RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    "value": ValueError("out of memory"),
    "disk": OSError(errno.ENOSPC, "No space left on device; not out of memory"),
    "file": FileNotFoundError(errno.ENOENT, "out of memory.txt"),
}


@pytest.mark.parametrize("error", LACKS.values(), ids=LACKS.keys())
def test_a_lack_of_memory_is_told_by_class_by_number_or_by_its_words(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", OTHERS.values(), ids=OTHERS.keys())
def test_what_only_sounds_like_it_is_something_else(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_the_allocators_own_refusal_is_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**17, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_asking_does_not_import_torch() -> None:
    asked = "import sys, finscale.archgrid.out_of_memory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
