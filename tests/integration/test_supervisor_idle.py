"""Who asked a supervisor and left costs it nothing any more."""

from __future__ import annotations

from pathlib import Path

from bus import sockets
from supervisor import control
from tests.kit.eventually import eventually

BYTES_MAX = 65_536


def test_an_asker_that_is_gone_is_not_connected_to_for_ever(tmp_path: Path) -> None:
    mailbox = control.Mailbox(tmp_path, "formation")
    asker = tmp_path / control.new_reply_name()
    inbox = sockets.bind_pull(asker, BYTES_MAX)
    try:
        request = control.Status(reply_to=asker.name)
        mailbox.answer(request, control.Refused(code=64, reason="x"))
        assert mailbox.receive() is None
        eventually(lambda: inbox.receive() is not None, 20)
        assert len(mailbox._answers) == 1, "kept while it is there: closing would drop what is on its way"
    finally:
        inbox.close()
    asker.unlink(missing_ok=True)
    assert mailbox.receive() is None
    assert len(mailbox._answers) == 0
    mailbox.close()
