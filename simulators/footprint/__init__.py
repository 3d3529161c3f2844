"""`metering-sim footprint`: the footprint of a folder of spreadsheets, as a grid company's auditor would recompute it.

`tables` reads CSV as factories write it, `activity` makes typed amounts of it, `command` prints the report. The
arithmetic is `agent.carbon`, the same that the platform and the preview use.
"""
