"""A device of its own, emulated on the CPU, for machines without a GPU.

Its tensors have the values that the CPU computes, and mix with tensors of the CPU no more than
those of a GPU do: an operation on both raises. So does a draw by a generator of the CPU. Readings,
for which a program waits for its device, are counted. It stands on torch's interface for backends
written in Python, which is experimental; where torch has none, the tests that need it are skipped.
"""

import contextlib

import pytest
import torch
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

NAME = "emulated"
_CPU = torch.device("cpu")
# an operand of the CPU is no mistake here: copies, and indices (which torch moves by itself)
_MAY_MIX = {"copy_", "_to_copy", "index", "index_put_", "_index_put_impl_"}
_IN_LOW_PRECISION = "linear", "mm", "matmul", "bmm", "addmm", "conv2d", "conv_transpose2d.input"
_LIBRARIES = []  # registrations last as long as their library
_CpuGenerator = torch.Generator
_GENERATORS = {}  # those of the device, by their address: torch gives them new Python objects


class EmulatedTensor(torch.Tensor):
    """A tensor of the emulated device, around the one of the CPU that it stands for.

    Parameters
    ----------
    values_on_cpu : Tensor
        A tensor of the CPU.
    """

    n_readings = 0  # of all tensors: what a GPU would be waited for

    @staticmethod
    def __new__(cls, values_on_cpu):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            values_on_cpu.size(),
            strides=values_on_cpu.stride(),
            storage_offset=values_on_cpu.storage_offset(),
            dtype=values_on_cpu.dtype,
            device=torch.device(NAME, 0),
        )
        tensor.values_on_cpu = values_on_cpu
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})

    def __repr__(self):
        return f"EmulatedTensor({self.values_on_cpu!r})"

    def tolist(self):
        """As that of any tensor."""
        EmulatedTensor.n_readings += 1
        return self.values_on_cpu.tolist()

    def numpy(self, **kwargs):
        """As that of a GPU's tensor: not to be had."""
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy")


class _Generator(_CpuGenerator):
    """A generator that is noted, if it is one of the device."""

    def __new__(cls, device="cpu"):
        generator = super().__new__(cls)
        if torch.device(device).type == NAME:
            _GENERATORS[generator._cdata] = generator
        return generator

    def __init__(self, device="cpu"):
        pass


class _Backend:
    """What torch asks of a backend: there is one device, which needs no start."""

    def __getattr__(self, name):
        answers = {"device_count": 1, "current_device": 0, "_is_in_bad_fork": False}
        answers |= {"is_available": True, "is_initialized": True, "manual_seed_all": None}
        answers["get_amp_supported_dtype"] = [torch.bfloat16, torch.float16]
        if name not in answers:
            raise AttributeError(name)
        return lambda *args: answers[name]


def register():
    """Tell torch of the device, before the first backward pass of the process: then it counts them.

    Nothing is done where this version of torch has no backends in Python, or there is a real GPU:
    torch has one accelerator.
    """
    setup = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
    if setup is not None and not torch.cuda.is_available() and not _LIBRARIES:
        setup(NAME, _Backend())
        _LIBRARIES.extend(_make_libraries())


@contextlib.contextmanager
def emulated_device():
    """Give the device; generators of it can be made inside the block."""
    if not _LIBRARIES:
        pytest.skip("needs a torch with backends in Python, and no GPU beside it")
    torch.Generator = _Generator
    is_overwritten = torch.__future__.get_overwrite_module_params_on_conversion()
    # not put into the old tensor's place, behind which the values of the emulation would stay
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        yield torch.device(NAME)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(is_overwritten)
        torch.Generator = _CpuGenerator
        _GENERATORS.clear()


def _make_libraries():
    """Register what makes tensors on the device, and what autocast does there."""
    library = torch.library.Library("aten", "IMPL")
    for name in torch._C._dispatch_get_all_op_names():
        function = _find(name.removeprefix("aten::")) if name.startswith("aten::") else None
        if function is not None and _makes_a_tensor(function):
            library.impl(name.removeprefix("aten::"), _make_kernel(function), "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    for name in _IN_LOW_PRECISION:
        library.impl(name, _make_autocast_kernel(_find(name)), "AutocastPrivateUse1")
    others = torch.library.Library("_", "IMPL")
    others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    return [library, others]


def _find(name):
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)


def _makes_a_tensor(function):
    """Whether a function makes a tensor of no other, and is not put together of such functions."""
    arguments = function._schema.arguments
    has_tensors = any("Tensor" in str(argument.type) for argument in arguments)
    is_composite = function.has_kernel_for_dispatch_key(
        torch._C.DispatchKey.CompositeImplicitAutograd
    )
    return any(a.name == "device" for a in arguments) and not (has_tensors or is_composite)


def _make_kernel(function):
    """Return what makes a tensor on the device, from nothing but numbers."""

    def kernel(*args, **kwargs):
        _check_generators(function, (args, kwargs))
        return EmulatedTensor(function(*args, **_on_cpu(kwargs)))

    return kernel


def _make_autocast_kernel(function):
    """Return what computes in the precision of the surrounding autocast."""

    def kernel(*args, **kwargs):
        keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
        with torch._C._ExcludeDispatchKeyGuard(keys):
            args, kwargs = tree_map(_lowered, (args, kwargs))
            return function(*args, **kwargs)

    return kernel


def _lowered(x):
    is_cast = isinstance(x, torch.Tensor) and x.dtype == torch.float32
    return x.to(torch.get_autocast_dtype(NAME)) if is_cast else x


def _copy_from(source, target, non_blocking=False):
    _values_of(target).copy_(_values_of(source))
    return target


def _run(function, args, kwargs):
    """Do on the CPU what is asked of the device."""
    name, leaves = function._schema.name.removeprefix("aten::"), tree_leaves((args, kwargs))
    others = [x for x in leaves if isinstance(x, torch.Tensor) and not _is_ours(x)]
    if name not in _MAY_MIX and any(x.dim() or x is args[0] for x in others):
        raise RuntimeError(f"Expected all tensors to be on the same device, in {function}.")
    _check_generators(function, leaves)
    to_cpu = torch.device(kwargs.get("device") or NAME) == _CPU
    to_cpu |= name == "copy_" and not _is_ours(args[0])
    EmulatedTensor.n_readings += to_cpu or name in ("_local_scalar_dense", "equal", "nonzero")
    on_cpu = tree_map(_values_of, (args, _on_cpu(kwargs)))
    result = function(*on_cpu[0], **on_cpu[1])
    if to_cpu:
        return args[0] if name == "copy_" else result
    given = {id(x.values_on_cpu): x for x in leaves if _is_ours(x)}  # written to in place
    return tree_map(lambda x: given[id(x)] if id(x) in given else _wrap(x), result)


def _wrap(x):
    return EmulatedTensor(x) if isinstance(x, torch.Tensor) else x


def _is_ours(x):
    return isinstance(x, EmulatedTensor)


def _values_of(x):
    return x.values_on_cpu if _is_ours(x) else x


def _on_cpu(kwargs):
    moved = {"device": _CPU, "pin_memory": False}
    return {**kwargs, **{name: moved[name] for name in moved if kwargs.get(name) is not None}}


def _check_generators(function, values):
    for x in tree_leaves(values):
        if isinstance(x, _CpuGenerator) and x._cdata not in _GENERATORS:
            raise RuntimeError(f"Expected a generator of the device {NAME!r}, in {function}.")
