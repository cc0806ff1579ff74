"""Device drivers: one file or family of files per protocol, found through their manifests."""
