"""Printers of the hub as the shop's network knows printers: a raw port and an IPP queue each (ADR 22)."""
