"""Soften the noise of each picture: every sample is drawn towards the mean of its neighbours.

    with launch({"denoise": "denoise.py"}) as co:
        for out in co["denoise"].map(frames, strength=0.6): ...

ffmpeg -i CLIP -f yuv4mpegpipe - | changeover pipe ./denoise.py strength=0.8 | ffplay -
"""

import numpy as np

from changeover.worker import Frame, plugin


@plugin(version="1.0.0", pure=True)  # pure: a frame whose worker died is simply done again
def denoise(frame: Frame, strength: float = 0.5) -> Frame:
    # The first plane is the brightness of yuv and grey, and everything of rgb24.
    first, *chroma = frame.planes
    return frame.like([_softened(first, strength), *chroma])


def _softened(samples: np.ndarray, strength: float) -> np.ndarray:
    edges = ((1, 1), (1, 1), (0, 0))[: samples.ndim]
    wide = np.pad(samples, edges, mode="edge").astype(np.float32)
    rows, columns = samples.shape[:2]
    shifts = [wide[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    mean = sum(shifts) / 9
    return (samples + (mean - samples) * strength).round().astype(samples.dtype)
