"""A loop of asyncio's whose time passes only when nothing else is left to do.

`VirtualClock` puts a runtime in front of every context. What primitives do where a context has
none is tested on this, and under trio's own `MockClock`.
"""

import asyncio
import selectors


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        if timeout is None or timeout > 0:
            assert timeout is not None, "every task waits for something that nobody will do"
            self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.now
