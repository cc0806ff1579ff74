"""The store hub: keeps a shop trading when the Internet or the cloud service is gone."""

__version__ = "0.1.0"
