"""Shapes too large for numpy become empty arrays in Triton's Python processes, instead of ending them.

Triton 24.10 multiplies a request's dimensions without looking for overflow: [1, 2**62] of INT32 counts as 0 bytes and is passed
on. The process that makes a numpy array of it doesn't expect numpy to refuse, and ends. It finds numpy's C functions in the
table that numpy publishes for that; here a copy with one function changed is published instead.
"""

import ctypes
import math

import numpy as np
from numpy.core import multiarray

_LENGTH = 307  # of numpy 1.26's table
_NEW_FROM_DESCR = 94  # PyArray_NewFromDescr(subtype, descr, nd, dims, strides, data, flags, obj)
_MOST = 2**48  # values in an array: more than any machine holds, and far from overflow
_Function = ctypes.PYFUNCTYPE(
    ctypes.py_object,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.POINTER(ctypes.c_ssize_t),
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_void_p,
)
_published = []  # what must live as long as the process


def replace_function():
    """Publish the table with a function that makes an empty array of what can't be."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    table = (ctypes.c_void_p * _LENGTH).from_address(get(multiarray._ARRAY_API, None))
    changed = (ctypes.c_void_p * _LENGTH)(*table)
    function = _checked(_Function(table[_NEW_FROM_DESCR]))
    changed[_NEW_FROM_DESCR] = ctypes.cast(function, ctypes.c_void_p).value
    _published.extend([changed, function])
    multiarray._ARRAY_API = new(ctypes.addressof(changed), None, None)


def _checked(original):
    @_Function
    def new_from_descr(subtype, descr, nd, dims, strides, data, flags, obj):
        shape = dims[:nd]
        if min(shape, default=0) < 0 or math.prod(size or 1 for size in shape) > _MOST:
            dims = (ctypes.c_ssize_t * nd)()  # zeros
        try:
            return original(subtype, descr, nd, dims, strides, data, flags, obj)
        except Exception:  # one raised here would be lost, and with it the process
            return np.empty((0,) * nd)

    return new_from_descr
