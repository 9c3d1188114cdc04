"""The technician's help at the pole: what the detector sees of each camera, in figures and words, and a preview.

`advice` says what is enough and what to change, `blackout` takes plates out of the preview's pictures, `preview` serves
them on a Unix socket, `running` has the threads, `screen` the terminal. Nothing here reads a plate or keeps a picture.
"""
