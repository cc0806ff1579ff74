"""Report descriptors as devices send them."""

from __future__ import annotations

POS_SCANNER = bytes.fromhex(
    "05 8C 09 02 A1 01"  # page barcode scanner, barcode scanner, application
    "85 02 09 12 A1 02"  # report 2, scanned data report, logical collection
    "15 00 26 FF 00 75 08"  # bytes
    "95 01 05 01 09 3B 81 02"  # byte count, of the page of the generic desktop
    "95 03 05 8C 09 FB 09 FC 09 FD 81 02"  # three characters of the AIM identifier
    "95 38 09 FE 82 02 01"  # 56 bytes of decoded data
    "95 01 06 66 FF 09 04 81 02 09 00 81 02"  # two bytes of a page of the maker
    "05 8C 25 01 75 01 09 FF 81 02 75 07 81 03"  # decoded data continued, and seven bits that fill its byte
    "C0 C0"
)
"""A scanner in HID POS mode ("HID Point of Sale Usage Tables" 1.02), with the 64 bytes that our driver reads."""

BOOT_KEYBOARD = bytes.fromhex(
    "05 01 09 06 A1 01"  # generic desktop, keyboard, application
    "05 07 19 E0 29 E7 15 00 25 01 75 01 95 08 81 02"  # modifiers
    "95 01 75 08 81 01 95 05 75 01 05 08 19 01 29 05 91 02 95 01 75 03 91 01"  # reserved byte, lamps
    "95 06 75 08 15 00 25 65 05 07 19 00 29 65 81 00"  # six keys
    "C0"
)
"""The boot keyboard of HID 1.11, appendix B.1; a scanner that types sends the same."""

KEYS_AND_MOUSE = bytes.fromhex(
    "05 0C 09 01 A1 01 85 01 19 00 2A 3C 02 15 00 26 3C 02 95 01 75 10 81 00 C0"  # consumer control
    "05 01 09 02 A1 01 85 02 09 01 A1 00 05 09 19 01 29 03 15 00 25 01 95 03 75 01 81 02 95 05 81 03 C0 C0"  # mouse
)
"""What many keyboards have beside the boot keyboard: keys for the sound, and a mouse."""
