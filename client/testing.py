"""Fixtures for people who test their plugins (pytest plugin)."""
