"""Stopped random walks and rare events."""
