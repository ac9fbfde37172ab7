"""Released weights, as package data."""
