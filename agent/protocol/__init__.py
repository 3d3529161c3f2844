"""How meters speak, without any I/O: Modbus and DL/T 645, requests, replies, and the transaction of each.

Bytes and times go in, events come out. Adapters run it over a serial port, a pty or a simulated line alike.
"""
