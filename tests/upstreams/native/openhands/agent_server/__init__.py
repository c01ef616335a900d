"""Beside `server.py`: what the profile `openhands` takes as the sign of a dormant mode."""
