"""Light becomes dark and the other way round; any format whose samples form one array.

ffmpeg -i CLIP -f yuv4mpegpipe - | changeover pipe ./negative.py | ffplay -
"""

from changeover.worker import Frame, plugin


@plugin(version="1.0.0", pure=True)
def negative(frame: Frame) -> Frame:
    # `~` is 255 - x for 8 bits. `like` keeps the time stamp and everything else that is known.
    return frame.like(~frame.array)
