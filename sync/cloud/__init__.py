"""The reference cloud: a real program, and the executable definition of the other side of the conversation."""
