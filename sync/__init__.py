"""The conversation with the cloud, and the reference cloud (docs/reference/sync.asyncapi.yaml)."""
