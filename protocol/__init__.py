"""The wire: MessagePack-RPC, profile v1, and what both sides hand to people.

No I/O and no clock here. Everything is bytes in, records out, or the reverse.
"""
