"""The tests, and in `support` what they share; `holdfast faults` runs from here too."""
