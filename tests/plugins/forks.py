"""Forks without exec; the child looks for the worker's pipes and writes where it can."""

import os

from changeover.worker import Job, plugin


def _pipes() -> int:
    """Pipes of this process beyond the log."""
    log = os.fstat(2).st_ino
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            status = os.stat(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        is_pipe = (status.st_mode & 0o170000) == 0o010000
        count += is_pipe and status.st_ino != log
    return count


@plugin(version="1.0.0")
def run(job: Job) -> list[int]:
    here = _pipes()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        job.progress(1, 2, "from the fork")
        os.write(writer, str(_pipes() - 1).encode())
        os._exit(0)
    os.close(writer)
    there = os.read(reader, 20)
    os.close(reader)
    os.waitpid(child, 0)
    return [here, int(there)]
