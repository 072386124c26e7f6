"""What a user would pick instead: small fair programs that do the same work.

Same requests, idempotent by request id, one reservation record each. What Holdfast does beyond that
(levels above the stock key, supply events, expiry, lists of holds) every peer is spared.
"""
