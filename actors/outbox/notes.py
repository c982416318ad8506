"""What the alerts process must know after a kill: which message may have left, and which update comes next.

Two small files in the data folder, each written whole before the step that it is about. Library of the alerts process;
the truth about deliveries is the store's.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from loguru import logger

from actors.market import durable
from bus.failpoints import reach

COUNTED_S = 6 * 86_400.0  # updates are numbered in a row while there is one at least once a week


class Notes:
    """The files of one bot. `bot` is the public part of its token: another bot counts its updates anew."""

    def __init__(self, folder: Path, bot: str = "none") -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sending = folder / "sending"
        self._update = folder / f"update-{bot}"

    def sending(self) -> int:
        """Return up to which alert a message may have left; 0: none that is not recorded."""
        return _read(self._sending)

    def write_sending(self, through_seq: int) -> None:
        """Note, before it leaves, up to which alert the next message goes; 0: it certainly did not leave."""
        reach("alerts.before_note")  # which alerts may have been sent, should we die before they are recorded
        durable.write(self._sending, str(through_seq).encode())
        reach("alerts.after_note")

    def next_update(self, now: datetime) -> int:
        """Return the first update that was not looked at yet; 0: not known.

        Nor is it after some quiet days: Telegram may then begin to count anew, with lower numbers.
        """
        try:
            is_fresh = now.timestamp() - self._update.stat().st_mtime < COUNTED_S
        except OSError:
            return 0
        return _read(self._update) if is_fresh else 0

    def write_next_update(self, update_id: int) -> None:
        """Note, before it is looked at, that an update was taken: it is never looked at twice."""
        reach("alerts.before_take_update")  # one thing that people wrote or pressed is ours from now on
        durable.write(self._update, str(update_id).encode())
        reach("alerts.after_take_update")


def _read(path: Path) -> int:
    try:
        text = path.read_text(encoding="ascii")
        return int(text)
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        logger.warning("{} cannot be read and counts as not there: {}", path.name, error)
        return 0
