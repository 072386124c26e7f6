"""Who may ask: bearer tokens, the development identity provider, rate limits, and silence in logs.

The rule: what is not proven is refused, and no secret reaches a log.
"""
