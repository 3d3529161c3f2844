"""A whole factory in one process and by one seed, with the production code inside.

`World` plays gateway, two lines, four meters, disk, clock, broker, platform and a clumsy operator in virtual time.
The stages are those of `agent.service.assemble`, unchanged; only their ports are the world's: `line` (byte-timed
RS485), `disk` and `storage` (a disk that loses power), `network` (a broker that lies), `time` (a clock that is set).
`plan` draws the faults of a seed, `nemesis` carries them out, `truth` knows what the meters really counted, `checks`
holds the platform's books against it, `campaign` runs many seeds and makes the list of faults of a failure small.

The same seed gives the same trace, byte for byte, so that a failure is one command away from being seen again.
"""
