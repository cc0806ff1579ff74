"""The demo store of `hubd demo`: a hub, its cloud, simulated devices and a network that can be cut.

The hub is the real one, built by `hubd.daemon`; only what lies outside is put in its place: the reference cloud in the
same process, listeners of our own that stand for the router and the Internet, and simulators as child processes that
speak the wire protocol. Nothing outside this machine is needed.
"""
