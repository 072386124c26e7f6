"""Requests in, decisions out."""
