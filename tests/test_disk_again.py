"""After an I/O error the file is opened alone: nothing of ours is in the way of that."""

import threading
from pathlib import Path

from batches import Watch, post, some
from bell import Answer
from test_disk_errors import PROGRAM, Faulty


def test_it_recovers_from_an_error_amid_a_batch(tmp_path: Path) -> None:
    """The slow lane has the file open, so the first try to open it alone fails; what failed is kept
    with the batch."""
    bell = Faulty(tmp_path, PROGRAM, FAULT=str(tmp_path / "fault"))
    found: list[Answer] = []
    try:
        bell.start()
        bell.create()
        assert bell.get("/acme/dashboard").status == 200
        bell.set_fault("slow 0.02")
        thread = threading.Thread(target=lambda: found.append(post(bell, some(20_000))))
        thread.start()
        with Watch(bell) as watch:
            watch.wait_for(1)
        bell.set_fault("sync-once")
        thread.join()
        assert [answer.status for answer in found] == [503]
        bell.wait_for(200, 10)
        assert post(bell, some(3)).status == 201
    finally:
        bell.end()
