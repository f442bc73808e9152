"""Keeps the sessions, schedules their steps over the workers, serves the API. Holds no weights."""
