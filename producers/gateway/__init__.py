"""The HTTP interface: requests in, records out, committed answers back.

`api` the original's paths · `v1` Holdfast's own · `app` puts them together · `call` lets a request
in · `writer` sends and waits · `state` what all of them share.
"""
