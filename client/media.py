"""What pipelines hand over and get back: PyAV frames, numpy arrays, Frames, or anything else.

A frame library's objects go out as Frames; results come back as the kind that went in.
"""

from __future__ import annotations

import sys
from typing import Any

from ..protocol.frame import Frame
from .pyav import is_av_frame, of_av, to_av


def for_sending(value: Any) -> Any:
    """The same value, but a PyAV frame as the Frame that can travel."""
    return of_av(value) if is_av_frame(value) else value


def to_frame(value: Any) -> Frame:
    """The Frame of a PyAV frame or a numpy array (HxW, HxWx3, HxWx4), or the Frame itself.

    Raises TypeError for anything else, ValueError for an array that is no picture.
    """
    if isinstance(value, Frame):
        return value
    if is_av_frame(value):
        return of_av(value)
    if _is_array(value):
        return Frame.from_array(value)
    raise TypeError(f"a {type(value).__qualname__} is no frame")


def like_input(result: Any, original: Any) -> Any:
    """A result as the kind its input had: a picture for a picture, an array for an array.

    An array that looks like the pixels of the input becomes a frame with the facts of the input;
    lists are gone through; what is no picture stays as it is.
    """
    if isinstance(result, list):
        return [like_input(item, original) for item in result]
    if _is_array(original):
        return result.array if isinstance(result, Frame) else result
    if not isinstance(original, Frame) and not is_av_frame(original):
        return result
    if _is_array(result):
        result = _as_picture(result, for_sending(original))
    if not isinstance(result, Frame):
        return result
    if result.pts is None and result.time_base is None:
        result.pts, result.time_base = original.pts, original.time_base
    return to_av(result) if is_av_frame(original) else result


def _as_picture(array: Any, original: Frame) -> Any:
    try:
        expected = original.array
        if (array.ndim, array.dtype) == (expected.ndim, expected.dtype):
            return original.like(array)
    except ValueError:  # no picture of this format: boxes, masks, whatever the plugin finds
        return array
    return array


def _is_array(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)
