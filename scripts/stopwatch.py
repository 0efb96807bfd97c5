"""Times the stages of the official Python."""

import functools
import time


class Stopwatch:
    """Seconds by stage, and what stages returned. `synchronize` waits for the device's work."""

    def __init__(self, synchronize=lambda: None):
        self.seconds, self.calls, self.results = {}, {}, {}
        self.synchronize = synchronize

    def watch(self, stage, function):
        """The function, with its time added to a stage."""

        @functools.wraps(function, updated=())
        def watched(*args, **kwargs):
            self.synchronize()
            start = time.perf_counter()
            result = function(*args, **kwargs)
            self.synchronize()
            self.seconds[stage] = self.seconds.get(stage, 0) + time.perf_counter() - start
            self.calls[stage] = self.calls.get(stage, 0) + 1
            self.results[stage] = result
            return result

        return watched
