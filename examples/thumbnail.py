"""One picture out of a file, as PNG bytes. Needs PyAV (the extra `media`).

changeover call ./thumbnail.py path=CLIP at=3.2 width=320 > thumbnail.png
"""

import av

from changeover.worker import plugin


@plugin(version="1.0.0", pure=True)
def thumbnail(path: str, at: float = 0.0, width: int = 320) -> bytes:
    with av.open(path) as source:
        stream = source.streams.video[0]
        source.seek(int(at / stream.time_base), stream=stream)
        for frame in source.decode(stream):
            if frame.time is None or frame.time >= at:
                return _png(frame, width)
    raise ValueError(f"{path} has no picture at {at:g} s")


def _png(frame: av.VideoFrame, width: int) -> bytes:
    height = max(1, round(frame.height * width / frame.width))
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "rgb24"
    encoder.time_base = frame.time_base
    packets = encoder.encode(frame.reformat(width, height, "rgb24")) + encoder.encode(None)
    return b"".join(bytes(packet) for packet in packets)
