"""What a `PrintDocument` looks like elsewhere than on a receipt printer: pure renderers, the model in and bytes out."""
