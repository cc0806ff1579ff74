"""The LAN API and the status page: what tills, browsers and hubctl speak to."""
