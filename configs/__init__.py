"""Bundle configurations, as package data."""
