"""The hub's side of the conversation with the cloud, and the reference cloud itself (docs/reference/sync.asyncapi.yaml)."""
