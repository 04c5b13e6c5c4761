"""A filter that looks at its neighbours in time: each picture is mixed with those around it.

It holds one frame, since the one after it is needed: the first call answers nothing, and what is
held at the end comes out by `on_flush`.

ffmpeg -i CLIP -f yuv4mpegpipe - | changeover pipe ./steady.py | ffplay -
"""

import numpy as np

from changeover.worker import Frame, Plugin


class Steady(Plugin):
    name, version = "steady", "1.0.0"
    frames = "ordered"  # one worker sees the whole stream, in order

    def on_load(self, ctx):
        self.before = None  # the neighbour on the left
        self.held = None  # waits for its neighbour on the right

    def run(self, frame: Frame):
        held, self.held = self.held, frame
        if held is None:
            return None
        mixed = _mixed(held, [self.before, frame])
        self.before = held
        return mixed

    def on_flush(self):
        """At the end of the stream, and before another release takes over."""
        held, self.held = self.held, None
        if held is None:
            return []
        before, self.before = self.before, held
        return [_mixed(held, [before])]

    def export_state(self):
        return {"before": self.before, "held": self.held}

    def on_reload(self, old_version, state):
        if state:
            self.before, self.held = state["before"], state["held"]


def _mixed(frame, neighbours):
    neighbours = [each for each in neighbours if each is not None and each.format == frame.format]
    total = 2 * frame.array.astype(np.uint32)
    for neighbour in neighbours:
        total += neighbour.array
    return frame.like((total // (2 + len(neighbours))).astype(frame.array.dtype))
