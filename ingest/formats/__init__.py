"""A line of a log in, an event or the reason why it is none out; detect.py says of which format a log is."""
