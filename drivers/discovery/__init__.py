"""Where endpoints are seen: the configuration and, over mDNS, the network. No source knows a driver."""
