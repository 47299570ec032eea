"""Channels that go together: `finding` them, the `proof`, a `plan`, the `cut`."""
