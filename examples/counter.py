"""A count that survives its own replacement: the new release goes on where the old one stopped.

count = launch({"counter": "counter.py"})["counter"]
count(), count(), ...          # edit this file and save it: no number is missing, none twice
"""

from changeover.worker import Plugin


class Counter(Plugin):
    name, version = "counter", "1.0.0"  # not pure: a call that is run again would count twice

    def on_load(self, ctx):
        self.count = ctx.config.get("start", 0)

    def run(self, step: int = 1) -> int:
        self.count += step
        return self.count

    def export_state(self):
        return {"count": self.count}

    def on_reload(self, old_version, state):
        # No state: the old worker crashed, or the first release had none to give.
        if state:
            self.count = state["count"]
