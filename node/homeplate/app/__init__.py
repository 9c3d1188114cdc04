"""The composition root: the only place that builds concrete classes; one module a process, so none loads another's."""
