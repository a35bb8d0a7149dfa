"""The machine: files, locks, processes, devices, memory and progress. Nothing here knows images or methods."""
