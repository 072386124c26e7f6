"""Committed rows of the changelog in Redis, for questions that must not disturb a decision.

The rule: what lies in Redis is a copy, put there row by row from the changelog with the position it
reaches to. It may be lost at any time and is made again. This room may read the core's row formats
and configuration; it never imports the engine, and nothing that decides imports it.
"""
