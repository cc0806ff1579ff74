"""The status page and the lamp: rendered here, live, without the Internet, for phones first."""
