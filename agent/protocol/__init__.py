"""How meters speak, without any I/O: Modbus requests and replies, and the RTU transaction as a state machine.

Bytes and times go in, events come out. Adapters run it over a serial port, a pty or a simulated line alike.
"""
