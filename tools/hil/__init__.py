"""Hardware in the loop: one command from a laptop puts a real node to the test over ssh, and reports.

`settings` is what is asked, `remote` reaches the node, `steps` are what is done and what has to come of it, `target`
plays cars with known plates, `soak` watches heat and memory, `report` writes JUnit XML and one HTML page.
"""
