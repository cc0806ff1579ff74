"""The line display that hangs on a printer: two rows of twenty characters, fed with what the printer passes on."""

from __future__ import annotations

from drivers.sim.escpos.paper import PAGES

COLUMNS, ROWS = 20, 2


class LineDisplay:
    """Shows what comes between its selection (ESC = 2) and that of the printer (ESC = 1)."""

    def __init__(self) -> None:
        self.selected = False
        self._cells = ""
        self._page = 0

    @property
    def rows(self) -> list[str]:
        """What the customer reads."""
        return [self._cells[start : start + COLUMNS].rstrip() for start in range(0, ROWS * COLUMNS, COLUMNS)]

    def takes(self, command: bytes) -> bool:
        """Whether this is for the display and not for paper; it has obeyed then."""
        if command[:2] == b"\x1b=":
            self.selected = command[2] & 3 == 2
            return True
        if not self.selected:
            return False
        if command == b"\x1b@":
            self._cells, self._page = "", 0
        elif command[:2] == b"\x1bt":
            self._page = command[2]
        elif command[0] >= 0x20 and len(self._cells) < ROWS * COLUMNS:
            self._cells += command.decode(PAGES.get(self._page, "cp437"), "replace")
        return True

    def forget(self) -> None:
        """The power was cut."""
        self.selected, self._cells, self._page = False, "", 0
