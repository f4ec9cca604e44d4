"""Direct: the request as it stands, what the low-skilled adversary of 2407.13833 types. One query.

It is campaign's own `AsIs`, so an attempt that evaluate paid for is not paid for again by the red team.
"""

from breakfix.campaign import AsIs as Direct

__all__ = ["Direct"]
