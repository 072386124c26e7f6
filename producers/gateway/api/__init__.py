"""The original's interface: its paths, bodies and names, so that its clients work unchanged."""
