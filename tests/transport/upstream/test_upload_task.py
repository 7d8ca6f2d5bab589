"""A body on its way beside its response: nobody hears it once it is stopped, and nothing is left of it."""

from __future__ import annotations

import asyncio
import gc
import weakref

from meshlib.transport.upstream.upload_task import UploadTask


class Endless(UploadTask):
    """Sends until it is stopped."""

    __slots__ = ("__weakref__", "ended", "sent")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.sent = 0
        self.ended = asyncio.Event()
        super().__init__(loop)

    async def _send(self) -> None:
        try:
            while True:
                self.sent += 1
                await asyncio.sleep(0)
        finally:
            self.ended.set()


async def test_what_is_stopped_sends_no_more_however_often_it_is_told() -> None:
    upload = Endless(asyncio.get_running_loop())
    await asyncio.sleep(0)
    assert upload.sent == 1
    for _ in range(2):
        upload.stop()
    await upload.ended.wait()
    assert upload.sent == 1


async def test_what_is_stopped_is_no_cycle() -> None:
    upload = Endless(asyncio.get_running_loop())
    await asyncio.sleep(0)
    upload.stop()
    ended, gone = upload.ended, weakref.ref(upload)
    await ended.wait()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.disable()
    try:
        del upload
        assert gone() is None
    finally:
        gc.enable()
