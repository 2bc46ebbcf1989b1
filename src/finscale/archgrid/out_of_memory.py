"""Tell an exception that means "no memory left" from every other; no torch."""

import errno

__all__ = ["is_out_of_memory"]

_TEXTS = (
    "out of memory",  # CUDA and MPS allocators
    "can't allocate memory",  # CPU allocator
    "cannot allocate memory",  # the operating system, in words of a library
    "not enough memory",  # CPU allocator on Windows and macOS
    "could not create a primitive",  # oneDNN, when its allocation fails
    "invalid buffer size",  # MPS, for a tensor larger than any buffer may be
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that the device or the host ran out of memory.

    Torch's own class is known by its name, so that a process without torch can ask; allocators that raise a
    plain ``RuntimeError`` are known by their words.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"))
    True
    >>> is_out_of_memory(ValueError("the user ran out of memory"))
    False
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    names = {parent.__name__ for parent in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"}:
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _TEXTS)
