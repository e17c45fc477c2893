"""Model references: from ``pypi:...``, ``hf:...`` or a folder to a safetensors directory on this machine."""
