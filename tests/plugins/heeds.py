"""Says that it is here and waits until it may go, or is cancelled; may have a last word."""

import select
from typing import Any

from changeover.worker import Cancelled, Job, plugin


@plugin(version="1.0.0")
def heeds(hold: str, job: Job, last_word: Any = None) -> Any:
    with open(hold + ".began", "wb", buffering=0) as file:
        file.write(b".")
    try:
        with open(hold, "rb", buffering=0) as file:
            while not select.select([file], [], [], 0.01)[0]:
                job.check()
            file.read(1)
    except Cancelled as over:
        if last_word is None:
            raise
        return [last_word, over.reason]
    return "went"
