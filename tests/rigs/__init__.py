"""Reusable test rigs: real processes, disks, brokers, proxies, browsers and service managers with faults on demand.

Every rig is a context manager that leaves nothing behind: no process, no mount, no loop device, no directory.
"""
