"""The load, the peers, and the figures in the README."""
